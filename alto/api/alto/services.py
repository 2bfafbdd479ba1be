"""Services: a LoadBalancer and an AutoScalingGroup of one name, made, scaled and deleted together.

A first form, until ELBv2's and AutoScaling's own operations make the same records.
"""

import re
from functools import partial
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from alto.api.accounts import default_vpc, draw_id
from alto.api.call import Call
from alto.api.ec2.address_pools import take_public
from alto.api.ec2.addresses import check_address_limit
from alto.api.ec2.ids import find_image
from alto.api.ec2.keypairs import find_by_name
from alto.api.ec2.tags import Tag, check_count, checked
from alto.api.ec2.user_data import check_user_data
from alto.model.addresses import Address
from alto.model.balancers import (
    APPLIANCE_PORT,
    URL_PATH,
    AutoScalingGroup,
    HealthCheck,
    LaunchSpec,
    LoadBalancer,
    TargetState,
)
from alto.model.errors import AlreadyExists, NotFound, Refused
from alto.model.hosts import Host
from alto.model.images import BALANCER, TINY, Image, KeyPair, host_kind_of
from alto.model.instance_types import instance_type
from alto.model.instances import Instance, Phase, Wish
from alto.model.networks import Permission, SecurityGroup, Vpc, host_address
from alto.plan.balancing import front_of, keeper_of
from alto.plan.instances import state_name
from alto.plan.placement import runs
from alto.store.store import Reader, Tx

NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?")
DESIRED_MAX = 2**31 - 1  # what EC2 calls an integer; how many there are room and addresses decide
SSH_PORT = 22
BALANCER_TYPE = "m1.tiny"


class CreateService(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    desired: int = 2
    port: int = 80
    target_port: int = 80
    image_id: str | None = None  # None: the image that Alto brings
    instance_type: str = "m1.tiny"
    key_name: str | None = None
    user_data: str | None = None  # base64
    health_path: str = "/"
    drain_s: float = 10.0
    tags: dict[str, str] = {}
    balancer: Literal["host", "instance"] = "host"  # a host's own HAProxy, or an instance that is nothing else
    balancer_type: str | None = None  # of the instance; None: BALANCER_TYPE


class Scale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    desired: int


async def create_service(call: Call, request: CreateService) -> dict[str, Any]:
    if not NAME.fullmatch(request.name):
        raise Refused(
            "InvalidParameterValue", f"'{request.name}' is no service name: letters, digits and inner hyphens, at most 32"
        )
    _check_desired(request.desired)
    if request.balancer == "instance" and request.port in (SSH_PORT, APPLIANCE_PORT):
        raise Refused(
            "InvalidParameterValue", f"{request.port} is no port for a balancer that is an instance: it has a use there"
        )
    if request.balancer_type is not None and request.balancer != "instance":
        raise Refused(
            "InvalidParameterCombination", "balancer_type is of a balancer that is an instance, and a host is to balance"
        )
    for what, port in (("port", request.port), ("target_port", request.target_port)):
        if not 1 <= port <= 65535:
            raise Refused("InvalidParameterValue", f"{port} is no {what}: 1 to 65535")
    if not URL_PATH.fullmatch(request.health_path):
        raise Refused(
            "InvalidParameterValue",
            f"'{request.health_path[:80]}' is no path: it begins with /, and has at most 1,024 characters that URLs have",
        )
    if not 0 <= request.drain_s <= 3600:
        raise Refused("InvalidParameterValue", f"{request.drain_s} is no drain time: 0 to 3600 seconds")
    tags = checked([Tag(key=key, value=value) for key, value in request.tags.items()])
    member_tags = {"Name": request.name, **tags}
    check_count(member_tags)
    for one in (request.instance_type, request.balancer_type or BALANCER_TYPE):
        instance_type(one)
    check_user_data(request.user_data)
    now = call.world.clock.now()
    balancer_id, group_id = draw_id(call.world.chance, "lb"), draw_id(call.world.chance, "asg")
    draw = partial(draw_id, call.world.chance)
    security_ids = draw("sg"), draw("sgr"), draw("sgr")
    front = _Front(draw("asg"), draw("eipalloc"), draw("sg"), (draw("sgr"), draw("sgr"), draw("sgr")))

    def body(tx: Tx) -> None:
        if tx.where(LoadBalancer, account=call.account, region=call.region, name=request.name, limit=1):
            raise AlreadyExists("service", f"name ('{request.name}')")
        image = find_image(tx, call, request.image_id) if request.image_id else _own_image(tx)
        if request.key_name and find_by_name(tx, call.account, call.region, request.key_name) is None:
            raise NotFound(KeyPair.KIND, request.key_name)
        in_instance = request.balancer == "instance"
        vpc = _default_vpc(tx, call)
        source = _Peer(group_id=front.security_id) if in_instance else _Peer(cidr=f"{host_address(vpc.cidr)}/32")
        groups = _member_groups(tx, call, request, vpc, security_ids, source)
        address = take_public(tx, call, front.allocation_id if in_instance else balancer_id, elastic=in_instance)
        if in_instance:
            _put_front(tx, call, request, front, vpc, balancer_id, address, now)
        tx.put(
            LoadBalancer(
                id=balancer_id,
                account=call.account,
                region=call.region,
                name=request.name,
                address=address,
                port=request.port,
                target_port=request.target_port,
                check=HealthCheck(path=request.health_path),
                drain_s=request.drain_s,
                created_at=now,
                tags=tags,
                allocation_id=front.allocation_id if in_instance else None,
            )
        )
        tx.put(
            AutoScalingGroup(
                id=group_id,
                account=call.account,
                region=call.region,
                name=request.name,
                desired=request.desired,
                launch=LaunchSpec(
                    image_id=image.id,
                    instance_type=request.instance_type,
                    key_name=request.key_name,
                    user_data=request.user_data,
                    group_ids=groups,
                    tags=member_tags,
                ),
                load_balancer_id=balancer_id,
                own_group_id=security_ids[0],
                created_at=now,
            )
        )

    await call.store.write(body)
    return get_service(call, request.name)


def _check_desired(desired: int) -> None:
    if not 0 <= desired <= DESIRED_MAX:
        raise Refused("InvalidParameterValue", f"{desired} is no number of members: 0, or as many as there are hosts for")


def _own_image(reader: Reader) -> Image:
    images = [image for image in reader.where(Image, public=True) if image.source == TINY]
    if not images:
        raise Refused("MissingParameter", "This cloud has no image of its own: give image_id")
    return images[0]


def _default_vpc(reader: Reader, call: Call) -> Vpc:
    vpc = default_vpc(reader, call.account, call.region)
    if vpc is None:
        raise Refused("VPCIdNotSpecified", "No default VPC for this user: a service needs one.")
    return vpc


class _Peer(NamedTuple):
    """Whom a rule lets in."""

    cidr: str | None = None
    group_id: str | None = None


def _member_groups(
    tx: Tx, call: Call, request: CreateService, vpc: Vpc, ids: tuple[str, str, str], balancer: _Peer
) -> tuple[str, ...]:
    """The default group, and one of the service's own that lets its balancer in."""
    rules = (_tcp(ids[1], request.target_port, balancer, "the balancer"), _anywhere(ids[2]))
    own = _put_group(tx, call, vpc, ids[0], f"service-{request.name}", f"made for the service {request.name}", rules)
    default = tx.where(SecurityGroup, vpc_id=vpc.id, name="default", limit=1)
    return (*(one.id for one in default), own)


def _put_group(tx: Tx, call: Call, vpc: Vpc, id: str, name: str, description: str, rules: tuple[Permission, ...]) -> str:
    if tx.where(SecurityGroup, vpc_id=vpc.id, name=name, limit=1):
        raise AlreadyExists(SecurityGroup.KIND, f"name ('{name}')")
    tx.put(
        SecurityGroup(
            id=id,
            account=call.account,
            region=call.region,
            vpc_id=vpc.id,
            name=name,
            description=description,
            permissions=rules,
        )
    )
    return id


def _tcp(id: str, port: int, peer: _Peer, description: str) -> Permission:
    return Permission(
        id=id,
        egress=False,
        protocol="tcp",
        from_port=port,
        to_port=port,
        cidr=peer.cidr,
        group_id=peer.group_id,
        description=description,
    )


def _anywhere(id: str) -> Permission:
    return Permission(id=id, egress=True, protocol="-1", from_port=-1, to_port=-1, cidr="0.0.0.0/0")


class _Front(NamedTuple):
    """Ids of what a balancer that is an instance has beside it."""

    group_id: str
    allocation_id: str
    security_id: str
    rule_ids: tuple[str, str, str]


def _put_front(
    tx: Tx, call: Call, request: CreateService, ids: _Front, vpc: Vpc, balancer_id: str, address: str, now: float
) -> None:
    """A group of one that keeps the instance, with a security group, and an elastic address for whichever it is."""
    check_address_limit(tx, call)
    image = next((one for one in tx.where(Image, public=True) if one.source == BALANCER), None)
    if image is None:
        raise Refused("MissingParameter", "This cloud has no image for balancers: start it anew, or let a host balance")
    kind, kinds = host_kind_of(image.source), {host.capabilities.kind for host in tx.where(Host) if not host.leaving}
    if kinds and not any(runs(one, kind) for one in kinds):
        there = " and ".join(sorted(kinds))
        raise Refused(
            "UnsupportedOperation",
            f"A balancer that is an instance needs a host of kind {kind}, and all of this cloud are of kind {there}: "
            "let a host balance (--balancer host), or add a host",
        )
    name = f"{request.name}.balancer"  # no service can be called so
    rules = (
        _tcp(ids.rule_ids[0], request.port, _Peer(cidr="0.0.0.0/0"), "clients"),
        _tcp(
            ids.rule_ids[1], APPLIANCE_PORT, _Peer(cidr=f"{host_address(vpc.cidr)}/32"), "its host, which tells it of members"
        ),
        _anywhere(ids.rule_ids[2]),
    )
    _put_group(tx, call, vpc, ids.security_id, f"service-{name}", f"made for the balancer of the service {request.name}", rules)
    tags = {"Name": name}
    tx.put(
        Address(
            id=ids.allocation_id,
            account=call.account,
            region=call.region,
            public_ip=address,
            tags=tags,
            requester=f"service {request.name}",
        )
    )
    tx.put(
        AutoScalingGroup(
            id=ids.group_id,
            account=call.account,
            region=call.region,
            name=name,
            desired=1,
            launch=LaunchSpec(
                image_id=image.id,
                instance_type=request.balancer_type or BALANCER_TYPE,
                key_name=request.key_name,
                group_ids=(ids.security_id,),
                tags=tags,
            ),
            appliance_of=balancer_id,
            own_group_id=ids.security_id,
            created_at=now,
        )
    )


def list_services(call: Call) -> dict[str, Any]:
    def read(reader: Reader) -> list[dict[str, Any]]:
        balancers = reader.where(LoadBalancer, account=call.account, region=call.region)
        return [_show(reader, one) for one in sorted(balancers, key=lambda one: one.name)]

    return {"services": call.store.read(read)}


def get_service(call: Call, name: str) -> dict[str, Any]:
    return call.store.read(lambda reader: _show(reader, _find(reader, call, name)[0]))


async def scale_service(call: Call, name: str, request: Scale) -> dict[str, Any]:
    _check_desired(request.desired)

    def body(tx: Tx) -> None:
        _, group = _find(tx, call, name)
        if group is None or group.deleting:
            raise Refused("IncorrectState", f"The service '{name}' is being deleted")
        if group.desired != request.desired:
            tx.put(replace(group, desired=request.desired))

    await call.store.write(body)
    return get_service(call, name)


async def delete_service(call: Call, name: str) -> dict[str, Any]:
    """Members drain and are terminated, then the balancer goes; the answer does not wait for it."""

    def body(tx: Tx) -> None:
        balancer, group = _find(tx, call, name)
        if group is not None and not group.deleting:
            tx.put(replace(group, deleting=True, desired=0))
        if not balancer.deleting:
            tx.put(replace(balancer, deleting=True))

    await call.store.write(body)
    return {}


def _find(reader: Reader, call: Call, name: str) -> tuple[LoadBalancer, AutoScalingGroup | None]:
    balancers = reader.where(LoadBalancer, account=call.account, region=call.region, name=name, limit=1)
    if not balancers:
        raise NotFound("service", name)
    groups = reader.where(AutoScalingGroup, account=call.account, region=call.region, name=name, limit=1)
    return balancers[0], groups[0] if groups else None


def _show(reader: Reader, balancer: LoadBalancer) -> dict[str, Any]:
    groups = reader.where(AutoScalingGroup, account=balancer.account, region=balancer.region, name=balancer.name, limit=1)
    group = groups[0] if groups else None
    members = reader.where(Instance, group_name=balancer.name, account=balancer.account, region=balancer.region)
    health = {one.instance_id: one for one in balancer.health}
    shown = []
    for member in sorted(members, key=lambda one: (one.created_at, one.launch_index, one.id)):
        if member.phase is Phase.TERMINATED:
            continue
        measured = health.get(member.id)
        # What was measured before it ended, or began anew, is not known to be so.
        known = measured is None or balancer.serves or measured.state is TargetState.DRAINING
        shown.append(
            {
                "instance_id": member.id,
                "state": state_name(member),
                "health": (measured.state if measured else "unregistered") if known else "unknown",
                "reason": (measured.reason if measured else (member.waiting_because or "")) if known else "",
                "private_ip": member.nic.private_ip,
                "public_ip": member.nic.public_ip,
                "host_id": member.host_id,
            }
        )
    living = sum(1 for member in members if member.wish is Wish.RUNNING and member.phase is Phase.RUNNING)
    healthy = sum(1 for one in shown if one["health"] == TargetState.HEALTHY)
    desired = group.desired if group else 0
    return {
        "name": balancer.name,
        "address": balancer.address,
        "port": balancer.port,
        "url": f"http://{balancer.address}:{balancer.port}/",
        "desired": desired,
        "running": living,
        "healthy": healthy,
        # Ready as the founding documents say it: the balancer serves and the wished members stand behind it.
        "ready": balancer.serves and healthy >= desired and not balancer.deleting,
        "balancer_ready": balancer.serves,
        "balancer": _show_balancer(reader, balancer),
        "deleting": balancer.deleting,
        "waiting_because": group.waiting_because if group else None,
        "image_id": group.launch.image_id if group else None,
        "instance_type": group.launch.instance_type if group else None,
        "members": shown,
    }


def _show_balancer(reader: Reader, balancer: LoadBalancer) -> dict[str, Any]:
    """Where it is served, what it waits for, and why it does not serve."""
    if balancer.allocation_id is None:
        why = (balancer.unready_because or "it does not listen yet") if balancer.host_id else "no host is there to balance"
        return {
            "kind": "host",
            "host_id": balancer.host_id,
            "instance_id": None,
            "state": None,
            "waiting_because": None,
            "unready_because": None if balancer.serves else why,
        }
    keeper = keeper_of(reader.where(AutoScalingGroup, account=balancer.account, region=balancer.region), balancer)
    name = keeper.name if keeper is not None else ""
    now = front_of(reader.where(Instance, group_name=name, account=balancer.account, region=balancer.region))
    waits = (now.waiting_because if now is not None else None) or (keeper.waiting_because if keeper else None)
    return {
        "kind": "instance",
        "host_id": now.host_id if now is not None else None,
        "instance_id": now.id if now is not None else None,
        "state": state_name(now) if now is not None else None,
        "waiting_because": waits,
        "unready_because": None if balancer.serves else f"it waits: {waits}" if waits else _why_unready(balancer, now),
    }


def _why_unready(balancer: LoadBalancer, front: Instance | None) -> str:
    if front is None:
        return "its instance is not there yet"
    if front.phase is not Phase.RUNNING:
        return f"{front.id} is {state_name(front)}"
    if balancer.measured != front.id or not balancer.unready_because or front.guest_reached_at is None:
        return f"{front.id} boots"
    return balancer.unready_because

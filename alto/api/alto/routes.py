"""`/alto/v1`: what AWS has no word for, as JSON, signed like every other call (service name "alto").

GET status, hosts (more of them: hosts.py), accounts, audit, services, services/NAME, instances/ID; POST accounts, services,
services/NAME/scale, master-key/rotate, net/trace (net.py), ec2/ACTION (EC2's own operations with boto3's parameter names, for
the `alto` command); DELETE services/NAME; and instances/ID/console (consoles.py).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import msgspec

from alto.api.accounts import create_account, draw_account, draw_region, ensure_region
from alto.api.alto import consoles, services
from alto.api.alto.consoles import Lines
from alto.api.alto.hosts import CreateToken, HostOperations, Remove, Rename, Replace, show_host
from alto.api.alto.net import TraceRequest, trace_flow
from alto.api.call import Call
from alto.api.ec2.ids import owned
from alto.api.ec2.instance_status import checks_of
from alto.api.master_key import MasterKey
from alto.api.wire.gateway import LocalRequest
from alto.api.wire.query import STEPS_MAX, UNPRINTABLE
from alto.model.accounts import Account
from alto.model.addresses import Address
from alto.model.balancers import AutoScalingGroup, LoadBalancer
from alto.model.errors import DriverFault, Refused
from alto.model.hosts import Host, HostState
from alto.model.instances import Instance, Phase
from alto.model.networks import AddressPool, NetworkInterface, PublicAddress, SecondaryAddress, Subnet
from alto.model.placement_groups import PlacementGroup, PlacementMember
from alto.model.profiles import ProfileAssociation
from alto.model.routing import NatGateway, VpcEndpoint
from alto.model.sessions import Inventory, Measured
from alto.model.volumes import Snapshot, StorageJob, Volume
from alto.plan.audit import Since, audit, outlasting
from alto.plan.instances import state_name
from alto.plan.violations import Found, HostSeen, State, Violation
from alto.store.store import Reader, Tx

S = TypeVar("S", bound=msgspec.Struct)

INVENTORY_TIMEOUT_S = 5.0
CHECKS_TIMEOUT_S = 2.0
ACCOUNT_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._@ -]{0,62}[a-zA-Z0-9])?")


class Hosts(Lines, Protocol):
    async def inventory(self, host_id: str, *, timeout_s: float) -> Inventory: ...

    async def measured(self, host_id: str, instance_id: str, *, timeout_s: float) -> Measured | None: ...


class CreateAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str | None = None


Invoke = Callable[[Call, str, Mapping[str, Any]], Awaitable[dict[str, Any]]]


class AltoApi:
    """Answers (HTTP status, JSON-able value); errors come out as AltoError."""

    def __init__(
        self,
        hosts: Hosts,
        invoke: Invoke,
        loops: Callable[[], list[dict[str, Any]]],
        host_operations: HostOperations,
        master_key: MasterKey | None = None,
    ) -> None:
        self._hosts = hosts
        self._host_operations = host_operations
        self._master_key = master_key
        self._consoles = consoles.ConsoleOperations(hosts)
        self._invoke = invoke
        self._loops = loops
        self._since: Since = {}  # since when each violation has been seen, over calls of audit

    async def __call__(self, call: Call, request: LocalRequest) -> tuple[int, Any]:
        body = request.body
        match (request.method, request.path.strip("/").split("/")):
            case ("GET", ["status"]):
                return 200, self._status(call)
            case ("GET", ["hosts"]):
                return 200, self._host_operations.list(call)
            case (_, ["hosts", *_] | ["host-tokens", *_]):
                _operators_only(call)
                return await self._operate(call, request.method, request.path.strip("/").split("/"), body)
            case ("GET", ["accounts"]):
                _operators_only(call)
                return 200, {"accounts": call.store.read(_show_accounts)}
            case ("POST", ["accounts"]):
                _operators_only(call)
                return 201, await self._create_account(call, _decode(body, CreateAccount))
            case ("GET", ["audit"]):
                _operators_only(call)
                return 200, await self._audit(call)
            case ("POST", ["master-key", "rotate"]):
                _operators_only(call)
                return 200, self._rotate_master_key(call)
            case ("GET", ["services"]):
                return 200, services.list_services(call)
            case ("POST", ["services"]):
                return 201, await services.create_service(call, _decode(body, services.CreateService))
            case ("GET", ["services", name]):
                return 200, services.get_service(call, name)
            case ("DELETE", ["services", name]):
                return 202, await services.delete_service(call, name)
            case ("POST", ["services", name, "scale"]):
                return 200, await services.scale_service(call, name, _decode(body, services.Scale))
            case ("GET", ["instances", id]):
                return 200, await self._show_instance(call, id)
            case (_, ["instances", id, "console", *path]):
                return await self._at_console(call, id, request.method, path, body)
            case ("POST", ["net", "trace"]):
                flow = _decode(body, TraceRequest)
                return 200, call.store.read(lambda reader: trace_flow(reader, call, flow))
            case ("POST", ["ec2", action]):
                parameters = _object(body)
                return 200, await self._invoke(call, action, parameters)
        raise Refused(
            "InvalidAction", f"There is no {request.method} {request.path}. See `alto --help` for what there is.", status=404
        )

    async def _at_console(self, call: Call, id: str, method: str, path: list[str], body: bytes) -> tuple[int, Any]:
        match (method, path):
            case ("POST", []):
                return 201, await self._consoles.open(call, id, _decode(body, consoles.Open))
            case ("POST", [console_id, "type"]):
                return 200, await self._consoles.type(call, id, console_id, _decode(body, consoles.Type))
            case ("POST", [console_id, "hear"]):
                return 200, await self._consoles.hear(call, id, console_id, _decode(body, consoles.Hear))
            case ("DELETE", [console_id]):
                return 200, await self._consoles.close(call, id, console_id)
        raise Refused("InvalidAction", f"There is no {method} instances/{id}/console/{'/'.join(path)}", status=404)

    async def _operate(self, call: Call, method: str, path: list[str], body: bytes) -> tuple[int, Any]:
        """What operators do with hosts."""
        hosts = self._host_operations
        match (method, path):
            case ("GET", ["hosts", ref]):
                return 200, hosts.get(call, ref)
            case ("POST", ["hosts", ref, "rename"]):
                return 200, await hosts.rename(call, ref, _decode(body, Rename))
            case ("POST", ["hosts", ref, "drain" | "undrain" as verb]):
                return 200, await hosts.drain(call, ref, draining=verb == "drain")
            case ("POST", ["hosts", ref, "remove"]):
                return 202, await hosts.remove(call, ref, _decode(body, Remove))
            case ("POST", ["hosts", ref, "replace"]):
                return 201, await hosts.replace(call, ref, _decode(body, Replace))
            case ("GET", ["host-tokens"]):
                return 200, hosts.list_tokens(call)
            case ("POST", ["host-tokens"]):
                return 201, await hosts.create_token(call, _decode(body, CreateToken))
            case ("DELETE", ["host-tokens", id]):
                return 200, await hosts.revoke_token(call, id)
        raise Refused("InvalidAction", f"There is no {method} {'/'.join(path)}", status=404)

    async def _show_instance(self, call: Call, id: str) -> dict[str, Any]:
        """What EC2 has no word for: where it runs, on what, what it waits for, and how old what is known of it is."""

        def read(reader: Reader) -> tuple[Instance, Host | None]:
            instance = owned(reader, call, Instance, id)
            return instance, reader.find(Host, instance.host_id) if instance.host_id else None

        instance, host = call.store.read(read)
        measured = None
        if host is not None and state_name(instance) == "running" and host.state is not HostState.UNREACHABLE:
            with suppress(DriverFault):
                measured = await self._hosts.measured(host.id, id, timeout_s=CHECKS_TIMEOUT_S)
        system, guest = checks_of(instance, host)
        return {
            **_shown(call, instance, host),
            "checks": {
                "system": system.status,
                "system_failed_since": system.since,
                "instance": guest.status,
                "instance_failed_since": guest.since,
                "measured_age_s": max(0.0, call.world.clock.now() - measured.at) if measured is not None else None,
            },
        }

    def _status(self, call: Call) -> dict[str, Any]:
        def read(reader: Reader) -> dict[str, Any]:
            instances = reader.where(Instance, account=call.account, region=call.region)
            states: dict[str, int] = {}
            for one in instances:
                states[state_name(one)] = states.get(state_name(one), 0) + 1
            return {
                "cloud_id": call.settings.cloud_id,
                "simulated": call.settings.simulated,
                "account": call.account,
                "region": call.region,
                "instances": states,
                "waiting": [
                    {"instance_id": one.id, "because": one.waiting_because}
                    for one in instances
                    if one.waiting_because and one.phase is Phase.PENDING
                ],
            }

        hosts = self._host_operations.list(call)
        status = {**call.store.read(read), **hosts, "services": services.list_services(call)["services"]}
        # What a loop last failed at may name anybody's instance.
        return {**status, "loops": self._loops()} if call.operator else status

    async def _create_account(self, call: Call, request: CreateAccount) -> dict[str, Any]:
        if request.name is not None and not ACCOUNT_NAME.fullmatch(request.name):
            raise Refused(
                "InvalidParameterValue",
                f"'{request.name[:80]}' is no account name: letters, digits and inner . _ @ - and blanks, at most 64",
            )
        settings, now = call.settings, call.world.clock.now()
        zones = settings.zones(call.region)
        ids = draw_account(call.world.chance)
        region_ids = draw_region(call.world.chance, zones)

        def body(tx: Tx) -> dict[str, Any]:
            account, key = create_account(tx, ids, request.name or f"account-{ids.account}", now)
            ensure_region(tx, region_ids, account.id, call.region, zones, settings.public_pool)
            return {
                "account": account.id,
                "name": account.name,
                "access_key_id": key.id,
                "secret_access_key": key.secret,
            }

        return await call.store.write(body)

    def _rotate_master_key(self, call: Call) -> dict[str, Any]:
        vault = call.settings.vault
        if self._master_key is None or vault is None:
            raise Refused("UnsupportedOperation", "This cloud has no master key in a file")
        self._master_key.rotate(vault)
        return {"master_key": str(self._master_key.path)}

    async def _audit(self, call: Call) -> dict[str, Any]:
        """What is wrong now; what a working cloud may show for a moment counts only when it outlasts its grace."""
        state = call.store.read(read_state)
        # All at once: the slowest host is waited for once, not the silent ones one after another.
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._look_at(host), name=f"audit {host.id}") for host in state.hosts]
        answers = [task.result() for task in asked]
        seen = [answer for answer in answers if answer is not None]
        silent = [host.id for host, answer in zip(state.hosts, answers, strict=True) if answer is None]
        violations = audit(state, seen)
        self._since, lasting = outlasting(self._since, violations, call.world.clock.monotonic())
        return {
            "violations": [_show_violation(one) for one in lasting],
            "unsettled": [_show_violation(one) for one in violations if one not in lasting],
            "silent_hosts": silent,
            "checked": {"hosts": len(seen), "instances": len(state.instances), "addresses": len(state.addresses)},
        }

    async def _look_at(self, host: Host) -> HostSeen | None:
        """None when it does not answer."""
        try:
            found = await self._hosts.inventory(host.id, timeout_s=INVENTORY_TIMEOUT_S)
        except DriverFault:
            return None
        return HostSeen(
            host_id=host.id,
            machines=[Found(instance_id=id, incarnation=number, on=on) for id, number, on in found.machines],
            ports=found.ports,
            balancers=found.balancers,
            stored=(*found.volumes, *found.snapshots) if host.capabilities.storage else None,
        )


def read_state(reader: Reader) -> State:
    return State(
        hosts=reader.where(Host),
        instances=reader.where(Instance),
        interfaces=reader.where(NetworkInterface),
        volumes=reader.where(Volume),
        snapshots=reader.where(Snapshot),
        jobs=reader.where(StorageJob),
        subnets=reader.where(Subnet),
        pools=reader.where(AddressPool),
        addresses=reader.where(PublicAddress),
        elastic=reader.where(Address),
        secondary=reader.where(SecondaryAddress),
        nat_gateways=reader.where(NatGateway),
        vpc_endpoints=reader.where(VpcEndpoint),
        balancers=reader.where(LoadBalancer),
        groups=reader.where(AutoScalingGroup),
        placement_groups=reader.where(PlacementGroup),
        places=reader.where(PlacementMember),
        profiles=reader.where(ProfileAssociation),
    )


def _show_violation(violation: Violation) -> dict[str, Any]:
    return {"rule": violation.rule, "subject": violation.subject, "sentence": violation.sentence}


def _show_accounts(reader: Reader) -> list[dict[str, Any]]:
    return [
        {"account": one.id, "name": one.name, "operator": one.operator, "created_at": one.created_at}
        for one in reader.where(Account)
    ]


def _shown(call: Call, instance: Instance, host: Host | None) -> dict[str, Any]:
    return {
        "instance_id": instance.id,
        "state": state_name(instance),
        "phase": instance.phase.name.lower(),
        "incarnation": instance.incarnation,
        "epoch": instance.epoch,
        "waiting_because": instance.waiting_because,
        "reason": instance.reason.message if instance.reason else None,
        "host": show_host(host, call) if host else None,
        "group": instance.group_name,
        "guest_reached_at": instance.guest_reached_at,
        "private_ip": instance.nic.private_ip,
        "public_ip": instance.nic.public_ip,
        "vpc_id": instance.nic.vpc_id,
        "key_name": instance.key_name,
    }


def _operators_only(call: Call) -> None:
    if not call.operator:
        raise Refused("UnauthorizedOperation", "Only operators of this cloud may do this.", status=403)


def _decode(body: bytes, type: type[S]) -> S:
    try:
        return msgspec.json.decode(body or b"{}", type=type)
    except msgspec.ValidationError as error:
        raise Refused("InvalidParameterValue", str(error)) from None
    except (msgspec.DecodeError, RecursionError):
        raise Refused("MalformedQueryString", "The body is not JSON") from None


def _object(body: bytes) -> dict[str, Any]:
    """EC2's parameters. What no form could carry is refused here too: bottomless nesting, and text that XML cannot show."""
    try:
        found = msgspec.json.decode(body or b"{}", type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        raise Refused("MalformedQueryString", "The body is not a JSON object") from None
    level: list[Any] = [found]
    for _ in range(STEPS_MAX):
        if any(isinstance(value, str) and UNPRINTABLE.search(value) for value in level):
            raise Refused("InvalidParameterValue", "A text has control characters")
        within = [value.values() if isinstance(value, dict) else value for value in level if isinstance(value, dict | list)]
        level = [inner for values in within for inner in values]
        if not level:
            return found
    raise Refused("MalformedQueryString", f"The body is nested more than {STEPS_MAX} deep")

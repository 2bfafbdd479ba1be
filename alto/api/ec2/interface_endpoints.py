"""Interface endpoints in their subnets: an interface of the endpoint's own in each, which nobody else attaches, changes or
removes, with an address of the subnet and the endpoint's groups.

They lead to this cloud's own API from its server's machine; all takes effect with the transaction, and hosts hear of it as of
any change of a VPC (`plan/networks.py`). Not here: the operations (vpc_endpoints.py), and names (`plan/endpoints.py`).
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.call import Call
from alto.api.ec2.ids import owned_or
from alto.api.ec2.new_interfaces import Addresses, Drawn, draw_interface, find_groups, make_interface
from alto.model.errors import Refused
from alto.model.hosts import Host
from alto.model.networks import VPC_ENDPOINT, NetworkInterface, Subnet, Vpc
from alto.model.routing import EndpointInterface, VpcEndpoint
from alto.plan.endpoints import own_service, private_name
from alto.store.claims import delete_interface
from alto.store.store import Reader, Tx

ID_CHARACTERS = "the Id may only contain lowercase alphanumeric characters and a single dash"


class SubnetConfiguration(msgspec.Struct, frozen=True, rename="pascal"):
    """One of SubnetConfigurations: which address the endpoint has in a subnet."""

    subnet_id: str | None = None
    ipv4: str | None = None


class Wanted(msgspec.Struct, frozen=True):
    """A subnet that an endpoint is to be in, with what chance gave; `address` None: any."""

    subnet_id: str
    address: str | None
    drawn: Drawn


def draw_wanted(call: Call, subnet_ids: Sequence[str], configurations: Sequence[SubnetConfiguration]) -> list[Wanted]:
    """Raises: Refused: an address for a subnet that is not asked for."""
    ids = dict.fromkeys(subnet_ids)
    chosen = {one.subnet_id or "": one.ipv4 for one in configurations}
    stray = sorted(chosen.keys() - ids.keys())
    if stray:
        raise Refused("InvalidParameter", f"A subnet configuration names '{stray[0][:80]}', which is not among the subnets.")
    return [Wanted(id, chosen.get(id), draw_interface(call.world.chance)) for id in ids]


def refuse_without_host(reader: Reader) -> None:
    """Raises: Refused: nothing on the server's machine could take a connection."""
    if not any(host.key is None for host in reader.where(Host)):
        raise Refused(
            "UnsupportedOperation",
            "Interface endpoints lead to the API from the server's own machine, and this cloud has no host there (--no-host).",
        )


def enter(tx: Tx, call: Call, endpoint: VpcEndpoint, wanted: Iterable[Wanted], now: float) -> VpcEndpoint:
    """The endpoint, in these subnets too; its own row is not written yet. Raises: Refused, NotFound."""
    interfaces = list(endpoint.interfaces)
    for one in wanted:
        subnet = _own_subnet(tx, call, one.subnet_id)
        if subnet.vpc_id != endpoint.vpc_id:
            raise Refused("InvalidParameter", f"Subnet {subnet.id} and VPC {endpoint.vpc_id} belong to different networks.")
        if any(each.subnet_id == subnet.id for each in interfaces):
            continue
        if any(each.zone == subnet.zone for each in interfaces):
            raise Refused(
                "DuplicateSubnetsInSameZone", f"Found another VPC endpoint subnet in the availability zone of {subnet.id}"
            )
        made = make_interface(
            tx,
            one.drawn,
            subnet,
            Addresses(one.address),
            endpoint.group_ids,
            now,
            description=f"VPC Endpoint Interface {endpoint.id}",
            requester=VPC_ENDPOINT,
        )
        tx.put(replace(made, attachment_id=one.drawn.attachment_id))
        interfaces.append(
            EndpointInterface(interface_id=made.id, subnet_id=subnet.id, zone=subnet.zone, private_ip=made.private_ip)
        )
    return replace(endpoint, interfaces=tuple(interfaces))


def _own_subnet(reader: Reader, call: Call, id: str) -> Subnet:
    """EC2 spells the codes otherwise here than for every other operation. Raises: Refused."""
    return owned_or(
        reader,
        call,
        Subnet,
        id,
        malformed=Refused(
            "InvalidSubnetId.Malformed", f"Invalid Subnet Id: '{id[:80]}' (expecting 'subnet-...; {ID_CHARACTERS}')"
        ),
        absent=Refused("InvalidSubnetId.NotFound", f"The subnet ID '{id[:80]}' does not exist"),
    )


def leave(tx: Tx, endpoint: VpcEndpoint, subnet_ids: Sequence[str] | None = None) -> VpcEndpoint:
    """The endpoint without its interfaces there, or anywhere; its own row is not written yet. Raises: Refused."""
    gone = {one.subnet_id for one in endpoint.interfaces} if subnet_ids is None else set(subnet_ids)
    absent = sorted(gone - {one.subnet_id for one in endpoint.interfaces})
    if absent:
        raise Refused("InvalidParameter", f"The VPC endpoint {endpoint.id} is not in the subnet '{absent[0][:80]}'.")
    for one in endpoint.interfaces:
        if one.subnet_id in gone:
            delete_interface(tx, tx.get(NetworkInterface, one.interface_id))
    return replace(endpoint, interfaces=tuple(one for one in endpoint.interfaces if one.subnet_id not in gone))


def regroup(tx: Tx, call: Call, endpoint: VpcEndpoint, add: Sequence[str], remove: Sequence[str]) -> VpcEndpoint:
    """The endpoint and its interfaces in other groups; its own row is not written yet. Raises: Refused, NotFound."""
    if not add and not remove:
        return endpoint
    absent = sorted(set(remove) - set(endpoint.group_ids))
    if absent:
        raise Refused("InvalidParameter", f"The VPC endpoint {endpoint.id} is not in the group '{absent[0][:80]}'.")
    kept = tuple(id for id in dict.fromkeys((*endpoint.group_ids, *add)) if id not in remove)
    if not kept:
        raise Refused("InvalidParameter", "An interface endpoint is in at least one security group.")
    groups = find_groups(tx, call, kept, endpoint.vpc_id)
    for one in endpoint.interfaces:
        tx.put(replace(tx.get(NetworkInterface, one.interface_id), group_ids=groups))
    return replace(endpoint, group_ids=groups)


def has_dns(vpc: Vpc) -> bool:
    return vpc.dns_support and vpc.dns_hostnames


def check_private_dns(reader: Reader, endpoint: VpcEndpoint) -> None:
    """Raises: Refused: the service's own name cannot lead to this endpoint."""
    vpc, service = reader.get(Vpc, endpoint.vpc_id), own_service(endpoint.region, endpoint.service_name)
    if not has_dns(vpc):
        raise Refused(
            "InvalidParameter",
            "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true for "
            f"{vpc.id}",
        )
    for other in reader.where(VpcEndpoint, vpc_id=vpc.id):
        if other.id != endpoint.id and other.private_dns and other.service_name == endpoint.service_name:
            raise Refused(
                "InvalidParameter",
                "private-dns-enabled cannot be set because there is already a conflicting DNS domain for "
                f"{private_name(endpoint.region, service or '')} in the VPC {vpc.id}",
            )


_ANYBODY = ("*", {"AWS": "*"}, {"AWS": ["*"]})


def check_policy(policy: str) -> None:
    """Raises: Refused: it would have to be enforced."""
    written: Mapping[str, object] = msgspec.json.decode(policy, type=dict[str, object])
    statements = written.get("Statement")
    only = statements[0] if isinstance(statements, list) and len(statements) == 1 else statements
    if isinstance(only, dict) and only.get("Principal") in _ANYBODY:
        rest = {key: value for key, value in only.items() if key not in ("Sid", "Principal")}
        if (
            all(rest.get(key) in ("*", ["*"]) for key in ("Action", "Resource"))
            and rest.get("Effect") == "Allow"
            and len(rest) == 3
        ):
            return
    raise Refused(
        "UnsupportedOperation",
        "The policy of an interface endpoint is not enforced here, so it can only be the one that allows everything.",
    )

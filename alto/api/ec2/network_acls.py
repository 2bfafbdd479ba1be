"""Network ACLs: tables of stateless rules at a subnet's border, their entries, and which subnet is in which.

Not here: what a kernel makes of them (`plan/firewall.py`). Invariant: each subnet is in exactly one table of its VPC, and a
number stands once in each direction of a table.
"""

from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, Values, matcher
from alto.api.ec2.ids import check_id, owned, page_of_own
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.ec2.tokens import check_token, known_result, remember_result
from alto.model.acls import LAST_ENTRY, AclAssociation, AclEntry, NetworkAcl
from alto.model.errors import NotFound, Refused
from alto.model.networks import Vpc
from alto.plan.ranges import checked_v4, checked_v6
from alto.plan.vpcs import EVERYWHERE, EVERYWHERE_V6
from alto.store.store import Reader, Tx

# "Amazon VPC quotas": tables in a VPC, entries of one direction (with an increase).
ACLS_MAX = 200
ENTRIES_MAX = 40
PORT_MAX, ICMP_MAX = 65_535, 255
ASSOCIATION = "network_acl_association"

_NUMBERS: Mapping[str, str] = {"tcp": "6", "udp": "17", "icmp": "1", "icmpv6": "58", "all": "-1"}
_WITH_PORTS, _WITH_TYPES = ("6", "17"), ("1", "58")


def _entries(reader: Reader, acl: NetworkAcl) -> tuple[AclEntry, ...]:
    """With the last ones, which deny whatever no other named: of IPv6 in a VPC that has it ("Default network ACL")."""
    last = [AclEntry(number=LAST_ENTRY, egress=egress, allow=False, protocol="-1", cidr=EVERYWHERE) for egress in (True, False)]
    if reader.get(Vpc, acl.vpc_id).ipv6:
        last += [
            AclEntry(number=LAST_ENTRY + 1, egress=egress, allow=False, protocol="-1", cidr_v6=EVERYWHERE_V6)
            for egress in (True, False)
        ]
    return tuple(sorted((*acl.entries, *last), key=lambda entry: (not entry.egress, entry.number)))


def _filters(reader: Reader) -> Filters[NetworkAcl]:
    def over(value: Callable[[AclEntry], str | int | bool | None]) -> Callable[[NetworkAcl], Values]:
        return lambda acl: [value(entry) for entry in _entries(reader, acl)]

    return {
        "association.association-id": lambda acl: [each.id for each in acl.associations],
        "association.network-acl-id": lambda acl: acl.id if acl.associations else None,
        "association.subnet-id": lambda acl: [each.subnet_id for each in acl.associations],
        "default": lambda acl: acl.default,
        "entry.cidr": over(lambda entry: entry.cidr),
        "entry.egress": over(lambda entry: entry.egress),
        "entry.icmp.code": over(lambda entry: entry.icmp_code),
        "entry.icmp.type": over(lambda entry: entry.icmp_type),
        "entry.ipv6-cidr": over(lambda entry: entry.cidr_v6),
        "entry.port-range.from": over(lambda entry: entry.from_port),
        "entry.port-range.to": over(lambda entry: entry.to_port),
        "entry.protocol": over(lambda entry: entry.protocol),
        "entry.rule-action": over(lambda entry: "allow" if entry.allow else "deny"),
        "entry.rule-number": over(lambda entry: entry.number),
        "network-acl-id": lambda acl: acl.id,
        "owner-id": lambda acl: acl.account,
        "vpc-id": lambda acl: acl.vpc_id,
    }


class DescribeNetworkAclsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    network_acl_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_network_acls(call: Call, request: DescribeNetworkAclsRequest) -> dict[str, object]:
    ids = request.network_acl_ids
    check_page(request.max_results, ids, ids_parameter="networkAclIdSet")

    def read(reader: Reader) -> dict[str, object]:
        matches = matcher(request.filters, _filters(reader))
        page = page_of_own(reader, call, NetworkAcl, ids, matches, request.max_results, request.next_token)
        return listing("NetworkAcls", [_shown(reader, acl) for acl in page.items], page.next_token)

    return call.store.read(read)


def _shown(reader: Reader, acl: NetworkAcl) -> dict[str, object]:
    return {
        "NetworkAclId": acl.id,
        "VpcId": acl.vpc_id,
        "OwnerId": acl.account,
        "IsDefault": acl.default,
        "Entries": [_shown_entry(entry) for entry in _entries(reader, acl)],
        "Associations": [
            {"NetworkAclAssociationId": each.id, "NetworkAclId": acl.id, "SubnetId": each.subnet_id}
            for each in acl.associations
        ],
        "Tags": shown(acl.tags),
    }


def _shown_entry(entry: AclEntry) -> dict[str, object]:
    shown_entry: dict[str, object] = {
        "RuleNumber": entry.number,
        "Egress": entry.egress,
        "RuleAction": "allow" if entry.allow else "deny",
        "Protocol": entry.protocol,
        "CidrBlock": entry.cidr,
        "Ipv6CidrBlock": entry.cidr_v6,
    }
    if entry.from_port is not None:
        shown_entry["PortRange"] = {"From": entry.from_port, "To": entry.to_port}
    if entry.icmp_type is not None:
        shown_entry["IcmpTypeCode"] = {"Type": entry.icmp_type, "Code": entry.icmp_code}
    return shown_entry


class CreateNetworkAclRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str
    tag_specifications: tuple[TagSpecification, ...] = ()
    client_token: str | None = None


async def create_network_acl(call: Call, request: CreateNetworkAclRequest) -> dict[str, object]:
    check_token(request.client_token)
    tags = tags_for(request.tag_specifications, "network-acl")["network-acl"]
    id, now = draw_id(call.world.chance, "acl"), call.world.clock.now()

    def body(tx: Tx) -> dict[str, object]:
        known = known_result(tx, call, request.client_token)
        if known is not None:
            return _shown(tx, owned(tx, call, NetworkAcl, known))
        vpc = owned(tx, call, Vpc, request.vpc_id)
        if tx.count(NetworkAcl, vpc_id=vpc.id) >= ACLS_MAX:
            raise Refused("NetworkAclLimitExceeded", f"The maximum number of network ACLs of a VPC is {ACLS_MAX}.")
        remember_result(tx, call, request.client_token, id, now)
        return _shown(tx, tx.put(NetworkAcl(id=id, account=call.account, region=call.region, vpc_id=vpc.id, tags=tags)))

    return {"NetworkAcl": await call.store.write(body), "ClientToken": request.client_token}


class NetworkAclIdRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_acl_id: str


async def delete_network_acl(call: Call, request: NetworkAclIdRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        acl = owned(tx, call, NetworkAcl, request.network_acl_id)
        if acl.default:
            raise Refused("InvalidParameterValue", f"cannot delete default network ACL {acl.id}")
        if acl.associations:
            raise Refused("DependencyViolation", f"The networkAcl '{acl.id}' has dependencies and cannot be deleted.")
        tx.delete(NetworkAcl, acl.id)

    await call.store.write(body)
    return {}


class PortRange(msgspec.Struct, frozen=True, rename="pascal"):
    from_: int | None = msgspec.field(default=None, name="From")
    to: int | None = None


class IcmpTypeCode(msgspec.Struct, frozen=True, rename="pascal"):
    type: int | None = None
    code: int | None = None


class EntryRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_acl_id: str
    rule_number: int
    egress: bool
    protocol: str
    rule_action: str
    cidr_block: str | None = None
    ipv6_cidr_block: str | None = None
    port_range: PortRange | None = None
    icmp_type_code: IcmpTypeCode | None = None


async def create_network_acl_entry(call: Call, request: EntryRequest) -> dict[str, object]:
    new = _entry(request)

    def body(tx: Tx) -> None:
        acl = owned(tx, call, NetworkAcl, request.network_acl_id)
        if _find(acl, new.number, new.egress) is not None:
            raise Refused("NetworkAclEntryAlreadyExists", f"The network acl entry identified by {new.number} already exists.")
        if sum(entry.egress is new.egress for entry in acl.entries) >= ENTRIES_MAX:
            raise Refused("NetworkAclEntryLimitExceeded", f"The maximum number of entries of one direction is {ENTRIES_MAX}.")
        tx.put(replace(acl, entries=(*acl.entries, new)))

    await call.store.write(body)
    return {}


async def replace_network_acl_entry(call: Call, request: EntryRequest) -> dict[str, object]:
    new = _entry(request)

    def body(tx: Tx) -> None:
        acl = owned(tx, call, NetworkAcl, request.network_acl_id)
        old = _found(acl, new.number, new.egress)
        tx.put(replace(acl, entries=tuple(new if entry is old else entry for entry in acl.entries)))

    await call.store.write(body)
    return {}


class DeleteEntryRequest(msgspec.Struct, frozen=True, rename="pascal"):
    network_acl_id: str
    rule_number: int
    egress: bool


async def delete_network_acl_entry(call: Call, request: DeleteEntryRequest) -> dict[str, object]:
    _check_number(request.rule_number)

    def body(tx: Tx) -> None:
        acl = owned(tx, call, NetworkAcl, request.network_acl_id)
        old = _found(acl, request.rule_number, request.egress)
        tx.put(replace(acl, entries=tuple(entry for entry in acl.entries if entry is not old)))

    await call.store.write(body)
    return {}


def _check_number(number: int) -> None:
    if not 1 <= number < LAST_ENTRY:
        raise Refused(
            "InvalidParameterValue",
            f"Value ({number}) for parameter ruleNumber is invalid. Rulenumber must be in range 1..{LAST_ENTRY - 1}",
        )


def _find(acl: NetworkAcl, number: int, egress: bool) -> AclEntry | None:
    return next((entry for entry in acl.entries if entry.number == number and entry.egress is egress), None)


def _found(acl: NetworkAcl, number: int, egress: bool) -> AclEntry:
    entry = _find(acl, number, egress)
    if entry is None:
        direction = "egress" if egress else "ingress"
        raise Refused(
            "InvalidNetworkAclEntry.NotFound",
            f"The {direction} entry identified by {number} does not exist in the network ACL '{acl.id}'",
        )
    return entry


def _entry(request: EntryRequest) -> AclEntry:
    """Raises: Refused: the entry makes no sense."""
    _check_number(request.rule_number)
    if request.rule_action not in ("allow", "deny"):
        raise Refused(
            "InvalidParameterValue", f"Invalid value '{request.rule_action[:80]}' for ruleAction. Valid values: allow, deny"
        )
    if (request.cidr_block is None) == (request.ipv6_cidr_block is None):
        raise Refused(
            "MissingParameter" if request.cidr_block is None else "InvalidParameterCombination",
            "The request must contain exactly one of cidrBlock and ipv6CidrBlock",
        )
    protocol = _protocol(request.protocol)
    cidr = str(checked_v4(request.cidr_block, "cidrBlock")) if request.cidr_block is not None else None
    cidr_v6 = str(checked_v6(request.ipv6_cidr_block, "ipv6CidrBlock")) if request.ipv6_cidr_block is not None else None
    bare = AclEntry(
        number=request.rule_number,
        egress=request.egress,
        allow=request.rule_action == "allow",
        protocol=protocol,
        cidr=cidr,
        cidr_v6=cidr_v6,
    )
    if protocol in _WITH_PORTS:
        ports = request.port_range
        if ports is None or ports.from_ is None or ports.to is None:
            raise Refused("MissingParameter", "The request must contain the parameter portRange: TCP and UDP need ports")
        if not 0 <= ports.from_ <= ports.to <= PORT_MAX:
            raise Refused("InvalidParameterValue", f"Invalid TCP/UDP port range ({ports.from_}:{ports.to})")
        return replace(bare, from_port=ports.from_, to_port=ports.to)
    if protocol in _WITH_TYPES and not (protocol == _NUMBERS["icmpv6"] and cidr is not None):  # all types and codes
        icmp = request.icmp_type_code
        if icmp is None or icmp.type is None or icmp.code is None:
            raise Refused("MissingParameter", "The request must contain the parameter icmpTypeCode: ICMP needs type and code")
        if not (-1 <= icmp.type <= ICMP_MAX and -1 <= icmp.code <= ICMP_MAX):
            raise Refused("InvalidParameterValue", f"ICMP type ({icmp.type}) or code ({icmp.code}) out of range")
        return replace(bare, icmp_type=icmp.type, icmp_code=icmp.code)
    return bare


def _protocol(text: str) -> str:
    name = _NUMBERS.get(text.lower(), text)
    if name == "-1":
        return name
    if name.isascii() and name.isdigit() and len(name) <= 3 and int(name) <= 255:
        return str(int(name))
    raise Refused("InvalidParameterValue", f"Invalid value '{text[:80]}' for IP protocol. Unknown protocol.")


class ReplaceAclAssociationRequest(msgspec.Struct, frozen=True, rename="pascal"):
    association_id: str
    network_acl_id: str


async def replace_network_acl_association(call: Call, request: ReplaceAclAssociationRequest) -> dict[str, object]:
    id = draw_id(call.world.chance, "aclassoc")

    def body(tx: Tx) -> str:
        new = owned(tx, call, NetworkAcl, request.network_acl_id)
        old, found = _association(tx, call, request.association_id)
        if old.id == new.id:
            return found.id
        if old.vpc_id != new.vpc_id:
            raise Refused(
                "InvalidParameterValue", f"network ACL {new.id} and subnet {found.subnet_id} belong to different networks"
            )
        tx.put(replace(old, associations=tuple(each for each in old.associations if each.id != found.id)))
        moved = AclAssociation(id=id, subnet_id=found.subnet_id)
        tx.put(replace(new, associations=(*new.associations, moved)))
        return id

    return {"NewAssociationId": await call.store.write(body)}


def _association(tx: Tx, call: Call, id: str) -> tuple[NetworkAcl, AclAssociation]:
    check_id(ASSOCIATION, id)
    for acl in tx.where(NetworkAcl, account=call.account, region=call.region):
        for each in acl.associations:
            if each.id == id:
                return acl, each
    raise NotFound(ASSOCIATION, id)


OPERATIONS: Mapping[str, Operation] = {
    "CreateNetworkAcl": Operation(CreateNetworkAclRequest, create_network_acl),
    "CreateNetworkAclEntry": Operation(EntryRequest, create_network_acl_entry),
    "DeleteNetworkAcl": Operation(NetworkAclIdRequest, delete_network_acl),
    "DeleteNetworkAclEntry": Operation(DeleteEntryRequest, delete_network_acl_entry),
    "DescribeNetworkAcls": Operation(DescribeNetworkAclsRequest, describe_network_acls),
    "ReplaceNetworkAclAssociation": Operation(ReplaceAclAssociationRequest, replace_network_acl_association),
    "ReplaceNetworkAclEntry": Operation(EntryRequest, replace_network_acl_entry),
}

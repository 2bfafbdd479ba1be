"""Sets of DHCP options: create, describe, associate with a VPC, delete.

Not here: what a guest is told of them (the network driver). Invariant: a set that a VPC uses stays.
"""

import re
from collections.abc import Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import find_dhcp_options, owned, page_of_own
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.ec2.vpcs import NO_DHCP_OPTIONS
from alto.model.errors import Refused
from alto.model.networks import Vpc
from alto.model.routing import DhcpOptions
from alto.store.store import Tx

# "DHCP option sets": each with how many values it may have.
_KEYS: Mapping[str, int] = {
    "domain-name": 1,
    "domain-name-servers": 4,
    "ntp-servers": 8,
    "netbios-name-servers": 4,
    "netbios-node-type": 1,
    "ipv6-address-preferred-lease-time": 1,
}
_NTP_OF_A_FAMILY = 4  # IPv4 and IPv6 each
_AMAZONS_DNS = "AmazonProvidedDNS"
_NODE_TYPES = ("1", "2", "4", "8")
# Names that resolvers and dnsmasq take; EC2 allows several in one value, apart by spaces.
_DOMAIN = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,250}[A-Za-z0-9])?\.?( [A-Za-z0-9._-]{1,253})*")

_FILTERS: Filters[DhcpOptions] = {
    "dhcp-options-id": lambda options: options.id,
    "key": lambda options: options.settings.keys(),
    "owner-id": lambda options: options.account,
    "value": lambda options: [value for values in options.settings.values() for value in values],
}


class DescribeDhcpOptionsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    dhcp_options_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_dhcp_options(call: Call, request: DescribeDhcpOptionsRequest) -> dict[str, object]:
    ids = request.dhcp_options_ids
    check_page(request.max_results, ids, ids_parameter="dhcpOptionsSet")
    matches = matcher(request.filters, _FILTERS)
    page = call.store.read(
        lambda reader: page_of_own(reader, call, DhcpOptions, ids, matches, request.max_results, request.next_token)
    )
    return listing("DhcpOptions", [_shown(options) for options in page.items], page.next_token)


def _shown(options: DhcpOptions) -> dict[str, object]:
    return {
        "DhcpOptionsId": options.id,
        "OwnerId": options.account,
        "DhcpConfigurations": [
            {"Key": key, "Values": [{"Value": value} for value in values]} for key, values in options.settings.items()
        ],
        "Tags": shown(options.tags),
    }


class Configuration(msgspec.Struct, frozen=True, rename="pascal"):
    key: str | None = None
    values: tuple[str, ...] = ()


class CreateDhcpOptionsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    dhcp_configurations: tuple[Configuration, ...] = ()
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_dhcp_options(call: Call, request: CreateDhcpOptionsRequest) -> dict[str, object]:
    if not request.dhcp_configurations:
        raise Refused("MissingParameter", "The request must contain the parameter dhcpConfiguration")
    settings: dict[str, tuple[str, ...]] = {}
    for each in request.dhcp_configurations:
        key = each.key or ""
        values = _servers(each.values) if key == "domain-name-servers" else each.values
        _check(key, values)
        if key in settings:
            raise Refused("InvalidParameterValue", f"The option {key} is given more than once")
        settings[key] = values
    made = DhcpOptions(
        id=draw_id(call.world.chance, "dopt"),
        account=call.account,
        region=call.region,
        settings=settings,
        tags=tags_for(request.tag_specifications, "dhcp-options")["dhcp-options"],
    )
    return {"DhcpOptions": _shown(await call.store.write(lambda tx: tx.put(made)))}


def _servers(values: Sequence[str]) -> tuple[str, ...]:
    """One value may be several servers, apart by commas."""
    return tuple(one.strip() for value in values for one in value.split(","))


def _check(key: str, values: Sequence[str]) -> None:
    """Raises: Refused: no such option, or values that no guest could be told."""
    most = _KEYS.get(key)
    if most is None:
        raise Refused("InvalidParameterValue", f"Value ({key[:80]}) for parameter name is invalid. Unknown DHCP option")
    if not 1 <= len(values) <= most:
        raise Refused("InvalidParameterValue", f"The option {key} takes 1 to {most} values, not {len(values)}")
    for value in values:
        if not _fits(key, value):
            raise Refused("InvalidParameterValue", f"Value ({value[:80]}) for parameter {key} is invalid.")
    v6 = sum(":" in value for value in values)
    if key == "ntp-servers" and max(v6, len(values) - v6) > _NTP_OF_A_FAMILY:
        raise Refused("InvalidParameterValue", f"The option {key} takes {_NTP_OF_A_FAMILY} addresses of a family at most")


def _fits(key: str, value: str) -> bool:
    match key:
        case "domain-name":
            return _DOMAIN.fullmatch(value) is not None
        case "netbios-node-type":
            return value in _NODE_TYPES
        case "ipv6-address-preferred-lease-time":
            return value.isascii() and value.isdigit() and 140 <= int(value[:12]) <= 2_147_483_647
        case "domain-name-servers":
            return value == _AMAZONS_DNS or _is_address(value)
    return _is_address(value)


def _is_address(text: str) -> bool:
    for kind in (IPv4Address, IPv6Address):
        try:
            kind(text)
        except AddressValueError:
            continue
        return True
    return False


class DhcpOptionsIdRequest(msgspec.Struct, frozen=True, rename="pascal"):
    dhcp_options_id: str


async def delete_dhcp_options(call: Call, request: DhcpOptionsIdRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        options = find_dhcp_options(tx, call, request.dhcp_options_id)
        if any(vpc.dhcp_options_id == options.id for vpc in tx.where(Vpc, account=call.account, region=call.region)):
            raise Refused("DependencyViolation", f"The dhcpOptions '{options.id}' has dependencies and cannot be deleted.")
        tx.delete(DhcpOptions, options.id)

    await call.store.write(body)
    return {}


class AssociateDhcpOptionsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    dhcp_options_id: str
    vpc_id: str


async def associate_dhcp_options(call: Call, request: AssociateDhcpOptionsRequest) -> dict[str, object]:
    """ "default" stands for no set."""

    def body(tx: Tx) -> None:
        vpc = owned(tx, call, Vpc, request.vpc_id)
        if request.dhcp_options_id == NO_DHCP_OPTIONS:
            tx.put(replace(vpc, dhcp_options_id=None))
        else:
            tx.put(replace(vpc, dhcp_options_id=owned(tx, call, DhcpOptions, request.dhcp_options_id).id))

    await call.store.write(body)
    return {}


OPERATIONS: Mapping[str, Operation] = {
    "AssociateDhcpOptions": Operation(AssociateDhcpOptionsRequest, associate_dhcp_options),
    "CreateDhcpOptions": Operation(CreateDhcpOptionsRequest, create_dhcp_options),
    "DeleteDhcpOptions": Operation(DhcpOptionsIdRequest, delete_dhcp_options),
    "DescribeDhcpOptions": Operation(DescribeDhcpOptionsRequest, describe_dhcp_options),
}

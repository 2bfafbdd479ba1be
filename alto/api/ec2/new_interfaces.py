"""How an interface comes to be, whoever asks: CreateNetworkInterface, a launch with several, a NAT gateway.

Chance is drawn before the transaction (`draw_interface`), everything is claimed within it (`make_interface`).
"""

from collections.abc import Callable, Collection, Sequence

import msgspec

from alto.api.accounts import draw_id
from alto.api.call import Call
from alto.api.ec2.address_pools import claim_secondary, take_private, take_v6
from alto.api.ec2.ids import owned, owned_or
from alto.api.security_groups import is_in_vpc
from alto.kit.world import Chance
from alto.model.errors import Refused
from alto.model.networks import NetworkInterface, PortAddress, SecurityGroup, Subnet
from alto.model.records import Tags
from alto.plan.addresses import mac
from alto.store.store import Reader, Tx

GROUPS_MAX = 16  # of one interface
SECONDARY_MAX = 49  # of an interface that no instance has; an instance's type says less


class PrivateIp(msgspec.Struct, frozen=True, rename="pascal"):
    """One of PrivateIpAddresses."""

    private_ip_address: str | None = None
    primary: bool | None = None


class Addresses(msgspec.Struct, frozen=True):
    """What a request wants: `primary` (None: any), these `secondary` ones, and `more`."""

    primary: str | None = None
    secondary: tuple[str, ...] = ()
    more: int = 0

    @property
    def further(self) -> int:
        return len(self.secondary) + self.more

    @property
    def named(self) -> tuple[str, ...]:
        """The primary one first, if that is named."""
        return self.secondary if self.primary is None else (self.primary, *self.secondary)


def wanted_addresses(primary: str | None, listed: Sequence[PrivateIp], more: int | None) -> Addresses:
    """Without a primary one EC2 chooses it, and all that are listed are secondary: `aws ec2 run-instances
    --secondary-private-ip-addresses` asks so. Raises: Refused: two primary ones, a number beside several."""
    if more is not None and more < 0:
        raise Refused("InvalidParameterValue", f"Value ({more}) for secondaryPrivateIpAddressCount is invalid.")
    if not listed:
        return Addresses(primary, (), more or 0)
    if more and len(listed) > 1:
        raise Refused(
            "InvalidParameterCombination",
            "You may specify secondaryPrivateIpAddressCount or several privateIpAddresses, but not both in the same call",
        )
    texts = []
    for one in listed:
        if one.private_ip_address is None:
            raise Refused("MissingParameter", "Each of privateIpAddresses must contain privateIpAddress")
        if one.primary:
            if primary not in (None, one.private_ip_address):
                raise Refused("InvalidParameterCombination", "Only one primary private IP address can be specified")
            primary = one.private_ip_address
        else:
            texts.append(one.private_ip_address)
    return Addresses(primary, tuple(texts), more or 0)


def asked_for(interface_id: str | None, listed: Sequence[str], count: int | None, *, listed_name: str, count_name: str) -> str:
    """The interface that is to have these addresses, or that many; the names are those of the request's parameters.

    Raises: Refused: no interface, neither or both of the two, fewer than one.
    """
    if interface_id is None:
        raise Refused("MissingParameter", "The request must contain the parameter networkInterfaceId")
    if bool(listed) == (count is not None):
        raise Refused(
            "InvalidParameterCombination" if listed else "MissingParameter",
            f"Exactly one of {listed_name} and {count_name} must be specified",
        )
    if count is not None and count < 1:
        raise Refused("InvalidParameterValue", f"Value ({count}) for {count_name} is invalid.")
    return interface_id


class Ipv6Address(msgspec.Struct, frozen=True, rename="pascal"):
    """One of Ipv6Addresses."""

    ipv6_address: str | None = None


class AddressesV6(msgspec.Struct, frozen=True):
    """What a request wants of IPv6: `chosen` ones, and `more`; None: as many as the subnet gives by itself."""

    chosen: tuple[str, ...] = ()
    more: int | None = None

    def count(self, subnet: Subnet) -> int:
        """How many beside the chosen ones."""
        if self.more is None:
            return 1 if subnet.ipv6_on_creation and not self.chosen else 0
        return self.more


NO_V6 = AddressesV6(more=0)


def wanted_v6(listed: Sequence[Ipv6Address], more: int | None) -> AddressesV6:
    """Raises: Refused: a number beside a list."""
    if more is not None and more < 0:
        raise Refused("InvalidParameterValue", f"Value ({more}) for ipv6AddressCount is invalid.")
    if listed and more is not None:
        raise Refused(
            "InvalidParameterCombination", "You may specify ipv6AddressCount or ipv6Addresses, but not both in the same call"
        )
    if not listed:
        return AddressesV6((), more)
    chosen = tuple(one.ipv6_address for one in listed if one.ipv6_address is not None)
    if len(chosen) < len(listed):
        raise Refused("MissingParameter", "Each of ipv6Addresses must contain ipv6Address")
    return AddressesV6(chosen, more)


class Drawn(msgspec.Struct, frozen=True):
    """What chance gave a new interface and its first attachment."""

    id: str
    attachment_id: str


def draw_interface(chance: Chance) -> Drawn:
    return Drawn(draw_id(chance, "eni"), draw_id(chance, "eni-attach"))


def make_interface(
    tx: Tx,
    drawn: Drawn,
    subnet: Subnet,
    addresses: Addresses,
    group_ids: tuple[str, ...],
    now: float,
    *,
    v6: AddressesV6 = NO_V6,
    description: str = "",
    tags: Tags | None = None,
    requester: str | None = None,
    kept: Collection[str] = (),
) -> NetworkInterface:
    """Its addresses are claimed, and its row is written: attached to nothing. `kept`: addresses that are not to be chosen.
    Raises: Refused."""
    any_first = addresses.primary is None
    chosen = addresses.named
    secondary = take_private(tx, subnet, addresses.more + any_first, chosen, kept=kept)
    first = secondary.pop(len(chosen) if any_first else 0)
    claim_secondary(tx, subnet, drawn.id, secondary)
    count_v6 = v6.count(subnet)
    if len(v6.chosen) + count_v6 > SECONDARY_MAX + 1:
        raise Refused("PrivateIpAddressLimitExceeded", f"An interface has at most {SECONDARY_MAX + 1} IPv6 addresses.")
    return tx.put(
        NetworkInterface(
            id=drawn.id,
            account=subnet.account,
            region=subnet.region,
            vpc_id=subnet.vpc_id,
            subnet_id=subnet.id,
            zone=subnet.zone,
            mac=mac(drawn.id),
            private_ip=first,
            secondary=tuple(PortAddress(private_ip=address) for address in secondary),
            ipv6=take_v6(tx, subnet, drawn.id, count_v6, v6.chosen),
            group_ids=group_ids,
            delete_on_termination=False,
            description=description,
            requester=requester,
            created_at=now,
            tags=tags or {},
        )
    )


def find_groups(reader: Reader, call: Call, ids: Sequence[str], vpc_id: str) -> tuple[str, ...]:
    """The caller's groups in this VPC; its default group when `ids` is empty. Raises: Refused, NotFound."""
    if not ids:
        return tuple(group.id for group in reader.where(SecurityGroup, vpc_id=vpc_id, name="default", limit=1))
    chosen = tuple(dict.fromkeys(ids))
    for id in chosen:
        if not is_in_vpc(reader, owned(reader, call, SecurityGroup, id), vpc_id):
            raise Refused("InvalidGroup.NotFound", f"The security group '{id}' does not exist in VPC '{vpc_id}'")
    check_group_count(chosen)
    return chosen


def check_group_count(ids: Sequence[str]) -> None:
    """Raises: Refused, when they are too many for one interface."""
    if len(ids) > GROUPS_MAX:
        raise Refused(
            "SecurityGroupsPerInterfaceLimitExceeded", f"The maximum number of security groups per interface is {GROUPS_MAX}."
        )


def find_interface_groups(
    reader: Reader, call: Call, ids: Sequence[str], vpc_id: str, absent: Callable[[str], Refused]
) -> tuple[str, ...]:
    """The same for the operations on interfaces, to which a group is `absent` whatever its id looks like. Raises: Refused."""
    for id in ids:
        owned_or(reader, call, SecurityGroup, id, malformed=absent(id), absent=absent(id))
    return find_groups(reader, call, ids, vpc_id)

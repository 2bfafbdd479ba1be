"""The audit's rules of interfaces and addresses: none twice, none unclaimed, none left over, and both records agree."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from alto.model.instances import Attach, Instance, Nic, Phase
from alto.model.networks import NetworkInterface, PortAddress, secondary_id
from alto.plan.violations import HOST_CLEANING_S, HostSeen, Rule, State, Violation

PUBLIC_POOL_ID = "public"


def _twice(what: str, claims: Iterable[tuple[str, str]]) -> Iterable[Violation]:
    """`claims` are (thing, owner); the same owner may name a thing more than once."""
    owners: dict[str, set[str]] = {}
    for thing, owner in claims:
        owners.setdefault(thing, set()).add(owner)
    for thing, who in owners.items():
        if len(who) > 1:
            yield Violation(
                rule=Rule.ADDRESS_TWICE,
                subject=thing,
                sentence=f"{what} {thing} is given to {' and '.join(sorted(who))}",
            )


def addresses(state: State, instances: Mapping[str, Instance]) -> Iterable[Violation]:
    living = [one for one in instances.values() if one.phase is not Phase.TERMINATED]
    nics = [(one, nic) for one in living for nic in one.nics]
    private = [(f"{nic.vpc_id}/{ip}", nic.interface_id) for _, nic in nics for ip in _private(nic)]
    private += [(f"{one.vpc_id}/{ip}", one.id) for one in state.interfaces for ip in _private(one)]
    yield from _twice("The private address", private)
    # Of IPv6 it is what this machine knows a guest by, whatever its VPC.
    v6 = [(ip, nic.vpc_id) for _, nic in nics for ip in nic.ipv6] + [
        (ip, one.vpc_id) for one in state.interfaces for ip in one.ipv6
    ]
    yield from _twice("The address", v6)
    macs = [(nic.mac, nic.interface_id) for _, nic in nics] + [(one.mac, one.id) for one in state.interfaces]
    yield from _twice("The hardware address", macs)
    elastic = {one.public_ip: one.id for one in state.elastic}
    public = [
        (address.public_ip, elastic.get(address.public_ip, nic.interface_id) if address.elastic else instance.id)
        for instance, nic in nics
        for address in _public(nic)
    ]
    public += [(one.address, one.id) for one in state.balancers if one.allocation_id is None]
    yield from _twice("The public address", public)
    yield from _twice(
        "The public address", [(address.public_ip, one.id) for one in state.interfaces for address in _public(one)]
    )

    claims = {claim.id: claim.owner_id for claim in state.addresses}
    for address, owner in [*public, *elastic.items()]:
        if claims.get(address) != owner:
            yield Violation(
                rule=Rule.ADDRESS_UNCLAIMED,
                subject=owner,
                sentence=f"{owner} uses the public address {address}, which is claimed by {claims.get(address, 'nobody')}",
            )
    users = {**dict(public), **elastic}
    for claim in state.addresses:
        if users.get(claim.id) != claim.owner_id:
            yield Violation(
                rule=Rule.ADDRESS_LEAKED,
                subject=claim.id,
                sentence=f"The public address {claim.id} is claimed for {claim.owner_id}, which is gone or does not use it",
            )
    yield from _secondary(state)
    yield from _elastic(state)


class _Public(NamedTuple):
    private_ip: str
    public_ip: str
    elastic: bool


def _private(one: Nic | NetworkInterface) -> list[str]:
    return [one.private_ip, *(other.private_ip for other in one.secondary), *one.ipv6]


def _public(one: Nic | NetworkInterface) -> list[_Public]:
    addresses = (PortAddress(private_ip=one.private_ip, public_ip=one.public_ip, elastic=one.elastic), *one.secondary)
    return [_Public(each.private_ip, each.public_ip, each.elastic) for each in addresses if each.public_ip is not None]


def _secondary(state: State) -> Iterable[Violation]:
    claims = {claim.id: claim.interface_id for claim in state.secondary}
    used = {secondary_id(one.vpc_id, each.private_ip): one.id for one in state.interfaces for each in one.secondary}
    used |= {secondary_id(one.vpc_id, address): one.id for one in state.interfaces for address in one.ipv6}
    for id in sorted(claims.items() ^ used.items()):
        leaked = id in claims.items()
        yield Violation(
            rule=Rule.ADDRESS_LEAKED if leaked else Rule.ADDRESS_UNCLAIMED,
            subject=id[1],
            sentence=f"The private address {id[0]} is {'claimed for' if leaked else 'used without a claim by'} {id[1]}",
        )


def _elastic(state: State) -> Iterable[Violation]:
    """An elastic address and the interface that it leads to say the same."""
    interfaces = {one.id: one for one in state.interfaces}
    said = {
        (one.id, each.private_ip, each.public_ip, one.instance_id)
        for one in state.interfaces
        for each in _public(one)
        if each.elastic
    }
    led = {
        (one.interface_id, one.private_ip, one.public_ip, one.instance_id)
        for one in state.elastic
        if one.interface_id is not None
    }
    for interface_id, private_ip, public_ip, _ in sorted(said ^ led, key=str):
        yield Violation(
            rule=Rule.ADDRESS_ASTRAY,
            subject=public_ip,
            sentence=f"The elastic address {public_ip} and {private_ip} of {interface_id} do not agree"
            + ("" if interface_id in interfaces else ": there is no such interface"),
        )


def interfaces(state: State, instances: Mapping[str, Instance]) -> Iterable[Violation]:
    interfaces = {one.id: one for one in state.interfaces}
    for interface in state.interfaces:
        owner = instances.get(interface.instance_id or "")
        if interface.instance_id is not None and (owner is None or owner.phase is Phase.TERMINATED):
            yield Violation(
                rule=Rule.INTERFACE_LEAKED,
                subject=interface.id,
                sentence=f"Interface {interface.id} with {interface.private_ip} belongs to {interface.instance_id}, "
                f"which is {'terminated' if owner else 'unknown'}",
            )
        elif owner is not None and all(nic.interface_id != interface.id for nic in owner.nics):
            yield Violation(
                rule=Rule.INTERFACE_LEAKED,
                subject=interface.id,
                sentence=f"Interface {interface.id} says it belongs to {owner.id}, which does not have it",
            )
    for instance in instances.values():
        for nic in instance.nics if instance.phase is not Phase.TERMINATED else ():
            own = interfaces.get(nic.interface_id)
            if own is None or (own.instance_id, _told(own)) != (instance.id, _told(nic)):
                yield Violation(
                    rule=Rule.INTERFACE_MISSING,
                    subject=instance.id,
                    sentence=f"Instance {instance.id} says it has interface {nic.interface_id} with {nic.private_ip}; "
                    f"{'there is no such interface' if own is None else 'that interface says otherwise'}",
                )
    owners = {one.interface_id: one.id for one in state.nat_gateways if one.holds}
    owners |= {each.interface_id: one.id for one in state.vpc_endpoints for each in one.interfaces}
    made = {one.id: one.requester for one in state.interfaces if one.requester is not None}
    for id in sorted(owners.keys() ^ made.keys()):
        yield Violation(
            rule=Rule.INTERFACE_LEAKED if id in made else Rule.INTERFACE_MISSING,
            subject=id,
            sentence=f"Interface {id} of {owners.get(id, f'a {made.get(id)}, which is gone,')} is "
            + ("left" if id in made else "gone"),
        )


def _told(one: Nic | NetworkInterface) -> tuple[object, ...]:
    """What both records of an attached interface say."""
    return (
        *(one.attachment_id, one.mac, one.private_ip, one.public_ip, one.elastic, one.secondary, one.ipv6, one.group_ids),
        *(one.device_index, one.source_dest_check, one.delete_on_termination),
    )


def pools(state: State) -> Iterable[Violation]:
    used: Counter[str] = Counter(interface.subnet_id for interface in state.interfaces)
    secondary: Counter[str] = Counter()
    for interface in state.interfaces:
        used[interface.subnet_id] += len(interface.secondary)
        secondary[interface.subnet_id] += len(interface.secondary)
    used[PUBLIC_POOL_ID] = len(state.addresses)
    for pool in state.pools:
        if (pool.used, pool.secondary) != (used[pool.id], secondary[pool.id]):
            yield Violation(
                rule=Rule.POOL_COUNTERS,
                subject=pool.id,
                sentence=f"The address pool {pool.id} counts {pool.used} addresses as given; {used[pool.id]} are",
            )


def ports(seen: Sequence[HostSeen], instances: Mapping[str, Instance]) -> Iterable[Violation]:
    owners = {nic.interface_id: one for one in instances.values() for nic in one.nics}
    for host in seen:
        if host.ports is None:
            continue
        for port in host.ports:
            owner = owners.get(port)
            if owner is None or owner.phase is Phase.TERMINATED or owner.host_id != host.host_id:
                yield Violation(
                    rule=Rule.PORT_LEAKED,
                    subject=port,
                    sentence=f"Host {host.host_id} has a port of {port}, whose instance "
                    f"{owner.id + ' is not there' if owner else 'nobody knows'}",
                    grace_s=0.0 if owner is not None and owner.phase is Phase.TERMINATED else HOST_CLEANING_S,
                )
        present = set(host.ports)
        for found in host.machines:
            instance = instances.get(found.instance_id)
            nics = instance.nics if found.on and instance is not None else ()
            for nic in nics:
                if nic.attach is Attach.ATTACHED and nic.interface_id not in present:
                    yield Violation(
                        rule=Rule.PORT_MISSING,
                        subject=found.instance_id,
                        sentence=f"Host {host.host_id} runs {found.instance_id} without a port for {nic.interface_id}",
                        grace_s=HOST_CLEANING_S,
                    )

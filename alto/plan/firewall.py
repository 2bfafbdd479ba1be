"""What one VPC's namespace on one host lets through, as nftables text. Same input, same text: no I/O, no clock.

A `Firewall` remembers what it was made of and what nftables has of it. `plugged`, `unplugged`, `amended` and `replanned` say
what a port, a change of the VPC or a whole new plan makes different, as a `FirewallPatch`; `statements` writes that as one
`nft -f` transaction, and `take` remembers it once the kernel has it. So a change costs what it changes: one rule of one group
costs that group's rules, whatever else the VPC has (only `replanned` compares everything). `ruleset` writes all of it, in the
place of whatever the tables held. No packet ever meets half a rule set. Connections that are already established go on across
all of it, as EC2's tracked ones do: a revoked rule does not cut them, removing a port does, and that is the driver's work.

The order in which a packet meets it: anti-spoofing (a guest's own MAC, addresses and DHCP identity, before any state is looked
at); the network ACLs of the subnets that it leaves and enters, without regard to any state; then the egress
rules of the sender's groups, then the ingress rules of the receiver's. What no rule names is dropped. A rule that cannot be
expressed lets nothing through, is named in `Firewall.refused`, and harms no other. A port whose source is not checked
(`source_dest_check`) may send other addresses than its own, from its own MAC, but not the host's.

A network ACL stands at its subnet's border: between two ports of one subnet it is not asked, whatever addresses a router there
gives them (but from a router on another host it is: from where it comes is not known there. VXLAN's group policy could say it,
but the kernel has a UDP port either for devices with it or for those without, and ours is shared with others), nor for DHCP,
metadata and the VPC's resolver (as in EC2). A NAT gateway is in a subnet like any port: what a guest sends there leaves the
guest's subnet and enters the gateway's, and leaves that again under the gateway's address; its answers likewise.

Connections that do not come from a guest have one of two fixed addresses, and rules mean them literally:
* MACHINE_ADDRESS (169.254.169.252): everything that came to a public address, from this machine or through it. A rule with
  source 0.0.0.0/0 lets it in; a narrower one only if it contains this address. Of IPv6 it is fd00:ec2::252.
* `NetworkPlan.host_address` (the VPC's base + 3, which EC2 reserves and never assigns): what this host itself opens inside the
  namespace, that is balancers and health checks. So a rule for the VPC's own range lets them in, as in EC2.
docs/adr/0004-public-addresses-by-kernel-nat.md says why.

Deliberately not here: address translation (drivers/network/uplink.py), which has tables of its own; what a rule matches
(matches.py), what each chain has (chains.py); why a flow is refused, in words (trace.py).
Invariant: every name of ours begins with `alto_` or `c_` (nft has many keywords), and text from tenants never gets in.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from alto.model.network_plans import (
    AclPlan,
    Firewall,
    FirewallPatch,
    NatPlan,
    NetworkChange,
    NetworkPlan,
    Port,
    SubnetPlan,
)
from alto.model.networks import SecurityGroup
from alto.plan.chains import (
    ACL_IN,
    ACL_OUT,
    ADDRESSES,
    ADDRESSES_V6,
    ARP,
    ARP_BASE,
    BASE,
    FROM,
    HOST,
    IN,
    MAPS,
    OUT,
    OWN,
    RANGES,
    RANGES_V6,
    STATIC,
    acl_chain,
    acl_rules,
    addresses_of,
    addresses_v6_of,
    arp_of,
    group_chain,
    own_packets,
    port_chains,
    problem_of,
    subnet_chain,
)
from alto.plan.matches import (
    V4,
    V6,
    addresses,
    addresses_v6,
    is_id,
    members_of,
    permission_matches,
    ranges,
    ranges_of,
    ranges_v6,
)

T = TypeVar("T")


def compiled(plan: NetworkPlan, ports: Iterable[Port]) -> Firewall:
    firewall = Firewall(dual=bool(plan.ranges_v6), declared=dict(STATIC), elements={name: {} for name in STATIC})
    take(firewall, replanned(firewall, plan, ports))
    return firewall


def replanned(firewall: Firewall, plan: NetworkPlan, ports: Iterable[Port]) -> FirewallPatch:
    """Exactly `plan` and `ports`, whatever there was. A VPC that IPv6 came to, or left, is compiled anew."""
    draft = _Draft(firewall)
    draft.own((plan.host_address, plan.resolver_address))
    _whole(firewall.groups, {one.id: one for one in plan.groups if is_id(one.id)}, draft.group)
    _whole(firewall.members, _members(plan.members), draft.members)
    _whole(firewall.prefix_lists, {id: cidrs for id, cidrs in plan.prefix_lists.items() if is_id(id)}, draft.prefix_list)
    _whole(firewall.acls, {one.id: one for one in plan.acls if is_id(one.id)}, draft.acl)
    _whole(firewall.subnets, {one.id: one for one in plan.subnets}, draft.subnet)
    here = {one.id: one for one in plan.nats if is_id(one.id) and one.underlay in ("", plan.underlay)}
    _whole(firewall.nats, here, draft.nat)
    _whole(firewall.ports, {one.id: one for one in (*ports, *plan.endpoint_ports)}, draft.port)
    return draft.finished()


def amended(firewall: Firewall, change: NetworkChange) -> FirewallPatch:
    draft = _Draft(firewall)
    for group in change.groups:
        if is_id(group.id):
            draft.group(group.id, group)
    for id in change.gone_groups:
        draft.group(id, None)
    for id, elsewhere in _members(change.members).items():
        draft.members(id, elsewhere)
    for id in change.joined.keys() | change.left.keys():
        known = firewall.members.get(id)
        if known is not None:
            draft.members(id, (known - set(change.left.get(id, ()))) | set(_both(change.joined.get(id, ()))))
    for id in change.gone_members:
        draft.members(id, None)
    for id, cidrs in change.prefix_lists.items():
        if is_id(id):
            draft.prefix_list(id, cidrs)
    for id in change.gone_prefix_lists:
        draft.prefix_list(id, None)
    for acl in change.acls:
        if is_id(acl.id):
            draft.acl(acl.id, acl)
    for id in change.gone_acls:
        draft.acl(id, None)
    for subnet in change.subnets:
        draft.subnet(subnet.id, subnet)
    return draft.finished()


def plugged(firewall: Firewall, port: Port) -> FirewallPatch:
    """Also for a port that is in it already, with other groups or addresses."""
    draft = _Draft(firewall)
    draft.port(port.id, port)
    return draft.finished()


def unplugged(firewall: Firewall, port_id: str) -> FirewallPatch:
    draft = _Draft(firewall)
    draft.port(port_id, None)
    return draft.finished()


def take(firewall: Firewall, patch: FirewallPatch) -> None:
    """Remember that it is so. In place, so that this too costs what changed."""
    for id, port in patch.ports.items():
        _index(firewall.joined, id, _groups_of(firewall.ports.get(id)), _groups_of(port))
        _index(firewall.routers, id, _routed_by(firewall.ports.get(id)), _routed_by(port))
    for id, group in patch.groups.items():
        _index(firewall.referrers, id, _named_by(firewall.groups.get(id)), _named_by(group))
    _patch(firewall.groups, patch.groups)
    _patch(firewall.members, patch.members)
    _patch(firewall.prefix_lists, patch.prefix_lists)
    _patch(firewall.acls, patch.acls)
    _patch(firewall.subnets, patch.subnets)
    _patch(firewall.nats, patch.nats)
    _patch(firewall.ports, patch.ports)
    _patch(firewall.declared, patch.declared)
    _patch(firewall.chains, patch.chains)
    _patch(firewall.refused, patch.refused)
    if patch.own is not None:
        firewall.own = patch.own
    for name, elements in patch.elements.items():
        _patch(firewall.elements.setdefault(name, {}), elements)
    for name, declaration in patch.declared.items():
        if declaration is None:
            firewall.elements.pop(name, None)


def ruleset(firewall: Firewall) -> str:
    """Everything, in the place of whatever the tables held, in one transaction."""
    lines = []
    for table in ("inet alto", "arp alto"):
        # `delete` alone would fail where there is none yet.
        lines += [f"add table {table}", f"delete table {table}", f"add table {table}"]
    lines += [_declaration(name, declaration) for name, declaration in STATIC.items()]
    lines += [f"add chain inet alto {name} {{ {hook} }}" for name, (hook, _) in BASE.items()]
    lines += ["add chain arp alto c_arp { type filter hook input priority 0; policy accept; }"]
    lines += [f"add rule arp alto c_arp {rule}" for rule in ARP_BASE]
    everything = FirewallPatch(
        declared={name: type for name, type in firewall.declared.items() if name not in STATIC},
        elements={name: dict(elements) for name, elements in firewall.elements.items()},
        chains=dict(firewall.chains),
    )
    lines += _statements(Firewall(declared=dict(STATIC)), everything)
    lines += [f"add rule inet alto {name} {rule}" for name, (_, rules) in BASE.items() for rule in rules]
    return "\n".join(lines) + "\n"


def statements(firewall: Firewall, patch: FirewallPatch) -> str:
    """From what is to what `patch` says, in one transaction as long as the patch; empty when nothing differs."""
    lines = list(_statements(firewall, patch))
    return "\n".join(lines) + "\n" if lines else ""


def _statements(firewall: Firewall, patch: FirewallPatch) -> Iterator[str]:
    # Names first, then what refers to them; what goes is emptied first and deleted last.
    new = {name: type for name, type in patch.declared.items() if type is not None and name not in firewall.declared}
    gone = [name for name, type in patch.declared.items() if type is None and name in firewall.declared]
    yield from (_declaration(name, type) for name, type in new.items())
    chains = {name: rules for name, rules in patch.chains.items() if firewall.chains.get(name) != rules}
    yield from (
        f"add chain inet alto {name}" for name, rules in chains.items() if rules is not None and name not in firewall.chains
    )
    changed = {}
    for name, elements in patch.elements.items():
        if name not in gone:
            had = firewall.elements.get(name, {})
            changed[name] = (
                [key for key, value in elements.items() if key in had and _element(key, had[key]) != _element(key, value)],
                [
                    _element(key, v)
                    for key, v in elements.items()
                    if v is not None and _element(key, had.get(key)) != _element(key, v)
                ],
            )
    for name in sorted(changed, key=_verdicts_last):
        yield from _elements("delete", name, changed[name][0])
    yield from (f"flush chain inet alto {name}" for name in chains if name in firewall.chains)
    for name, rules in chains.items():
        yield from (f"add rule inet alto {name} {rule}" for rule in rules or ())
    for name in sorted(changed, key=_verdicts_last):
        yield from _elements("add", name, changed[name][1])
    yield from (f"delete chain inet alto {name}" for name, rules in chains.items() if rules is None and name in firewall.chains)
    yield from (f"delete set inet alto {name}" for name in gone)


def _verdicts_last(name: str) -> tuple[bool, str]:
    return name in MAPS, name


def _declaration(name: str, type: str) -> str:
    return f"add {'map' if name in MAPS else 'set'} {'arp' if name == ARP else 'inet'} alto {name} {{ {type} }}"


def _element(key: str, value: str | int | None) -> str | None:
    """As it is added; a set's element is the same for whatever number of reasons."""
    return f"{key} : {value}" if isinstance(value, str) else None if value is None else key


def _elements(verb: str, name: str, elements: Iterable[str | None]) -> Iterator[str]:
    text = ", ".join(one for one in elements if one)
    if text:
        yield f"{verb} element {'arp' if name == ARP else 'inet'} alto {name} {{ {text} }}"


class _Draft:
    """Collects what becomes different: first of what a firewall is made of, then, in `finished`, of what follows from it."""

    def __init__(self, firewall: Firewall) -> None:
        self._old = firewall
        self._new = FirewallPatch()
        # What is to be made anew, by id.
        self._groups: set[str] = set()
        self._ports: set[str] = set()
        self._subnets: set[str] = set()
        self._nats: set[str] = set()

    # What it is made of.

    def own(self, own: tuple[str, ...]) -> None:
        if own != self._old.own:
            self._new.own = own
            for name, before, after in ((HOST, self._old.own[:1], own[:1]), (OWN, self._old.own, own)):
                self._new.elements[name] = {**dict.fromkeys(before), **dict.fromkeys(after, 1)}

    def group(self, id: str, group: SecurityGroup | None) -> None:
        if _differs(self._old.groups.get(id), group):
            self._new.groups[id] = group
            self._groups.add(id)

    def members(self, id: str, elsewhere: frozenset[str] | None) -> None:
        if _differs(self._old.members.get(id), elsewhere):
            self._new.members[id] = elsewhere

    def prefix_list(self, id: str, cidrs: tuple[str, ...] | None) -> None:
        if _differs(self._old.prefix_lists.get(id), cidrs):
            self._new.prefix_lists[id] = cidrs

    def acl(self, id: str, acl: AclPlan | None) -> None:
        if _differs(self._old.acls.get(id), acl):
            self._new.acls[id] = acl

    def subnet(self, id: str, subnet: SubnetPlan | None) -> None:
        old = self._old.subnets.get(id)
        if _differs(old, subnet):
            self._new.subnets[id] = subnet
            self._subnets.add(id)

    def nat(self, id: str, nat: NatPlan | None) -> None:
        if _differs(self._old.nats.get(id), nat):
            self._new.nats[id] = nat
            self._nats.add(id)

    def port(self, id: str, port: Port | None) -> None:
        old = self._old.ports.get(id)
        if _differs(old, port):
            self._new.ports[id] = port
            self._ports.add(id)
            self._subnets |= _routed_by(old) ^ _routed_by(port)

    # What follows.

    def finished(self) -> FirewallPatch:
        self._make_members()
        self._make_ranges()
        for id in sorted(self._groups):
            self._make_group(id)
        for id, acl in self._new.acls.items():
            self._make_acl(id, acl)
            if (id in self._old.acls) != (acl is not None):
                self._subnets |= {one.id for one in self._all(self._old.subnets, self._new.subnets) if one.acl_id == id}
        for id in sorted(self._subnets):
            self._make_subnet(id)
        for id in sorted(self._nats):
            self._make_nat(id)
        for id in sorted(self._ports):
            self._make_port(id)
        return self._new

    def _make_members(self) -> None:
        """The sets of groups' addresses: those that come or go, and what changes in the others."""
        fresh = set()
        for id in sorted(self._new.groups.keys() | self._new.members.keys()):
            name = members_of(id)
            if (id in self._old.groups) != (self._get(self._old.groups, self._new.groups, id) is not None):
                self._ports |= self._joined(id)  # they may not jump to its rules before it is there
            had, has = name in self._old.declared, self._has_members(id)
            if has and not had:
                fresh.add(id)
                elsewhere = self._get(self._old.members, self._new.members, id) or ()
                here = [self._get(self._old.ports, self._new.ports, port) for port in self._joined(id)]
                everybody = [*elsewhere, *(address for port in here for address in _all_of(port))]
                for family, type in self._families():
                    self._declare(members_of(id, family), type)
                    elements = self._new.elements.setdefault(members_of(id, family), {})
                    for address in everybody:
                        if family == _family(address):
                            elements[address] = int(elements.get(address) or 0) + 1
            elif had and not has:
                for family, _ in self._families():
                    self._declare(members_of(id, family), None)
            if had != has:
                self._groups |= self._referrers(id)
        for id, after in self._new.members.items():
            before, now = self._old.members.get(id, frozenset()), after or frozenset()
            self._recount(id, before - now, now - before, fresh)
        for id, port in self._new.ports.items():
            old = self._old.ports.get(id)
            for group_id in _groups_of(old) | _groups_of(port):
                left = _all_of(old) if group_id in _groups_of(old) else []
                joined = _all_of(port) if group_id in _groups_of(port) else []
                self._recount(group_id, left, joined, fresh)

    def _families(self) -> list[tuple[str, str]]:
        return [(V4, ADDRESSES), (V6, ADDRESSES_V6)] if self._old.dual else [(V4, ADDRESSES)]

    def _recount(self, group_id: str, left: Iterable[str], joined: Iterable[str], fresh: set[str]) -> None:
        if group_id in fresh:
            return
        for addresses_, step in ((left, -1), (joined, 1)):
            for address in addresses_:
                name = members_of(group_id, _family(address))
                if self._is_declared(name):
                    counts, old = self._new.elements.setdefault(name, {}), self._old.elements.get(name, {})
                    count = int((counts[address] if address in counts else old.get(address)) or 0) + step
                    counts[address] = count if count > 0 else None

    def _make_ranges(self) -> None:
        for id, cidrs in self._new.prefix_lists.items():
            v6 = ranges_v6(cidrs or ())
            for family, type, here, there in (
                (V4, RANGES, cidrs is not None, ranges(cidrs or ())),
                (V6, RANGES_V6, bool(v6), v6),
            ):
                name = ranges_of(id, family)
                if (name in self._old.declared) != here:
                    self._declare(name, type if here else None)
                    self._groups |= self._referrers(id)
                if here:
                    before = self._old.elements.get(name, {})
                    self._new.elements[name] = {**dict.fromkeys(before), **dict.fromkeys(there, 1)}

    def _make_group(self, id: str) -> None:
        group = self._get(self._old.groups, self._new.groups, id)
        complaints: list[str] = []
        for egress in (False, True):
            rules = tuple(self._rules(group, egress, complaints)) if group is not None else None
            self._new.chains[group_chain(id, egress)] = rules
        self._refuse(id, complaints)

    def _rules(self, group: SecurityGroup, egress: bool, complaints: list[str]) -> Iterator[str]:
        for permission in group.permissions:
            if permission.egress is egress:
                try:
                    matches = permission_matches(permission, self._is_declared)
                except ValueError as error:
                    complaints.append(f"{group.id}: a rule lets nothing through, because {error}")
                    continue
                yield from (f"{match} accept" for match in matches)

    def _make_acl(self, id: str, acl: AclPlan | None) -> None:
        complaints: list[str] = []
        for egress in (False, True):
            rules = tuple(acl_rules(acl, egress, complaints)) if acl is not None else None
            self._new.chains[acl_chain(id, egress)] = rules
        self._refuse(id, complaints)

    def _make_subnet(self, id: str) -> None:
        old, subnet = self._old.subnets.get(id), self._get(self._old.subnets, self._new.subnets, id)
        if _is_guarded(old) != _is_guarded(subnet):
            self._ports |= {port.id for port in self._all(self._old.ports, self._new.ports) if port.subnet_id == id}
            self._nats |= {nat.id for nat in self._all(self._old.nats, self._new.nats) if nat.subnet_id == id}
        if not is_id(id):
            return
        complaints = []
        for egress in (False, True):
            rules: tuple[str, ...] | None = None
            if subnet is not None and _is_guarded(subnet):
                # What leaves is known by its next hop, what enters by its sender or by the router that it comes from.
                within = [f"{'rt ip nexthop' if egress else 'ip saddr'} {cidr}" for cidr in ranges([subnet.cidr])]
                cidrs = ranges_v6([subnet.cidr_v6] if subnet.cidr_v6 else [])
                within += [f"{'rt ip6 nexthop' if egress else 'ip6 saddr'} {cidr}" for cidr in cidrs]
                within += [f'iifname "{port.device}"' for port in self._routers(id)] if not egress else []
                rules = tuple(f"{match} return" for match in within)
                if self._get(self._old.acls, self._new.acls, subnet.acl_id) is not None:
                    rules = (*rules, f"goto {acl_chain(subnet.acl_id, egress)}")
                else:
                    complaints = [f"{id}: nothing leaves or enters, because there is no network ACL {subnet.acl_id!r}"]
                    rules = (*rules, "counter drop")
            if rules is not None or subnet_chain(id, egress) in self._old.chains:
                self._new.chains[subnet_chain(id, egress)] = rules
        self._refuse(id, complaints)

    def _make_nat(self, id: str) -> None:
        old, nat = self._old.nats.get(id), self._get(self._old.nats, self._new.nats, id)
        for name, egress in ((ACL_OUT, True), (ACL_IN, False)):
            elements: dict[str, str | int | None] = {}
            if old is not None and f'"{old.device}"' in self._old.elements.get(name, {}):
                elements[f'"{old.device}"'] = None
            if nat is not None and _is_guarded(self._get(self._old.subnets, self._new.subnets, nat.subnet_id)):
                elements[f'"{nat.device}"'] = f"jump {subnet_chain(nat.subnet_id, egress)}"
            if elements:
                self._new.elements.setdefault(name, {}).update(elements)

    def _make_port(self, id: str) -> None:
        old, port = self._old.ports.get(id), self._get(self._old.ports, self._new.ports, id)
        elements: dict[str, dict[str, str | int | None]] = {name: {} for name in (*MAPS, ARP)}
        if old is not None and problem_of(old) is None:
            for name in MAPS:
                if f'"{old.device}"' in self._old.elements.get(name, {}):
                    elements[name][f'"{old.device}"'] = None
            elements[ARP].update(dict.fromkeys(arp_of(old)))
            self._new.chains.update(dict.fromkeys(port_chains(old.device).values()))
        complaints: list[str] = []
        if port is not None:
            problem = problem_of(port)
            if problem is not None:
                complaints.append(problem)
            else:
                self._add_port(port, elements, complaints)
        for name, changed in elements.items():
            if changed:
                self._new.elements.setdefault(name, {}).update(changed)
        self._refuse(id, complaints)

    def _add_port(self, port: Port, elements: dict[str, dict[str, str | int | None]], complaints: list[str]) -> None:
        known = []
        for id in dict.fromkeys(port.group_ids):
            if self._get(self._old.groups, self._new.groups, id) is not None:
                known.append(id)
            else:
                complaints.append(f"{port.id}: group {id!r} is not in this VPC")
        names = port_chains(port.device)
        self._new.chains[names[FROM]] = own_packets(port)
        for name, egress in ((OUT, True), (IN, False)):
            self._new.chains[names[name]] = (*(f"jump {group_chain(id, egress)}" for id in known), "counter drop")
        tap = f'"{port.device}"'
        for name, chain in names.items():
            elements[name][tap] = f"goto {chain}"
        if _is_guarded(self._get(self._old.subnets, self._new.subnets, port.subnet_id)):
            elements[ACL_OUT][tap] = f"jump {subnet_chain(port.subnet_id, True)}"
            elements[ACL_IN][tap] = f"jump {subnet_chain(port.subnet_id, False)}"
        elements[ARP].update(dict.fromkeys(arp_of(port), 1))

    # As it will be.

    def _get(self, old: Mapping[str, T], new: Mapping[str, T | None], id: str) -> T | None:
        return new[id] if id in new else old.get(id)

    def _all(self, old: Mapping[str, T], new: Mapping[str, T | None]) -> Iterator[T]:
        yield from (one for id, one in old.items() if id not in new)
        yield from (one for one in new.values() if one is not None)

    def _has_members(self, id: str) -> bool:
        facts: tuple[tuple[Mapping[str, object], Mapping[str, object]], ...] = (
            (self._old.groups, self._new.groups),
            (self._old.members, self._new.members),
        )
        return any(self._get(old, new, id) is not None for old, new in facts)

    def _is_declared(self, name: str) -> bool:
        return self._get(self._old.declared, self._new.declared, name) is not None

    def _declare(self, name: str, type: str | None) -> None:
        self._new.declared[name] = type

    def _joined(self, group_id: str) -> set[str]:
        kept = {id for id in self._old.joined.get(group_id, ()) if id not in self._new.ports}
        return kept | {id for id, port in self._new.ports.items() if group_id in _groups_of(port)}

    def _routers(self, subnet_id: str) -> list[Port]:
        known = {id for id in self._old.routers.get(subnet_id, ()) if id not in self._new.ports}
        known |= {id for id, port in self._new.ports.items() if subnet_id in _routed_by(port)}
        ports = (self._get(self._old.ports, self._new.ports, id) for id in sorted(known))
        return [port for port in ports if port is not None and problem_of(port) is None]

    def _referrers(self, name: str) -> set[str]:
        kept = {id for id in self._old.referrers.get(name, ()) if id not in self._new.groups}
        return kept | {id for id, group in self._new.groups.items() if name in _named_by(group)}

    def _refuse(self, id: str, complaints: list[str]) -> None:
        if complaints or id in self._old.refused:
            self._new.refused[id] = tuple(complaints) or None


def _groups_of(port: Port | None) -> set[str]:
    return set(port.group_ids) if port is not None else set()


def _routed_by(port: Port | None) -> set[str]:
    """The subnet in which it may send on what others say."""
    return {port.subnet_id} if port is not None and not port.source_dest_check else set()


def _named_by(group: SecurityGroup | None) -> set[str]:
    if group is None:
        return set()
    return {id for one in group.permissions for id in (one.group_id, one.prefix_list_id) if id is not None}


def _is_guarded(subnet: SubnetPlan | None) -> bool:
    return subnet is not None and bool(subnet.acl_id) and is_id(subnet.id)


def _members(members: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    return {id: frozenset(_both(texts)) for id, texts in members.items() if is_id(id)}


def _both(texts: Iterable[str]) -> list[str]:
    listed = list(texts)
    return [*addresses(listed), *addresses_v6(listed)]


def _all_of(port: Port | None) -> list[str]:
    return [*addresses_of(port), *addresses_v6_of(port)]


def _family(address: str) -> str:
    return V6 if ":" in address else V4


def _differs(old: object, new: object) -> bool:
    return old is not new and old != new


def _whole(old: Mapping[str, T], new: Mapping[str, T], put: Callable[[str, T | None], None]) -> None:
    for id in old:
        if id not in new:
            put(id, None)
    for id, one in new.items():
        put(id, one)


def _patch(values: dict[str, T], news: Mapping[str, T | None]) -> None:
    for key, value in news.items():
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value


def _index(index: dict[str, set[str]], id: str, before: set[str], after: set[str]) -> None:
    for key in before - after:
        index[key].discard(id)
        if not index[key]:
            del index[key]
    for key in after - before:
        index.setdefault(key, set()).add(id)

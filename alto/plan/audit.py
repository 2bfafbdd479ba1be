"""What must be true of a cloud, whatever happened to it: the invariants, as pure functions of what is written and seen.

`audit` looks at one moment, `audit_change` at two states one after the other. The simulator asks both after every step and
`alto audit` asks the same of a live cloud. Each violation has a sentence for people. Some are wrong the moment they are
seen (`grace_s` 0); others are how a healthy cloud looks while it works, and wrong only when they last: `outlasting` tells.

Deliberately not here: repair, reading the store, asking hosts. The expected numbers are counted again from the rows; no
function that made them is called. The invariant: an idle cloud in good order gives an empty list.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from alto.model.hosts import Host, HostState
from alto.model.images import host_kind_of
from alto.model.instances import Instance, Phase, Wish
from alto.model.placement_groups import PlacementMember, Strategy
from alto.plan import audit_networks, audit_volumes
from alto.plan.violations import HOST_CLEANING_S, Found, HostSeen, Rule, State, Violation

# How long a healthy cloud may take. Generous: these find what is stuck, not what is slow.
PLACING_S = 60.0
STARTING_S = 300.0
STOPPING_S = 180.0
BALANCING_S = 60.0
SCALING_S = 600.0


def audit(state: State, seen: Sequence[HostSeen] = ()) -> list[Violation]:
    """Everything wrong at this moment, in a stable order."""
    instances = {one.id: one for one in state.instances}
    tenants = _tenants(state)
    return [
        *_hosts(state, instances, tenants),
        *audit_networks.addresses(state, instances),
        *audit_networks.interfaces(state, instances),
        *audit_volumes.volumes(state, instances, seen),
        *audit_networks.pools(state),
        *_tokens(state),
        *_machines(seen, instances, {host.id for host in state.hosts}),
        *audit_networks.ports(seen, instances),
        *_places(state, instances),
        *_profiles(state, instances),
        *_wishes(state, tenants),
        *_groups(state),
        *_balancers(state, instances, seen),
    ]


def _holds_room(instance: Instance) -> bool:
    """From placement until its machine has ended."""
    return instance.phase in (Phase.PLACED, Phase.PREPARING, Phase.RUNNING)


class _Tenants:
    """Whose instances hold room on one host: those of dedicated tenancy, and all."""

    def __init__(self) -> None:
        self.dedicated: Counter[str] = Counter()
        self.all: Counter[str] = Counter()

    def others_than(self, account: str) -> list[str]:
        return sorted(self.all.keys() - {account})


_ByHost = Mapping[str, _Tenants]  # by the host's id
_NOBODY = _Tenants()


def _tenants(state: State) -> _ByHost:
    found: defaultdict[str, _Tenants] = defaultdict(_Tenants)
    for instance in state.instances:
        if _holds_room(instance) and instance.host_id is not None:
            here = found[instance.host_id]
            here.all[instance.account] += 1
            if instance.is_dedicated:
                here.dedicated[instance.account] += 1
    return found


def _hosts(state: State, instances: Mapping[str, Instance], tenants: _ByHost) -> Iterable[Violation]:
    hosts = {host.id: host for host in state.hosts}
    vcpus: Counter[str] = Counter()
    memory: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for instance in instances.values():
        if _holds_room(instance):
            if instance.host_id is None:
                yield Violation(
                    rule=Rule.UNPLACED_PHASE,
                    subject=instance.id,
                    sentence=f"Instance {instance.id} is {instance.phase.name} and has no host",
                )
                continue
            if instance.host_id not in hosts:
                yield Violation(
                    rule=Rule.HOST_UNKNOWN,
                    subject=instance.id,
                    sentence=f"Instance {instance.id} is {instance.phase.name} on {instance.host_id}, which is no host here",
                )
            vcpus[instance.host_id] += instance.vcpus
            memory[instance.host_id] += instance.memory_mib
            count[instance.host_id] += 1
    for host in state.hosts:
        if vcpus[host.id] > host.vcpus or memory[host.id] > host.memory_mib:
            yield Violation(
                rule=Rule.HOST_OVERFULL,
                subject=host.id,
                sentence=f"Host {host.name} has {host.vcpus} vCPUs and {host.memory_mib} MiB to give, and gave "
                f"{vcpus[host.id]} vCPUs and {memory[host.id]} MiB",
            )
        given = (vcpus[host.id], memory[host.id], count[host.id])
        written = (host.vcpus_used, host.memory_mib_used, host.instances)
        yield from _tenancy(host, tenants.get(host.id, _NOBODY))
        if given != written:
            yield Violation(
                rule=Rule.HOST_COUNTERS,
                subject=host.id,
                sentence=f"Host {host.name} counts {written[0]} vCPUs, {written[1]} MiB, {written[2]} instances as given; "
                f"its instances hold {given[0]}, {given[1]}, {given[2]}",
            )


def _tenancy(host: Host, tenants: _Tenants) -> Iterable[Violation]:
    for account in sorted(tenants.dedicated):
        if others := tenants.others_than(account):
            yield Violation(
                rule=Rule.TENANCY_BROKEN,
                subject=host.id,
                sentence=f"Host {host.name} has dedicated instances of {account}, and instances of {', '.join(others)}",
            )
    written = {host.dedicated.account: host.dedicated.instances} if host.dedicated is not None else {}
    if written != dict(tenants.dedicated):
        yield Violation(
            rule=Rule.HOST_COUNTERS,
            subject=host.id,
            sentence=f"Host {host.name} counts {written} as dedicated; it has {dict(tenants.dedicated)}",
        )


def _places(state: State, instances: Mapping[str, Instance]) -> Iterable[Violation]:
    """Of placement groups: who has a place lives and is where the place says, and no two stand where they must not."""
    strategies = {group.id: group.strategy for group in state.placement_groups}
    hosts: dict[str, dict[str, list[PlacementMember]]] = {}
    for place in state.places:
        owner = instances.get(place.id)
        if owner is None or owner.phase is Phase.TERMINATED or owner.host_id != place.host_id:
            yield Violation(
                rule=Rule.PLACE_LEAKED,
                subject=place.id,
                sentence=f"The place of {place.id} in {place.group_id} is on {place.host_id}; the instance is "
                f"{'unknown' if owner is None else 'terminated' if owner.phase is Phase.TERMINATED else f'on {owner.host_id}'}",
            )
        elif place.host_id is not None:
            hosts.setdefault(place.group_id, {}).setdefault(place.host_id, []).append(place)
    for group_id, found in hosts.items():
        wrong: list[str] = []
        match strategies.get(group_id):
            case Strategy.SPREAD:
                wrong = [host for host, members in found.items() if len(members) > 1]
            case Strategy.CLUSTER:
                wrong = sorted(found) if len(found) > 1 else []
            case Strategy.PARTITION:
                wrong = [host for host, members in found.items() if len({one.partition for one in members}) > 1]
            case None:
                wrong = sorted(found)
        if wrong:
            yield Violation(
                rule=Rule.PLACE_BROKEN,
                subject=group_id,
                sentence=f"Members of the placement group {group_id} ({strategies.get(group_id, 'which is gone')}) are on "
                f"{', '.join(sorted(wrong))} against its strategy",
            )


def _profiles(state: State, instances: Mapping[str, Instance]) -> Iterable[Violation]:
    """An association and its instance say the same, in both directions."""
    told = {one.id: (one.instance_id, one.arn) for one in state.profiles}
    borne = {
        one.profile.association_id: (one.id, one.profile.arn)
        for one in instances.values()
        if one.profile is not None and one.phase is not Phase.TERMINATED
    }
    for id in sorted(told.keys() | borne.keys()):
        if told.get(id) != borne.get(id):
            yield Violation(
                rule=Rule.PROFILE_LEAKED,
                subject=id,
                sentence=f"The profile association {id} says {told.get(id)}, its instance {borne.get(id)}",
            )


def _tokens(state: State) -> Iterable[Violation]:
    reservations: dict[tuple[str, str, str], set[str]] = {}
    places: dict[tuple[str, int], set[str]] = {}
    for instance in state.instances:
        places.setdefault((instance.reservation_id, instance.launch_index), set()).add(instance.id)
        if instance.client_token is not None:
            key = (instance.account, instance.region, instance.client_token)
            reservations.setdefault(key, set()).add(instance.reservation_id)
    for (_, _, token), made in reservations.items():
        if len(made) > 1:
            yield Violation(
                rule=Rule.TOKEN_TWICE,
                subject=token,
                sentence=f"One client token made {len(made)} reservations: {', '.join(sorted(made))}",
            )
    for (reservation, index), made in places.items():
        if len(made) > 1:
            yield Violation(
                rule=Rule.TOKEN_TWICE,
                subject=reservation,
                sentence=f"Reservation {reservation} has {len(made)} instances with launch index {index}",
            )


def _machines(seen: Sequence[HostSeen], instances: Mapping[str, Instance], hosts: set[str]) -> Iterable[Violation]:
    running: dict[str, list[str]] = {}
    looked_at: dict[str, dict[str, Found]] = {}
    for host in seen:
        looked_at[host.host_id] = {found.instance_id: found for found in host.machines}
        for found in host.machines:
            instance = instances.get(found.instance_id)
            if found.on:
                running.setdefault(found.instance_id, []).append(host.host_id)
            if instance is None or instance.phase is Phase.TERMINATED or instance.host_id != host.host_id:
                why = "unknown" if instance is None else "terminated" if instance.host_id == host.host_id else "elsewhere"
                yield Violation(
                    rule=Rule.RUNS_UNKNOWN,
                    subject=found.instance_id,
                    sentence=f"Host {host.host_id} has a machine of {found.instance_id}, which is {why}",
                    # It is terminated only once its host said that nothing is left; deciding to leave comes first.
                    grace_s=0.0 if instance is not None and why == "terminated" else HOST_CLEANING_S,
                )
            elif found.incarnation > instance.incarnation:
                yield Violation(
                    rule=Rule.RUNS_AHEAD,
                    subject=found.instance_id,
                    sentence=f"Host {host.host_id} runs incarnation {found.incarnation} of {found.instance_id}, "
                    f"which has only had {instance.incarnation}",
                    # Who reads the store before asking the host may miss a start in between.
                    grace_s=HOST_CLEANING_S,
                )
            elif found.on and found.incarnation < instance.incarnation:
                yield Violation(
                    rule=Rule.RUNS_OUTDATED,
                    subject=found.instance_id,
                    sentence=f"Host {host.host_id} still runs incarnation {found.incarnation} of {found.instance_id}; "
                    f"it should be {instance.incarnation}",
                    grace_s=STARTING_S,
                )
            elif found.on and instance.phase is Phase.STOPPED:
                yield Violation(
                    rule=Rule.RUNS_ENDED,
                    subject=found.instance_id,
                    sentence=f"Host {host.host_id} runs {found.instance_id}, which is written down as stopped",
                    grace_s=HOST_CLEANING_S,
                )
    for instance_id, where in running.items():
        if len(where) > 1:
            yield Violation(
                rule=Rule.RUNS_TWICE,
                subject=instance_id,
                sentence=f"Instance {instance_id} runs on {' and '.join(sorted(where))} at once",
            )
    for instance in instances.values():
        if instance.phase is Phase.RUNNING and instance.host_id in looked_at:
            own = looked_at[instance.host_id].get(instance.id)
            if own is None or not own.on:
                yield Violation(
                    rule=Rule.RUNNING_UNSEEN,
                    subject=instance.id,
                    sentence=f"Instance {instance.id} is written down as running, and host {instance.host_id} does not run it",
                    grace_s=HOST_CLEANING_S,
                )


_ON_THE_WAY = {
    Wish.RUNNING: STARTING_S,
    Wish.STOPPED: STOPPING_S,
    Wish.TERMINATED: STOPPING_S,
}


def _wishes(state: State, tenants: _ByHost) -> Iterable[Violation]:
    hosts = {host.id: host for host in state.hosts}
    for instance in state.instances:
        open_since = _open(instance)
        if open_since is None:
            continue
        host = hosts.get(instance.host_id or "")
        if instance.phase is Phase.PENDING and instance.wish is Wish.RUNNING:
            if instance.waiting_because is None:
                yield Violation(
                    rule=Rule.WISH_UNEXPLAINED,
                    subject=instance.id,
                    sentence=f"Instance {instance.id} waits for a host and nothing says why",
                    grace_s=PLACING_S,
                )
            elif fits := _would_fit(instance, state, tenants):
                yield Violation(
                    rule=Rule.WISH_UNEXPLAINED,
                    subject=instance.id,
                    sentence=f"Instance {instance.id} says that {instance.waiting_because}, but it would fit on {fits.name}",
                    grace_s=PLACING_S,
                )
        elif host is not None and host.state is HostState.UNREACHABLE:
            continue  # the host's own state says why
        else:
            yield Violation(
                rule=Rule.WISH_OPEN,
                subject=instance.id,
                sentence=f"Instance {instance.id} should be {instance.wish.value} and is {open_since}",
                grace_s=_ON_THE_WAY[instance.wish],
            )


def _open(instance: Instance) -> str | None:
    """What it is instead of what is wished; None when the wish came true."""
    match instance.wish:
        case Wish.RUNNING:
            done = instance.phase is Phase.RUNNING
        case Wish.STOPPED:
            done = instance.phase in (Phase.STOPPED, Phase.TERMINATED)
        case Wish.TERMINATED:
            done = instance.phase is Phase.TERMINATED
    return None if done else instance.phase.name.lower()


def _would_fit(instance: Instance, state: State, tenants: _ByHost) -> Host | None:
    """A host that could have it: by room, tenancy, placement group and what is asked of hosts."""
    open_hosts = [host for host in state.hosts if host.takes_instances and _is_for(host, instance)]
    shared = [host for host in open_hosts if not tenants.get(host.id, _NOBODY).dedicated]
    for host in open_hosts:
        here = tenants.get(host.id, _NOBODY)
        if any(account != instance.account for account in (here.all if instance.is_dedicated else here.dedicated)):
            continue
        if instance.is_dedicated and shared == [host]:
            continue  # the last that all accounts share is for all (ADR 19)
        if _has_room(host, instance) and _is_chosen(host, instance) and _is_with_its_group(host, instance, state):
            return host
    return None


def _is_for(host: Host, instance: Instance) -> bool:
    """Whatever room it has left."""
    return host.capabilities.kind in (host_kind_of(instance.image_source), "fake")


def _has_room(host: Host, instance: Instance) -> bool:
    disk_gib = instance.root.size_gib + sum(one.size_gib for one in instance.volumes if one.made_here)
    return (
        host.vcpus - host.vcpus_used >= instance.vcpus
        and host.memory_mib - host.memory_mib_used >= instance.memory_mib
        and (host.disk_gib is None or host.disk_gib - host.disk_gib_used >= disk_gib)
    )


def _is_chosen(host: Host, instance: Instance) -> bool:
    """None was chosen, or this one: by whoever launched it, or by where its disk is."""
    wished = instance.placement.host_id if instance.placement is not None else None
    return wished in (None, host.id) and instance.host_id in (None, host.id)


def _is_with_its_group(host: Host, instance: Instance, state: State) -> bool:
    its = next((one for one in state.places if one.id == instance.id), None)
    group = next((one for one in state.placement_groups if its is not None and one.id == its.group_id), None)
    if its is None or group is None:
        return True
    others = [one for one in state.places if one.group_id == group.id and one.host_id is not None]
    here = {one.partition for one in others if one.host_id == host.id}
    match group.strategy:
        case Strategy.SPREAD:
            return not here
        case Strategy.CLUSTER:
            return bool(here) or not others
        case Strategy.PARTITION:
            return not here or its.partition is None or its.partition in here


def _groups(state: State) -> Iterable[Violation]:
    members: dict[tuple[str, str, str], int] = {}
    for one in state.instances:
        if one.group_name is not None and one.wish is Wish.RUNNING:
            key = (one.account, one.region, one.group_name)
            members[key] = members.get(key, 0) + 1
    for group in state.groups:
        have = members.get((group.account, group.region, group.name), 0)
        want = 0 if group.deleting else group.desired
        if have != want and not (have < want and group.waiting_because):
            yield Violation(
                rule=Rule.GROUP_SIZE,
                subject=group.id,
                sentence=f"Group {group.name} should have {want} members and has {have}",
                grace_s=SCALING_S,
            )


def _balancers(state: State, instances: Mapping[str, Instance], seen: Sequence[HostSeen]) -> Iterable[Violation]:
    on_host: dict[str, dict[str, Sequence[str]]] = {}
    for host in seen:
        for balancer_id, served in (host.balancers or {}).items():
            on_host.setdefault(balancer_id, {})[host.host_id] = served
    looked_at = {host.host_id for host in seen if host.balancers is not None}
    elastic = {address.id: address.interface_id for address in state.elastic}
    for balancer in state.balancers:
        targets = {target.instance_id: target for target in balancer.targets}
        for target in balancer.targets:
            member = instances.get(target.instance_id)
            if member is None or member.phase is not Phase.RUNNING:
                yield Violation(
                    rule=Rule.BALANCER_TARGET,
                    subject=balancer.id,
                    sentence=f"Load balancer {balancer.name} has {target.instance_id} behind it, which does not run",
                    grace_s=BALANCING_S,
                )
            elif (member.nic.vpc_id, member.nic.private_ip) != (target.vpc_id, target.private_ip):
                yield Violation(
                    rule=Rule.BALANCER_TARGET,
                    subject=balancer.id,
                    sentence=f"Load balancer {balancer.name} reaches {target.instance_id} at {target.private_ip}; "
                    f"its address is {member.nic.private_ip}",
                )
        appliance = balancer.appliance
        if appliance is not None and elastic.get(balancer.allocation_id or "") != appliance.interface_id:
            yield Violation(
                rule=Rule.BALANCER_MISSING,
                subject=balancer.id,
                sentence=f"Load balancer {balancer.name} is {appliance.instance_id}; {balancer.address} does not lead there",
                grace_s=BALANCING_S,
            )
        if appliance is not None and not balancer.serves:
            why = f": {balancer.unready_because}" if balancer.unready_because else ""
            yield Violation(
                rule=Rule.BALANCER_SILENT,
                subject=balancer.id,
                sentence=f"Load balancer {balancer.name} is {appliance.instance_id}, which runs and does not serve{why}",
                grace_s=STARTING_S,
            )
        for member in instances.values():
            wanted = (member.account, member.region, member.group_name) == (balancer.account, balancer.region, balancer.name)
            if wanted and member.phase is Phase.RUNNING and member.wish is Wish.RUNNING and not balancer.deleting:
                known = targets.get(member.id)
                if known is None:
                    yield Violation(
                        rule=Rule.BALANCER_MISSING,
                        subject=balancer.id,
                        sentence=f"Load balancer {balancer.name} lacks {member.id}, a member that runs",
                        grace_s=BALANCING_S,
                    )
        if balancer.host_id in looked_at:
            there = on_host.get(balancer.id, {}).get(balancer.host_id)
            if there is None:
                yield Violation(
                    rule=Rule.BALANCER_MISSING,
                    subject=balancer.id,
                    sentence=f"Host {balancer.host_id} does not run load balancer {balancer.name}",
                    grace_s=BALANCING_S,
                )
            elif strangers := sorted(set(there) - {id for id, target in targets.items() if not target.draining}):
                yield Violation(
                    rule=Rule.BALANCER_TARGET,
                    subject=balancer.id,
                    sentence=f"Load balancer {balancer.name} sends requests to {', '.join(strangers)}, which it should not",
                    grace_s=BALANCING_S,
                )
    known_balancers = {balancer.id: balancer for balancer in state.balancers}
    for balancer_id, places in on_host.items():
        for host_id in places:
            if balancer_id not in known_balancers or known_balancers[balancer_id].host_id != host_id:
                yield Violation(
                    rule=Rule.BALANCER_TARGET,
                    subject=balancer_id,
                    sentence=f"Host {host_id} runs load balancer {balancer_id}, which should not be there",
                    grace_s=HOST_CLEANING_S,
                )


def audit_change(before: State, after: State) -> list[Violation]:
    """Everything that may not happen from one committed state to the next."""
    now = {one.id: one for one in after.instances}
    found = []
    for old in before.instances:
        new = now.get(old.id)
        if new is old:
            continue
        found += [
            Violation(rule=rule, subject=old.id, sentence=f"Instance {old.id} {sentence}")
            for rule, sentence in _changed(old, new)
        ]
    return [*found, *_unwilling(before, after)]


def _unwilling(before: State, after: State) -> Iterable[Violation]:
    """Instances that came to a host which took nothing new, then and now."""
    willing = {host.id for state in (before, after) for host in state.hosts if host.takes_instances}
    epochs = {one.id: one.epoch for one in before.instances}
    for one in after.instances:
        if one.host_id is not None and one.host_id not in willing and one.epoch > epochs.get(one.id, 0):
            yield Violation(
                rule=Rule.PLACED_UNWILLING,
                subject=one.id,
                sentence=f"Instance {one.id} was given to host {one.host_id}, which takes nothing new",
            )


def _changed(old: Instance, new: Instance | None) -> Iterable[tuple[Rule, str]]:
    if new is None:
        if old.phase is not Phase.TERMINATED:
            yield Rule.VANISHED, f"was {old.phase.name.lower()} and is forgotten"
        return
    if (new.incarnation, new.phase) < (old.incarnation, old.phase):
        was, now = f"{old.incarnation}/{old.phase.name}", f"{new.incarnation}/{new.phase.name}"
        yield Rule.PHASE_SHRANK, f"went back from {was} to {now}"
    if new.incarnation > old.incarnation and old.phase is not Phase.STOPPED:
        yield Rule.PHASE_SHRANK, f"began incarnation {new.incarnation} while it was {old.phase.name.lower()}"
    if new.epoch < old.epoch:
        yield Rule.EPOCH_SHRANK, f"went back from epoch {old.epoch} to {new.epoch}"
    if new.host_id != old.host_id and new.epoch <= old.epoch:
        yield Rule.MOVED_WITHOUT_EPOCH, f"went from {old.host_id} to {new.host_id} in epoch {new.epoch}"
    if old.wish is Wish.TERMINATED and new.wish is not Wish.TERMINATED:
        yield Rule.REVIVED, f"was to be terminated and is now to be {new.wish.value}"
    if old.phase is Phase.TERMINATED and new.phase is not Phase.TERMINATED:
        yield Rule.REVIVED, f"was terminated and is {new.phase.name.lower()}"
    if (old.nic.private_ip, old.nic.mac) != (new.nic.private_ip, new.nic.mac):
        yield Rule.ADDRESS_CHANGED, f"had {old.nic.private_ip} ({old.nic.mac}) and has {new.nic.private_ip} ({new.nic.mac})"


Since = Mapping[tuple[Rule, str], float]


def outlasting(since: Since, found: Sequence[Violation], now: float) -> tuple[Since, list[Violation]]:
    """Which of `found` have lasted longer than a healthy cloud may take, and since when each has been seen.

    `since` is what the last call answered (empty at first); `now` only ever grows (a monotonic clock).
    """
    seen: dict[tuple[Rule, str], float] = {}
    lasting = []
    for violation in found:
        key = (violation.rule, violation.subject)
        first = seen.setdefault(key, since.get(key, now))
        if now - first >= violation.grace_s:
            lasting.append(violation)
    return seen, lasting

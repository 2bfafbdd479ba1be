"""One seed from beginning to end: a cloud, its clients, a storm of faults; then calm, and everything must come right.

Four parts: work under faults (safety after each step), quiet (all wishes true or explained, nothing written any more),
giving everything back, and an empty cloud in which nothing is left anywhere.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from alto.model.instances import Phase, Power
from alto.model.networks import SecurityGroup
from alto.plan.violations import State, Violation
from alto.store.store import Reader
from tests.sim.api import OTHER_GROUP
from tests.sim.check import Violated
from tests.sim.cloud import SimCloud, route_logs
from tests.sim.disks import DiskClient, has_disks, make_faults
from tests.sim.faults import Faults
from tests.sim.fronts import FrontClient, has_fronts, kept_waiting
from tests.sim.health import Health, has_health
from tests.sim.hosts import MANIFESTS
from tests.sim.links import DEADLINE_S
from tests.sim.loop import SimLoop, SimulationStuck
from tests.sim.networks import hosts_differ
from tests.sim.spread import RuleClient, changes_arrive, has_spread, plans_differ
from tests.sim.tenancy import has_tenancy, make_tenants
from tests.sim.workload import Client

STEPS_MAX = 400_000
TIME_MAX_S = 20_000.0
STORM_MAX_S = 300.0
# The longest that may pass from the last fault until all is right: a resync (60 s), a group's grace (300 s) or a stop's.
SETTLE_MAX_S = 900.0
QUIET_S = 150.0
FORGOTTEN_S = 200.0
TROUBLE_S = 120.0


@dataclass
class Outcome:
    seed: str
    failure: str | None
    steps: int
    time_s: float
    digest: str
    checks: int
    kinds: tuple[str, ...]


def play(seed: int | str, *, trace: Callable[[str], None] | None = None) -> Outcome:
    """Run one seed. Any violation, stuck simulation or error inside is a failure; it never raises for those."""
    seed = str(seed)
    route_logs(trace)
    faults = Faults(seed)
    loop = SimLoop(seed, shuffle=faults.shuffle, steps_max=STEPS_MAX, time_max_s=TIME_MAX_S)
    loop.trace = trace
    knobs = faults.knobs()
    if has_spread(seed):
        knobs = dataclasses.replace(knobs, overlay=True, hosts=max(2, knobs.hosts))
    if has_tenancy(seed):
        knobs = dataclasses.replace(knobs, hosts=max(3, knobs.hosts))
    cloud = SimCloud(loop, seed, knobs)
    failure: str | None = None
    try:
        loop.run(_story(cloud, faults))
    except (Violated, SimulationStuck) as error:
        failure = f"at step {loop.steps}, {loop.time():.3f} s: {error}"
    if failure is None and loop.complaints:
        failure = f"the loop heard complaints: {loop.complaints[0]}"
    return Outcome(seed, failure, loop.steps, loop.time(), loop.digest, cloud.checker.checks, tuple(sorted(faults.kinds)))


async def _story(cloud: SimCloud, faults: Faults) -> None:
    await cloud.start()
    faults.attach(cloud)
    clients = [Client(cloud, number, actions=faults.actions, pace_s=faults.pace_s) for number in range(1, faults.clients + 1)]
    if has_tenancy(cloud.seed):
        clients = await make_tenants(cloud, faults.pace_s)
    if has_disks(cloud.seed):
        make_faults(cloud)
        clients.append(DiskClient(cloud, len(clients) + 1, actions=30, pace_s=2.0))
    fronts = FrontClient(cloud, len(clients) + 1, actions=20, pace_s=4.0) if has_fronts(cloud.seed) else None
    if fronts is not None:
        clients.append(fronts)
    rules = RuleClient(cloud, len(clients) + 1, actions=30, pace_s=2.0) if has_spread(cloud.seed) else None
    if rules is not None:
        clients.append(rules)
    health = Health(cloud) if has_health(cloud.seed) else None
    storms = [asyncio.get_running_loop().create_task(faults.storm(), name="storm")]
    if health is not None:
        await health.begin()
        storms.append(asyncio.get_running_loop().create_task(health.storm(), name="health"))
    backup: list[bytes] = []
    if faults.old_backup_at is not None:
        asyncio.get_running_loop().call_later(faults.old_backup_at, lambda: backup.append(cloud.database.image()))
    working = asyncio.gather(*(client.run() for client in clients))
    await asyncio.wait({working}, timeout=STORM_MAX_S)
    for storm in storms:
        storm.cancel()
    faults.calm()
    if health is not None:
        health.calm()
    await working
    await asyncio.sleep(2 * DEADLINE_S)  # what was sent before the calm may arrive until now

    await settle(cloud, "after the last fault")
    if health is not None:
        await _measured(cloud, health)
    if rules is not None:
        await changes_arrive(cloud, rules)
    await _stay_quiet(cloud)
    for client in clients:
        cloud.store.read(client.check_promises)
    if fronts is not None:
        await fronts.replace_alone(lambda: settle(cloud, "after the balancers' instances were replaced"))
    if backup:
        await _forget(cloud, backup[0])
        return

    await give_everything_back(cloud, clients)


async def _measured(cloud: SimCloud, health: Health) -> None:
    """What hosts find of their machine and of their guests is said, comes to stay, and goes when it is over."""
    await _until(cloud, "when all is well", health.unsaid)
    health.trouble()
    await _until(cloud, "when nothing is well", health.unsaid)
    health.deaths()
    await asyncio.sleep(TROUBLE_S)
    await _until(cloud, "after the agents' deaths", health.unsaid)
    health.calm()
    await _until(cloud, "when all is well again", health.unsaid)


async def give_everything_back(cloud: SimCloud, clients: Sequence[Client]) -> None:
    """Raises: Violated, when something of it stays."""
    for client in clients:
        await client.clean_up()
    await settle(cloud, "after everything was given back")
    for client in clients:
        cloud.store.read(client.check_promises)
    for client in clients:
        # Interfaces that outlive their instances are free only now.
        await client.networks.give_back()
    await _until(cloud, "nothing left", lambda: _left(cloud))


async def settle(cloud: SimCloud, when: str) -> None:
    """Raises: Violated, when not all is right in time."""
    await _until(cloud, when, lambda: [_sentence(one) for one in cloud.checker.settled()] + _unheard(cloud) + _astray(cloud))


async def _until(cloud: SimCloud, when: str, wrong: Callable[[], list[str]]) -> None:
    """Raises: Violated, when something is still wrong after SETTLE_MAX_S."""
    deadline = cloud.loop.time() + SETTLE_MAX_S
    rest = wrong()
    while rest:
        if cloud.loop.time() > deadline:
            raise Violated(f"{when}, {SETTLE_MAX_S:g} s were not enough: " + "; ".join(rest[:5]))
        await asyncio.sleep(2.0)
        rest = wrong()


async def _stay_quiet(cloud: SimCloud) -> None:
    """A settled cloud writes nothing and stays right."""
    await asyncio.sleep(30.0)
    before = _without_ended(cloud.checker.state())
    await asyncio.sleep(QUIET_S)
    after = _without_ended(cloud.checker.state())
    # A group without room for its members asks again and again.
    if after != before and not any(group.waiting_because for group in after.groups):
        raise Violated(f"a settled cloud still wrote in {QUIET_S:g} s: {_differences(before, after)[:5]}")
    wrong = cloud.checker.settled()
    if wrong:
        raise Violated("a settled cloud went wrong by itself: " + "; ".join(_sentence(one) for one in wrong[:5]))


async def _forget(cloud: SimCloud, backup: bytes) -> None:
    """The store comes back older than the machines. What it does not know runs on: absence is no order to destroy."""
    cloud.loop.after_step = None  # nearly everything is out of step now, and may be
    cloud.restore(backup)
    known = {one.id for one in cloud.checker.state().instances}
    unknown = {
        (host.id, id): machine
        for host in cloud.hosts
        for id, machine in host.machines.machines.items()
        if id not in known and machine.seen.power is Power.ON
    }
    await asyncio.sleep(FORGOTTEN_S)
    for host in cloud.hosts:
        for (host_id, id), machine in unknown.items():
            if host_id == host.id and host.machines.machines.get(id) != machine:
                raise Violated(f"{id} on {host_id} was touched because the store had forgotten it")
    if unreachable := _unheard(cloud, balancers=False):
        raise Violated(f"after an old backup came back: {unreachable}")


def _without_ended(state: State) -> State:
    """Terminated instances are forgotten in their time, which may be now."""
    return replace(state, instances=[one for one in state.instances if one.phase is not Phase.TERMINATED])


def _differences(before: State, after: State) -> list[str]:
    """Which rows came, went, or changed in which fields."""
    found = []
    for name in State.__struct_fields__:
        old, new = ({row.id: row for row in getattr(state, name)} for state in (before, after))
        for id in sorted(old.keys() | new.keys()):
            if id not in old or id not in new:
                found.append(f"{id} {'went' if id in old else 'came'}")
            elif old[id] != new[id]:
                fields = [one for one in old[id].__struct_fields__ if getattr(old[id], one) != getattr(new[id], one)]
                changes = [f"{one} {getattr(old[id], one)!r} -> {getattr(new[id], one)!r}" for one in fields]
                found.append(f"{id} changed {', '.join(changes)}")
    return found


def _astray(cloud: SimCloud) -> list[str]:
    astray = hosts_differ({one.id: one for one in cloud.checker.state().instances}, cloud.hosts)
    return astray + cloud.store.read(lambda reader: plans_differ(reader, cloud.hosts))


def _unheard(cloud: SimCloud, *, balancers: bool = True) -> list[str]:
    """Hosts that should be heard again by now, and balancers that should serve."""
    state = cloud.checker.state()
    joined = {host.id for host in state.hosts}
    wrong = [f"Host {host.id} has not joined" for host in cloud.hosts if host.id not in joined]
    wrong += [f"Host {host.id} is {host.state.value}" for host in state.hosts if host.state.value != "ready"]
    excused = kept_waiting(state.groups, state.instances)
    for balancer in state.balancers if balancers else ():
        if balancer.appliance is None and balancer.id in excused:
            continue
        healthy = {one.instance_id for one in balancer.health if one.state.value == "healthy"}
        wanted = {target.instance_id for target in balancer.targets if not target.draining}
        if not balancer.serves or healthy != wanted:
            wrong.append(
                f"Load balancer {balancer.name} (serves: {balancer.serves}) has {sorted(healthy)} healthy of {sorted(wanted)}"
            )
    return wrong


def _left(cloud: SimCloud) -> list[str]:
    """What is left of a cloud whose users have given everything back."""
    state, left = cloud.checker.state(), []
    living = [one for one in state.instances if one.phase is not Phase.TERMINATED]
    left += [f"{one.id} is {one.phase.name}, wished {one.wish.value}, group {one.group_name}" for one in living]
    for host in cloud.hosts:
        left += [f"machine {id} on {host.id}" for id in sorted(host.machines.machines)]
        left += [f"port {port} on {host.id}" for _, vpc in sorted(host.networks.vpcs.items()) for port in sorted(vpc.ports)]
        left += [f"network {vpc} on {host.id}" for vpc in sorted(host.networks.vpcs)]
        left += [f"volume {id} on {host.id}" for id in sorted(host.storage.volumes)]
        left += [f"snapshot {id} on {host.id}" for id in sorted(host.storage.snapshots)]
        left += [f"balancer {id} on {host.id}" for id in sorted(host.balancers.plans)]
        left += [f"manifest {path.name} on {host.id}" for path in sorted(host.disk.files) if MANIFESTS in path.parents]
    left += [f"{host.name} counts {host.instances} instances" for host in state.hosts if host.instances or host.vcpus_used]
    left += [f"{host.name} counts {host.disk_gib_used} GiB" for host in state.hosts if host.disk_gib_used]
    left += [f"pool {pool.id} counts {pool.used}" for pool in state.pools if pool.used]
    left += [f"security group {group.name}" for group in cloud.store.read(_security_groups)]
    for rows in (
        state.interfaces,
        state.volumes,
        state.snapshots,
        state.jobs,
        state.addresses,
        state.elastic,
        state.secondary,
        state.balancers,
        state.groups,
    ):
        left += [f"{row.KIND} {row.id}" for row in rows]
    return left


def _security_groups(reader: Reader) -> list[SecurityGroup]:
    return [group for group in reader.where(SecurityGroup) if group.name not in ("default", OTHER_GROUP)]


def _sentence(violation: Violation) -> str:
    return f"[{violation.rule.value}] {violation.sentence}"

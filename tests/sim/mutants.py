"""Bugs planted on purpose, each the kind that clouds have had: to know that the simulator would find them.

A mutant replaces one function of the product for as long as its block lasts. Each is written as somebody might well have
written it; none is a crash. `tests/sim/test_mutants.py` shows at which seed each is found.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from msgspec.structs import replace

from alto.agent import agent, networks
from alto.agent.agent import Agent
from alto.agent.manifests import Manifest, Manifests
from alto.agent.networks import Networks
from alto.api.ec2 import address_targets, tokens
from alto.api.ec2 import instances as instances_api
from alto.api.ec2.service_calls import ServiceCalls
from alto.api.hosts import session
from alto.api.hosts.session import HostSessions
from alto.control import balancers as balancers_loop
from alto.control import groups as groups_loop
from alto.control.loop import LoopStatus, Reconciler
from alto.control.scheduler import Scheduler
from alto.kit.world import Clock
from alto.model.balancers import AutoScalingGroup, Launching, LoadBalancer, Target
from alto.model.errors import DriverFault
from alto.model.hosts import Host
from alto.model.instances import Instance, Machine, Phase, Power, Report, Seen, Wish
from alto.model.sessions import Assignments, Reports
from alto.plan.groups import Step
from alto.plan.instances import Action, holds_capacity
from alto.plan.placement import Demand, Placed, Unplaced, place, room_of
from alto.store.claims import release_all, take_room_back
from alto.store.store import Store, Tx
from tests.sim import cloud

Plant = Callable[[ExitStack], None]


def _put(stack: ExitStack, owner: Any, name: str, new: Any) -> Any:
    """Replace until the block ends; answers what was there."""
    old = getattr(owner, name)
    setattr(owner, name, new)
    stack.callback(setattr, owner, name, old)
    return old


def check_then_act(stack: ExitStack) -> None:
    """Room is looked up in one transaction and written in another, without looking again."""

    async def reconcile(self: Scheduler) -> float | None:
        waiting = self._store.read(lambda reader: reader.where(Instance, phase=Phase.PENDING))
        hosts = self._store.read(lambda reader: reader.where(Host))
        for instance in waiting:
            demand = Demand(instance_type=instance.instance_type, vcpus=instance.vcpus, memory_mib=instance.memory_mib)
            match place(demand, [room_of(host) for host in hosts]):
                case Placed(host_id):
                    host = next(one for one in hosts if one.id == host_id)

                    def body(tx: Tx, instance: Instance = instance, host: Host = host) -> None:
                        now = tx.find(Instance, instance.id)
                        if now is None or now.phase is not Phase.PENDING or now.wish is not Wish.RUNNING:
                            return
                        tx.put(replace(now, host_id=host.id, epoch=now.epoch + 1, phase=Phase.PLACED))
                        version = tx.get(Host, host.id).version
                        used = {
                            "vcpus_used": host.vcpus_used + now.vcpus,
                            "memory_mib_used": host.memory_mib_used + now.memory_mib,
                            "instances": host.instances + 1,
                        }
                        tx.put(replace(host, version=version, **used))

                    await self._store.write(body)
                    hosts = self._store.read(lambda reader: reader.where(Host))
                case Unplaced(why):

                    def wait(tx: Tx, instance: Instance = instance, why: str = why) -> None:
                        now = tx.find(Instance, instance.id)
                        if now is not None and now.phase is Phase.PENDING and now.waiting_because != why:
                            tx.put(replace(now, waiting_because=why))

                    await self._store.write(wait)
        return 5.0 if waiting else None

    _put(stack, Scheduler, "reconcile", reconcile)


def no_idempotency(stack: ExitStack) -> None:
    """The client token is written down under a name that no second request looks for."""
    _put(stack, tokens, "_id", lambda call, token: call.request_id)


def split_transaction(stack: ExitStack) -> None:
    """A terminated instance's addresses are released in a second transaction."""
    report = HostSessions.report

    async def split(self: HostSessions, session_id: str, reports: Reports) -> None:
        await report(self, session_id, reports)
        ended = [one.instance_id for one in reports.instances if one.phase is Phase.TERMINATED]

        def body(tx: Tx) -> None:
            for id in ended:
                instance = tx.find(Instance, id)
                if instance is not None and instance.phase is Phase.TERMINATED:
                    release_all(tx, instance)

        await self._store.write(body)

    _put(stack, session, "release_all", lambda tx, instance: None)
    _put(stack, HostSessions, "report", split)


def phase_may_shrink(stack: ExitStack) -> None:
    """A report is believed whatever is already known."""
    accept = session.accept

    def believe(instance: Instance, report: Report) -> Instance | None:
        if report.epoch == instance.epoch and report.incarnation == instance.incarnation:
            if instance.phase is Phase.STOPPED and report.phase is Phase.RUNNING:
                return replace(instance, phase=Phase.RUNNING)
            if instance.phase is Phase.TERMINATED:
                return replace(instance, phase=report.phase)
        return accept(instance, report)

    _put(stack, session, "accept", believe)


def old_incarnation_believed(stack: ExitStack) -> None:
    """A report of an incarnation that is over is taken for one of the present incarnation."""
    accept = session.accept
    _put(
        stack,
        session,
        "accept",
        lambda instance, report: accept(instance, replace(report, incarnation=instance.incarnation)),
    )


def capacity_kept(stack: ExitStack) -> None:
    """A host's room is not given back when the machine stops."""
    _put(stack, session, "take_room_back", lambda tx, instance: None)


def start_takes_no_room(stack: ExitStack) -> None:
    """A stopped instance that starts again is not counted on its host."""
    _put(stack, instances_api, "give_room", lambda tx, host_id, instance: None)


def address_released_early(stack: ExitStack) -> None:
    """TerminateInstances frees the addresses at once, while the machine still uses them."""
    terminated = instances_api._terminated

    def change(tx: Tx, instance: Instance, now: float) -> Instance:
        after = terminated(tx, instance, now)
        if after != instance and after.phase is not Phase.TERMINATED:
            release_all(tx, after)
        return after

    _put(stack, instances_api, "_terminated", change)


def lost_event(stack: ExitStack) -> None:
    """A session routes a change only if nothing else waits for the host, and never says everything again."""
    route = HostSessions._route

    def forgetful(self: HostSessions, changed: frozenset[tuple[str, str]]) -> None:
        busy = {id for host in self._by_host.values() for id in host.dirty_instances}
        route(self, frozenset(one for one in changed if not busy))

    _put(stack, HostSessions, "_route", forgetful)
    _put(stack, session, "RESYNC_S", 1e9)


def destroy_on_absence(stack: ExitStack) -> None:
    """An agent removes every machine that a full list of assignments does not mention."""
    take = Agent._take

    def zealous(self: Agent, news: Assignments) -> None:
        take(self, news)
        if news.full:
            wanted = {machine.id for machine in news.machines}
            for manifest in self._manifests.all():
                if manifest.machine.id not in wanted:
                    self._assign(replace(manifest.machine, wish=Wish.TERMINATED))

    _put(stack, Agent, "_take", zealous)


def manifest_after_effect(stack: ExitStack) -> None:
    """The manifest is written when the machine has settled, not before it is touched."""
    settle, put = Agent._settle, Manifests.put

    async def late(self: Agent, manifest: Manifest, seen: Seen | None) -> bool:
        finished = await settle(self, manifest, seen)
        if self._manifests.find(manifest.machine.id) is not None:
            del self._manifests._known[manifest.machine.id]
            put(self._manifests, manifest)
        return finished

    def remember(self: Manifests, manifest: Manifest) -> None:
        self._known[manifest.machine.id] = manifest

    _put(stack, Agent, "_settle", late)
    _put(stack, Manifests, "put", remember)


def dead_target_kept(stack: ExitStack) -> None:
    """A balancer takes new members in, and keeps those that ended for as long as they are listed."""
    targets = balancers_loop.targets

    def keep(balancer: LoadBalancer, group: AutoScalingGroup | None, members: Sequence[Instance]) -> tuple[Target, ...]:
        alive = targets(balancer, group, members)
        there = {one.instance_id for one in alive}
        ended = {one.id for one in members if one.phase >= Phase.STOPPED}
        return (*alive, *(one for one in balancer.targets if one.instance_id in ended - there))

    _put(stack, balancers_loop, "targets", keep)


def crashed_started_again(stack: ExitStack) -> None:
    """An agent starts a machine that ended by itself again, in the same incarnation."""
    next_action = agent.next_action

    def eager(machine: Machine, seen: Seen | None) -> Action:
        if machine.wish is Wish.RUNNING and seen is not None and seen.power is Power.OFF:
            return Action.START
        return next_action(machine, seen)

    _put(stack, agent, "next_action", eager)


def failure_believed(stack: ExitStack) -> None:
    """A step whose answer was lost is believed not to have happened."""

    async def look_at(self: Agent, id: str) -> None:
        self._doubtful.discard(id)

    _put(stack, Agent, "_look_at", look_at)


def port_pulled_early(stack: ExitStack) -> None:
    """A machine's port is unplugged before the machine is stopped."""
    step = Agent._step

    async def hasty(self: Agent, id: str) -> bool:
        manifest = self._manifests.find(id)
        if manifest is not None and manifest.machine.wish is not Wish.RUNNING:
            await self._unplug(manifest.machine)
        return await step(self, id)

    _put(stack, Agent, "_step", hasty)


def launch_intent_lost(stack: ExitStack) -> None:
    """A group launches with a new token at each try, so that a crash between launch and answer launches twice."""
    launch = ServiceCalls.launch

    async def fresh(self: ServiceCalls, group: AutoScalingGroup, launching: Launching) -> None:
        await launch(self, group, replace(launching, token=f"{launching.token}-{self._world.chance.hex(8)}"))

    _put(stack, ServiceCalls, "launch", fresh)


def terminated_at_once(stack: ExitStack) -> None:
    """TerminateInstances says that it is over when it was only asked for."""
    terminated = instances_api._terminated

    def change(tx: Tx, instance: Instance, now: float) -> Instance:
        after = terminated(tx, instance, now)
        if after.wish is Wish.TERMINATED and after.phase is not Phase.TERMINATED:
            if holds_capacity(after):
                take_room_back(tx, after)
            release_all(tx, after)
            return replace(after, phase=Phase.TERMINATED, ended_at=now)
        return after

    _put(stack, instances_api, "_terminated", change)


def watch_after_reading(stack: ExitStack) -> None:
    """Loops begin to watch after they have read, and have no sweep that would make up for what came between."""

    async def edge_triggered(reconciler: Reconciler, store: Store, clock: Clock, status: LoopStatus) -> None:
        while True:
            try:
                again_s = await reconciler.reconcile()
            except Exception:
                await clock.sleep(1.0)
                continue
            await clock.sleep(0.01)
            watch = store.watch(*reconciler.watches)
            await watch.changed(timeout_s=1e6 if again_s is None else again_s)
            watch.close()

    _put(stack, cloud, "keep_reconciling", edge_triggered)


def leaving_forgotten(stack: ExitStack) -> None:
    """Who is about to be terminated is no longer written down as leaving."""
    next_step = groups_loop.next_step

    def hasty(*args: Any) -> Step:
        step = next_step(*args)
        return replace(step, leaving=tuple(one for one in step.leaving if one.instance_id not in step.terminate))

    _put(stack, groups_loop, "next_step", hasty)


def networks_forgotten(stack: ExitStack) -> None:
    """An agent that starts knows only the networks that it makes itself."""
    first_look = Agent._first_look

    async def blind(self: Agent) -> None:
        await first_look(self)
        self._networks._vpcs.clear()

    _put(stack, Agent, "_first_look", blind)


def idle_network_removed(stack: ExitStack) -> None:
    """A network is idle when no port was plugged into it in this agent's life, whatever runs there."""

    async def remove_idle(self: Networks, used: Iterable[str]) -> None:
        with_ports = {port.vpc_id for port in self._plugged.values()}
        for vpc_id in sorted(self._vpcs - with_ports):
            await self._network.remove_network(vpc_id)
            self._ensured.pop(vpc_id, None)
            self._vpcs.discard(vpc_id)

    _put(stack, Networks, "remove_idle", remove_idle)


def addresses_not_followed(stack: ExitStack) -> None:
    """An agent looks whether interfaces, groups or metadata changed, and not at public addresses."""
    as_described = networks._as_described

    def without(machine: Machine) -> Machine:
        return as_described(replace(machine, nics=tuple(replace(nic, public_ip=None, elastic=False) for nic in machine.nics)))

    _put(stack, networks, "_as_described", without)


def half_attached_forgotten(stack: ExitStack) -> None:
    """An agent that starts believes that machines have the interfaces that their records name."""
    adopt = Networks.adopt

    def sure(self: Networks, running: Iterable[Machine]) -> None:
        adopt(self, running)
        self._unsure.clear()

    _put(stack, Networks, "adopt", sure)


def follow_failure_ignored(stack: ExitStack) -> None:
    """What went wrong with an interface of a running machine is not tried again."""
    follow = Networks.follow

    async def once(self: Networks, machine: Machine) -> None:
        with suppress(DriverFault):
            await follow(self, machine)

    _put(stack, Networks, "follow", once)


def automatic_address_kept(stack: ExitStack) -> None:
    """The automatic public address that an elastic one replaces is not given back."""
    _put(stack, address_targets, "release_public", lambda tx, address, owner_id: None)


def old_holder_not_told(stack: ExitStack) -> None:
    """An elastic address that goes over is written to its new interface, and left in the old one."""
    _put(stack, address_targets, "_come_off", lambda tx, call, address: None)


MUTANTS: tuple[Plant, ...] = (
    check_then_act,
    no_idempotency,
    split_transaction,
    phase_may_shrink,
    old_incarnation_believed,
    capacity_kept,
    start_takes_no_room,
    address_released_early,
    lost_event,
    destroy_on_absence,
    manifest_after_effect,
    dead_target_kept,
    crashed_started_again,
    failure_believed,
    port_pulled_early,
    launch_intent_lost,
    terminated_at_once,
    watch_after_reading,
    leaving_forgotten,
    networks_forgotten,
    idle_network_removed,
    addresses_not_followed,
    automatic_address_kept,
    old_holder_not_told,
)

# Found by a death at one certain step, which seeds seldom meet (test_every_pair.py).
OF_ONE_STEP: tuple[Plant, ...] = (half_attached_forgotten, follow_failure_ignored)


@contextmanager
def planted(mutant: Plant) -> Iterator[None]:
    with ExitStack() as stack:
        mutant(stack)
        yield

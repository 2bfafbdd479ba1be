"""Asks the product's own audit after every step that changed something, and what only a simulator can know besides.

Safety: what may not be seen for a moment fails at once, with the step at which it was. Liveness: once the faults are over,
`settled` must become true in time; then nothing whatever may be wrong.
"""

from collections.abc import Callable, Sequence

import apsw

from alto.api.alto.routes import read_state
from alto.drivers.compute.fake import FakeMachine
from alto.model.instances import Attach, Instance, Phase, Power, Wish
from alto.plan.audit import audit, audit_change
from alto.plan.violations import Found, HostSeen, Rule, State, Violation
from alto.store.sqlite import SqliteStore
from tests.sim.hosts import MANIFESTS, SimHost

# A live audit looks at machines and ports one after the other; here both are seen at one moment, so there is no excuse.
AT_ONCE = (Rule.PORT_MISSING, Rule.RUNS_AHEAD, Rule.RUNS_ENDED)


class Violated(Exception):
    """An invariant does not hold. `str` says which, in sentences."""


def seen_of(host: SimHost) -> HostSeen:
    return HostSeen(
        host_id=host.id,
        machines=tuple(
            Found(instance_id=id, incarnation=one.seen.incarnation, on=one.seen.power is Power.ON)
            for id, one in sorted(host.machines.machines.items())
        ),
        ports=tuple(port for _, vpc in sorted(host.networks.vpcs.items()) for port in sorted(vpc.ports)),
        balancers={
            id: tuple(target.instance_id for target in plan.targets if not target.draining)
            for id, plan in sorted(host.balancers.plans.items())
        },
        stored=(*sorted(host.storage.volumes), *sorted(host.storage.snapshots)),
    )


def _without(instance: Instance | None, machine: FakeMachine) -> list[str]:
    """Interfaces that people were told are attached, of a machine that runs without them."""
    if instance is None or instance.phase is not Phase.RUNNING or machine.seen.power is not Power.ON:
        return []
    if instance.incarnation != machine.seen.incarnation:
        return []
    attached = [nic.interface_id for nic in instance.nics if nic.attach is Attach.ATTACHED]
    return [id for id in attached if id not in machine.interfaces]


class Checker:
    """`store` reads the same database as the servers do, between their transactions."""

    def __init__(self, connection: apsw.Connection, store: SqliteStore, hosts: Sequence[SimHost]) -> None:
        self._connection = connection
        self._store = store
        self._hosts = hosts
        self._changes = -1
        self._state = State()
        self.checks = 0
        self._most: dict[str, int] = {}  # group -> the most members that were ever desired
        self.ended: set[str] = set()  # instances that were terminated at some time; they may be forgotten
        self.fault: Violated | None = None  # found elsewhere, raised at the next look
        self.more: list[Callable[[State, State], list[str]]] = []  # what else may not be, from one state to the next

    def look(self) -> None:
        """After each step. Raises: Violated."""
        if self.fault is not None:
            raise self.fault
        moved = False
        for host in self._hosts:
            if host.machines.machines.changed or host.touched:  # type: ignore[attr-defined]
                host.machines.machines.changed = host.touched = False  # type: ignore[attr-defined]
                moved = True
        changes = self._connection.total_changes()
        if changes != self._changes:
            self._changes = changes
            before, self._state = self._state, self._store.read(read_state)
            self._fail(audit_change(before, self._state))
            self.ended.update(one.id for one in self._state.instances if one.phase is Phase.TERMINATED)
            self._groups()
            if wrong := [sentence for look in self.more for sentence in look(before, self._state)]:
                raise Violated("; ".join(wrong))
            moved = True
        if moved:
            self.checks += 1
            found = audit(self._state, self.seen())
            self._fail([one for one in found if one.grace_s == 0 or one.rule in AT_ONCE])
            self._machines()

    def begin_anew(self, connection: apsw.Connection, store: SqliteStore) -> None:
        """The database is another one now: what was before means nothing."""
        self._connection = connection
        self._store = store
        self._state = State()

    def seen(self) -> list[HostSeen]:
        return [seen_of(host) for host in self._hosts]

    def state(self) -> State:
        return self._store.read(read_state)

    def settled(self) -> list[Violation]:
        """Everything that is wrong, or not yet right."""
        return audit(self.state(), self.seen())

    def _groups(self) -> None:
        """No launch is done twice: a group never has more members that stay than were desired at some time."""
        for group in self._state.groups:
            most = self._most[group.id] = max(self._most.get(group.id, 0), group.desired)
            leaving = {one.instance_id for one in group.leaving}
            staying = [
                one.id
                for one in self._state.instances
                if (one.group_name, one.wish) == (group.name, Wish.RUNNING) and one.id not in leaving
            ]
            if len(staying) > most:
                raise Violated(f"group {group.name} has {len(staying)} members, and never more than {most} were desired")

    def _machines(self) -> None:
        instances = {one.id: one for one in self._state.instances}
        for host in self._hosts:
            for id, machine in host.machines.machines.items():
                if MANIFESTS / f"{id}.json" not in host.disk.files:
                    raise Violated(f"{id} is on {host.id} and has no manifest beside it")
                if machine.starts > machine.seen.incarnation:
                    raise Violated(
                        f"{id} was started {machine.starts} times on {host.id} in {machine.seen.incarnation} incarnations"
                    )
                instance = instances.get(id)
                if missing := _without(instance, machine):
                    raise Violated(f"{id} on {host.id} is said to have {missing}, and has {machine.interfaces}")
                asked_off = machine.seen.crashed or machine.seen.guest_initiated or machine.seen.power is Power.ON
                if (
                    not asked_off
                    and instance is not None
                    and instance.wish is Wish.RUNNING
                    and instance.incarnation == machine.seen.incarnation
                ):
                    raise Violated(f"{id} was switched off on {host.id}, and it should run")

    def _fail(self, violations: list[Violation]) -> None:
        if violations:
            raise Violated("; ".join(f"[{one.rule.value}] {one.sentence}" for one in violations))

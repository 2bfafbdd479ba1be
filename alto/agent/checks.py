"""Status checks: what this host finds of the machines that run on it, measured again and again.

Two questions, as EC2 asks them. The machine: does its own process say that it runs. The guest: does its kernel answer on its
network (ARP, which no rule forbids). One failure is an accident; some in a row are an impairment, and one success heals it.
Only a change is told the server; when something was measured last is told when somebody asks.

Invariant: what is said of a machine is of the incarnation that was measured.
"""

import asyncio
from collections.abc import Iterable

import msgspec

from alto.drivers.compute.driver import ComputeDriver
from alto.drivers.network.driver import NetworkDriver
from alto.kit.world import World
from alto.model.errors import AltoError
from alto.model.instances import Checks
from alto.model.network_plans import Port
from alto.model.sessions import Measured

CHECK_S = 20.0
FAILURES = 3  # in a row: EC2 checks each minute
FAILURES_AT_FIRST = 15  # of a guest that has never answered: it may still boot
MEASURED_AT_ONCE = 8


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that runs here."""

    id: str
    incarnation: int
    port: Port
    heard: bool  # its guest answered before


class _Record(msgspec.Struct, kw_only=True):
    incarnation: int
    last: Measured
    machine_failures: int = 0
    guest_failures: int = 0
    said: Checks | None = None


class StatusChecks:
    def __init__(self, world: World, compute: ComputeDriver, network: NetworkDriver) -> None:
        self._clock = world.clock
        self._compute = compute
        self._network = network
        self._records: dict[str, _Record] = {}

    async def measure(self, subjects: Iterable[Subject]) -> list[str]:
        """The machines of which something else is to be said than before. Not for two at once."""
        news: list[str] = []
        wanted = list(subjects)
        for begin in range(0, len(wanted), MEASURED_AT_ONCE):
            batch = wanted[begin : begin + MEASURED_AT_ONCE]
            found = await asyncio.gather(*(self._ask(subject) for subject in batch))
            news += [subject.id for subject, measured in zip(batch, found, strict=True) if self._learn(subject, measured)]
            # A simulated host has thousands, and answers at once: others come in between.
            await self._clock.sleep(0)
        return news

    def forget(self, id: str) -> None:
        self._records.pop(id, None)

    def of(self, id: str, incarnation: int) -> Checks | None:
        """What is to be said; None before the first measurement."""
        record = self._records.get(id)
        return record.said if record is not None and record.incarnation == incarnation else None

    def last(self, id: str) -> Measured | None:
        record = self._records.get(id)
        return record.last if record is not None else None

    async def _ask(self, subject: Subject) -> Measured:
        machine_ok = guest_ok = False
        try:
            machine_ok = await self._compute.measure(subject.id)
            guest_ok = machine_ok and await self._network.reach(subject.port)
        except AltoError:
            pass  # whoever could not even be asked is not well
        return Measured(at=self._clock.now(), machine_ok=machine_ok, guest_ok=guest_ok)

    def _learn(self, subject: Subject, measured: Measured) -> bool:
        record = self._records.get(subject.id)
        if record is None or record.incarnation != subject.incarnation:
            record = self._records[subject.id] = _Record(incarnation=subject.incarnation, last=measured)
        record.last = measured
        record.machine_failures = 0 if measured.machine_ok else record.machine_failures + 1
        record.guest_failures = 0 if measured.guest_ok else record.guest_failures + 1
        before = record.said
        patience = FAILURES if subject.heard else FAILURES_AT_FIRST
        machine = _since(before.machine_failed_since if before else None, record.machine_failures, FAILURES, measured.at)
        guest = _since(before.guest_failed_since if before else None, record.guest_failures, patience, measured.at)
        if before is None:
            # Begun anew here, perhaps not on the server: what is neither well nor impaired yet is not said to be well.
            if (record.machine_failures and machine is None) or (record.guest_failures and guest is None):
                return False
        elif (before.machine_failed_since, before.guest_failed_since) == (machine, guest):
            return False
        record.said = Checks(machine_failed_since=machine, guest_failed_since=guest)
        return True


def _since(before: float | None, failures: int, patience: int, now: float) -> float | None:
    if failures == 0:
        return None
    return before if before is not None or failures < patience else now

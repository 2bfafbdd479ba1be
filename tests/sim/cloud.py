"""The whole cloud in one Python process: a server (store, loops, sessions, API) and agents with fake drivers, each a simulated
process that can be killed at any step and is started again by its supervisor, as systemd would.

Real code: everything of Alto but the drivers and the wire. Simulated: drivers, network, disks, clocks.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from alto.api.ec2.service_calls import ServiceCalls
from alto.api.hosts.session import HostSessions
from alto.control.balancers import Balancers
from alto.control.groups import Groups
from alto.control.hosts import Hosts
from alto.control.keeper import Keeper
from alto.control.loop import LoopStatus, Reconciler, keep_reconciling
from alto.control.scheduler import Scheduler
from alto.drivers.balancer.haproxy.appliance import user_data_of
from alto.kit.world import World
from alto.model.instances import Power
from alto.store.sqlite import MemoryDisk, SqliteStore
from tests.sim.api import SETTINGS, VAULT, SimApi, found
from tests.sim.check import Checker, Violated
from tests.sim.encryption import homes
from tests.sim.hosts import SimHost
from tests.sim.links import Link, Weather
from tests.sim.loop import Process, SimLoop
from tests.sim.world import SimClock, SimDisk, sim_world


@dataclass
class Knobs:
    """What one seed is like, before any fault."""

    hosts: int = 2
    vcpus: int = 4
    memory_mib: int = 1024
    commit_s: float = 0.004
    weather: Weather = field(default_factory=Weather)
    api_weather: Weather = field(default_factory=Weather)  # between clients and the API
    overlay: bool = False  # hosts reach each other, and share VPCs


class HeedfulSessions(HostSessions):
    """No host hears the key of a disk whose home is another."""

    checker: Checker

    async def open_key(self, session: str, sealed: str) -> str:
        key = await super().open_key(session, sealed)
        host_id = self._session(session).host_id
        if host_id not in homes(self.checker.state(), sealed):
            self.checker.fault = Violated(f"{host_id} was given a key of disks that are not its own")
        return key


class SimServer:
    """One run of the server process."""

    def __init__(self, cloud: "SimCloud", process: Process) -> None:
        self.process = process
        self.main: asyncio.Task[None] | None = None
        self.world: World = sim_world(
            cloud.loop,
            f"{cloud.seed} server {process.generation}",
            SimDisk(),
            skew_s=cloud.skew_s,
            booted_at=cloud.chance.uniform(0, 1e6),
        )
        self.store = SqliteStore.inline(cloud.database, pause=cloud.commit_pause)
        self.sessions = HeedfulSessions(self.world, self.store, SETTINGS.cloud_id, VAULT)
        self.sessions.checker = cloud.checker
        self.api = SimApi(self.world, self.store)
        calls = ServiceCalls(self.world, self.store, SETTINGS, user_data_of)
        self._reconcilers: tuple[Reconciler, ...] = (
            Scheduler(self.store),
            Groups(self.store, self.world.clock, calls),
            Balancers(self.store, calls),
            Hosts(self.store, self.world.clock),
            Keeper(self.store, self.world.clock),
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.sessions.run(), name="sessions")
            for reconciler in self._reconcilers:
                name = type(reconciler).__name__
                status = LoopStatus(name=name)
                tasks.create_task(keep_reconciling(reconciler, self.store, self.world.clock, status), name=name)


class SimCloud:
    def __init__(self, loop: SimLoop, seed: str, knobs: Knobs) -> None:
        self.loop = loop
        self.seed = seed
        self.knobs = knobs
        self.chance = random.Random(f"cloud {seed}")
        self.skew_s = 0.0
        self.disk_stall = 0.0  # chance that a commit takes seconds
        self.database = MemoryDisk()
        self.server: SimServer | None = None
        self.hosts = [
            SimHost(
                loop,
                seed,
                number,
                cloud_id=SETTINGS.cloud_id,
                vcpus=knobs.vcpus,
                memory_mib=knobs.memory_mib,
                weather=knobs.weather,
                server=self._listening,
                sessions=self._sessions,
                answers=self._answers,
                underlay=f"192.0.2.{number}:4789" if knobs.overlay else "",
            )
            for number in range(1, knobs.hosts + 1)
        ]
        self._supervisors: list[asyncio.Task[None]] = []
        self.ended_by_fault: set[str] = set()  # machines that a fault switched off
        self.held_down: set[str] = set()  # not started again while in here
        self.account = ""
        self.store = SqliteStore.inline(self.database, pause=_no_pause)  # for those who look from outside
        self.checker = Checker(self.database.connection, self.store, self.hosts)

    # -- what simulated processes see of each other

    def _listening(self) -> Process | None:
        return self.server.process if self.server is not None and not self.server.process.dead else None

    def _sessions(self) -> HostSessions:
        assert self.server is not None
        return self.server.sessions

    def _answers(self, instance_id: str) -> bool:
        for host in self.hosts:
            found = host.machines.machines.get(instance_id)
            if found is not None and found.seen.power is Power.ON:
                return True
        return False

    async def commit_pause(self) -> None:
        if self.chance.random() < self.disk_stall:
            await asyncio.sleep(self.chance.uniform(0, 3))
        else:
            await asyncio.sleep(self.chance.uniform(0, self.knobs.commit_s))

    def link(self, name: str) -> Link:
        return Link(self.loop, random.Random(f"{name} {self.seed}"), self.knobs.api_weather, self._listening)

    async def call(
        self, link: Link, action: str, parameters: Mapping[str, object], account: str | None = None
    ) -> dict[str, Any]:
        """One API call, over `link`, for an account, or the first one."""

        async def body() -> dict[str, Any]:
            assert self.server is not None
            return await self.server.api.answer(account or self.account, action, parameters)

        return await link.call(f"api {action}", body)

    # -- life and death

    async def start(self) -> None:
        """Make the first account, then start everything, supervised."""
        self.account = await self.store.write(found(sim_world(self.loop, f"{self.seed} founder", SimDisk())))
        self.loop.after_step = self.checker.look
        self._supervise("server", self._start_server)
        for host in self.hosts:
            self._supervise(host.id, lambda host=host: (host.start_agent(), host.main))  # type: ignore[misc]

    def _start_server(self) -> tuple[Process, "asyncio.Task[None]"]:
        process = self.loop.process("server")
        self.server = SimServer(self, process)
        self.server.main = process.start(self.server.run(), name="server")
        return process, self.server.main

    def jump_server(self, seconds: float) -> None:
        """The wall clock of the running server jumps."""
        if self.server is not None and isinstance(self.server.world.clock, SimClock):
            self.server.world.clock.skew_s += seconds

    def restore(self, image: bytes) -> None:
        """An operator stops the server and puts an old copy of its database in place; the supervisor starts it again."""
        if self.server is not None:
            self.loop.kill(self.server.process)
        self.database = MemoryDisk(image)
        self.store = SqliteStore.inline(self.database, pause=_no_pause)
        self.checker.begin_anew(self.database.connection, self.store)

    def _supervise(self, name: str, start: Callable[[], tuple[Process, "asyncio.Task[None]"]]) -> None:
        async def supervise() -> None:
            while True:
                if name in self.held_down:
                    await asyncio.sleep(0.5)
                    continue
                process, main = start()
                over = asyncio.Event()
                forget = process.when_killed(over.set)
                main.add_done_callback(lambda _, over=over: over.set())  # type: ignore[misc]
                await over.wait()
                forget()
                if not process.dead:
                    self._ended(process, main)
                    self.loop.kill(process)
                await asyncio.sleep(self.chance.uniform(0.1, 5.0))

        self._supervisors.append(asyncio.get_running_loop().create_task(supervise(), name=f"supervisor {name}"))

    def _ended(self, process: Process, main: "asyncio.Task[None]") -> None:
        """A process that ended by itself: asked to (cancelled), or because of a bug."""
        error = None if main.cancelled() else main.exception()
        if error is not None:
            self.checker.fault = Violated(f"{process} ended by itself: {error!r}")
        elif not main.cancelled():
            self.checker.fault = Violated(f"{process} ended by itself")

    def processes(self) -> list[Process]:
        living = [host.process for host in self.hosts if host.process is not None and not host.process.dead]
        server = self._listening()
        return [*living, *([server] if server is not None else [])]


async def _no_pause() -> None:
    return


def route_logs(write: Callable[[str], None] | None) -> None:
    """What the product logs goes to `write`, or nowhere."""

    def sink(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        if write is not None:
            words = [str(event.pop("event")), *(f"{key}={value}" for key, value in event.items())]
            write(f"    {method}: {' '.join(words)}\n")
        raise structlog.DropEvent

    structlog.configure(processors=[sink], cache_logger_on_first_use=False)

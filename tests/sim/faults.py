"""What goes wrong in one seed. Each seed draws which kinds of fault there are at all, so that rare ones meet in pairs.

Kills come by step number, not by time: between any two steps of the whole system, whatever they are.
"""

import asyncio
import random
from collections.abc import Callable

from alto.model.instances import Power
from tests.sim.cloud import Knobs, SimCloud
from tests.sim.links import Weather

# Faults that a seed may have; each is in about half of the seeds.
KINDS = (
    "kill-server",
    "kill-agent",
    "stop-process",
    "power",
    "partition",
    "long-absence",
    "machine-crash",
    "guest-poweroff",
    "driver-faults",
    "driver-hangs",
    "lost-messages",
    "late-messages",
    "double-messages",
    "hang-up",
    "slow-disk",
    "clock-jumps",
    "stalls",
)

DRIVER_METHODS = ("start", "stop", "reboot", "destroy", "plug", "unplug", "ensure_network", "describe", "fetch")
INTERFACE_METHODS = ("attach_interface", "detach_interface", "interfaces", "change_network")


class Faults:
    def __init__(self, seed: str) -> None:
        self._chance = chance = random.Random(f"faults {seed}")
        self.kinds = frozenset(kind for kind in KINDS if chance.random() < 0.5)
        self.clients = chance.randint(1, 3)
        self.actions = chance.randint(3, 14)
        self.pace_s = chance.choice((0.5, 3.0, 10.0))
        self.shuffle = chance.random() < 0.8
        # At the end, the database comes back as it was at this time of the storm: an operator restored an old backup.
        self.old_backup_at = chance.uniform(0, 60) if chance.random() < 0.1 else None
        self._cloud: SimCloud | None = None
        self._over = False
        self._bombs: list[tuple[int, Callable[[], None]]] = []

    def knobs(self) -> Knobs:
        chance = self._chance
        hosts = chance.randint(1, 4)
        return Knobs(
            hosts=hosts,
            vcpus=chance.randint(1, 4),
            memory_mib=chance.choice((340, 700, 1400, 4096)),
            commit_s=chance.choice((0.0, 0.004, 0.2)),
            weather=self._weather(),
            api_weather=self._weather(),
        )

    def _weather(self) -> Weather:
        chance = self._chance
        weather = Weather(delay_s=chance.choice((0.001, 0.02, 0.5)))
        if chance.random() < 0.3:
            return weather
        if "lost-messages" in self.kinds:
            weather.lose_question = chance.uniform(0, 0.15)
            weather.lose_answer = chance.uniform(0, 0.15)
        if "late-messages" in self.kinds:
            weather.late = chance.uniform(0, 0.15)
        if "double-messages" in self.kinds:
            weather.double = chance.uniform(0, 0.5)
        if "hang-up" in self.kinds:
            weather.hang_up = chance.uniform(0, 1)
        return weather

    def attach(self, cloud: SimCloud) -> None:
        """Turn the knobs that stay the same all the time, and listen to every step."""
        self._cloud = cloud
        chance = self._chance
        for host in cloud.hosts:
            for knobs in (host.compute_knobs, host.network_knobs, host.image_knobs):
                for method in DRIVER_METHODS:
                    knobs.delay_s[method] = (0.0, chance.choice((0.01, 0.5, 3.0)))
                    if "driver-faults" in self.kinds and chance.random() < 0.5:
                        knobs.fault_chance[method] = chance.uniform(0, 0.4)
                if "driver-faults" in self.kinds:
                    knobs.fault_chance["observe"] = chance.uniform(0, 0.1)
                knobs.hang_s = chance.uniform(5, 40) if "driver-hangs" in self.kinds else 1.0
            if "driver-faults" in self.kinds:
                host.balancer_faults = chance.uniform(0, 0.3)
        # Drawn apart, so that seeds whose clients use no networks stay what they were.
        apart = random.Random(f"interfaces {cloud.seed}")
        for host in cloud.hosts:
            for knobs in (host.compute_knobs, host.network_knobs):
                for method in INTERFACE_METHODS:
                    knobs.delay_s[method] = (0.0, apart.choice((0.01, 0.5, 3.0)))
                    if "driver-faults" in self.kinds and apart.random() < 0.5:
                        knobs.fault_chance[method] = apart.uniform(0, 0.4)
        if "slow-disk" in self.kinds:
            cloud.disk_stall = chance.uniform(0, 0.1)
        if "stalls" in self.kinds:
            cloud.loop.stall = chance.uniform(0, 0.01)
        look = cloud.loop.after_step

        def after_step() -> None:
            if look is not None:
                look()
            while self._bombs and self._bombs[0][0] <= cloud.loop.steps:
                self._bombs.pop(0)[1]()

        cloud.loop.after_step = after_step

    async def storm(self) -> None:
        """Until cancelled, or `calm` is called."""
        menu: list[Callable[[], None]] = []
        for kind, what in (
            ("kill-server", self._kill_server),
            ("kill-agent", self._kill_agent),
            ("stop-process", self._stop_process),
            ("power", self._power),
            ("partition", self._partition),
            ("long-absence", self._absence),
            ("machine-crash", self._machine_crash),
            ("guest-poweroff", self._guest_poweroff),
            ("clock-jumps", self._clock_jump),
        ):
            if kind in self.kinds:
                menu.append(what)
        if not menu:
            return
        pace_s = self._chance.choice((1.0, 5.0, 20.0))
        while True:
            await asyncio.sleep(self._chance.uniform(0, pace_s))
            # From now on, at some step: mostly soon, in the middle of whatever is going on.
            self._bombs.append((self._loop.steps + int(self._chance.expovariate(1 / 30)), self._chance.choice(menu)))
            self._bombs.sort(key=lambda bomb: bomb[0])

    def calm(self) -> None:
        """The last fault is over: everything works, and everything down comes up again."""
        cloud = self._cloud
        assert cloud is not None
        self._over = True
        self._bombs.clear()
        cloud.loop.stall = 0.0
        cloud.disk_stall = 0.0
        cloud.knobs.weather.calm()
        cloud.knobs.api_weather.calm()
        cloud.held_down.clear()
        for host in cloud.hosts:
            host.calm()
        cloud.loop.note("calm")

    @property
    def _loop(self):  # type: ignore[no-untyped-def]
        assert self._cloud is not None
        return self._cloud.loop

    def _note(self, what: str) -> None:
        self._loop.note(f"fault: {what}")

    def _kill_server(self) -> None:
        cloud = self._cloud
        assert cloud is not None
        if cloud.server is not None:
            self._loop.kill(cloud.server.process)

    def _kill_agent(self) -> None:
        assert self._cloud is not None
        host = self._chance.choice(self._cloud.hosts)
        if host.process is not None:
            self._loop.kill(host.process)

    def _stop_process(self) -> None:
        """As SIGTERM does: the main task is cancelled and its `finally` blocks run."""
        assert self._cloud is not None
        mains = [host.main for host in self._cloud.hosts if host.main is not None and not host.main.done()]
        if self._cloud.server is not None and self._cloud.server.main is not None and not self._cloud.server.main.done():
            mains.append(self._cloud.server.main)
        if mains:
            main = self._chance.choice(mains)
            self._note(f"stop {main.get_name()}")
            main.cancel()

    def _power(self) -> None:
        assert self._cloud is not None
        host = self._chance.choice(self._cloud.hosts)
        self._note(f"power of {host.id} lost")
        if host.process is not None:
            self._loop.kill(host.process)
        self._cloud.ended_by_fault.update(host.machines.machines)
        host.lose_power()

    def _partition(self) -> None:
        assert self._cloud is not None
        host = self._chance.choice(self._cloud.hosts)
        if host.link.cut:
            return
        host.link.cut = True
        self._note(f"{host.id} cut off")
        self._loop.call_later(self._chance.uniform(1, 90), lambda: setattr(host.link, "cut", False))

    def _absence(self) -> None:
        """The server, or a host's agent, does not come back for a while."""
        assert self._cloud is not None
        name = self._chance.choice(["server", *(host.id for host in self._cloud.hosts)])
        self._cloud.held_down.add(name)
        for process in self._cloud.processes():
            if process.name == name:
                self._loop.kill(process)
        self._loop.call_later(self._chance.uniform(1, 120), lambda: self._cloud.held_down.discard(name))  # type: ignore[union-attr]

    def _machine_crash(self) -> None:
        self._some_machine(crash=True)

    def _guest_poweroff(self) -> None:
        self._some_machine(crash=False)

    def _some_machine(self, *, crash: bool) -> None:
        assert self._cloud is not None
        running = [
            (host, id)
            for host in self._cloud.hosts
            for id, machine in sorted(host.machines.machines.items())
            if machine.seen.power is Power.ON
        ]
        if not running:
            return
        host, id = self._chance.choice(running)
        self._cloud.ended_by_fault.add(id)
        self._note(f"{id} {'crashes' if crash else 'powers off'}")
        if crash:
            host.machines.crash(id)
        else:
            host.machines.power_off_by_guest(id)

    def _clock_jump(self) -> None:
        """Wall clocks of processes that start from now on are off by so much; those that run keep theirs."""
        assert self._cloud is not None
        jump = self._chance.choice((-3600.0, -5.0, 5.0, 600.0))
        if self._chance.random() < 0.5:
            self._cloud.skew_s += jump
            self._cloud.jump_server(jump)
        else:
            self._chance.choice(self._cloud.hosts).skew_s = jump
        self._note(f"clock jump {jump}")

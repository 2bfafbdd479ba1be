"""A compute driver that simulates: machines are entries of a dictionary, and it fails when it is told to.

It ships with the product: `alto up --simulate N` runs on it, and the simulator (`tests/sim`) turns its knobs. What a real
host keeps over the death of its agent, `FakeMachines` keeps here: hand the same object to the next driver and it finds the
machines again. No guest runs, so nothing answers on the network.

Invariant: without faults it answers as the contract suite (`tests/drivers/compute/test_contract.py`) asks of real drivers.
"""

import asyncio
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec.structs import replace

from alto.drivers.compute.driver import BootFiles, Line, Power, Seen, Tap
from alto.drivers.volume.driver import Disk, Keyring, NoKeys
from alto.kit.event import Event
from alto.kit.world import World
from alto.model.errors import DriverFault, Impossible
from alto.model.hosts import Capabilities
from alto.model.instances import Machine

CONSOLE_BYTES = 64 * 1024
LINE_PIECES_MAX = 1024


class Fault(enum.StrEnum):
    REFUSE = "refuse"  # DriverFault, and nothing was done
    LOSE = "lose"  # done, and then DriverFault: the answer is lost
    HANG = "hang"  # nothing is done; DriverFault only after `hang_s`
    IMPOSSIBLE = "impossible"  # Impossible, and nothing was done


# What `fault_chance` draws from; IMPOSSIBLE ends an instance for good, so only a script asks for it.
_DRAWN = (Fault.REFUSE, Fault.LOSE, Fault.HANG)


@dataclass
class Knobs:
    """Keys are method names ("start", "stop", "fetch"...). Change them at any time; the next call obeys."""

    delay_s: dict[str, tuple[float, float]] = field(default_factory=dict)  # the bounds of a uniform draw
    fault_chance: dict[str, float] = field(default_factory=dict)  # 0..1, drawn at each call
    script: dict[str, list[Fault | None]] = field(default_factory=dict)  # used up from the front, before chance
    hang_s: float = 30.0

    async def before(self, world: World, method: str) -> Fault | None:
        """Half of the delay, then whatever goes wrong before the effect. Returns LOSE for `after`."""
        if not (self.delay_s or self.script or self.fault_chance):
            return None
        await self._delay(world, method)
        fault = self._next(world, method)
        if fault is Fault.REFUSE:
            raise DriverFault(f"The simulated host refused to {method}, as it was told to")
        if fault is Fault.HANG:
            await world.clock.sleep(self.hang_s)
            raise DriverFault(f"The simulated host did not answer to {method} within {self.hang_s:g} s")
        if fault is Fault.IMPOSSIBLE:
            raise Impossible(f"The simulated host can never {method} this, as it was told")
        return fault

    async def after(self, world: World, method: str, fault: Fault | None) -> None:
        """The other half of the delay, so that a crash can fall between effect and answer."""
        if fault is None and not self.delay_s:
            return
        await self._delay(world, method)
        if fault is Fault.LOSE:
            raise DriverFault(f"The simulated host lost its answer to {method}")

    async def _delay(self, world: World, method: str) -> None:
        bounds = self.delay_s.get(method)
        if bounds is not None:
            await world.clock.sleep(world.chance.uniform(*bounds) / 2)

    def _next(self, world: World, method: str) -> Fault | None:
        script = self.script.get(method)
        if script:
            return script.pop(0)
        likely = self.fault_chance.get(method, 0.0)
        if likely and world.chance.uniform(0, 1) < likely:
            return _DRAWN[min(int(world.chance.uniform(0, len(_DRAWN))), len(_DRAWN) - 1)]
        return None


class FakeMachine(msgspec.Struct, frozen=True):
    machine: Machine
    seen: Seen
    starts: int = 0  # how often a process began: re-adoption must not raise it
    resets: int = 0
    console: bytes = b""
    interfaces: tuple[str, ...] = ()  # ids, the primary one first
    disks: tuple[Disk, ...] = ()  # the root volume first


class FakeLine:
    """A serial line with nobody behind it: what is typed comes back, as a terminal shows it."""

    def __init__(self, machines: "FakeMachines", id: str) -> None:
        self._machines = machines
        self._id = id
        self._said: asyncio.Queue[bytes] = asyncio.Queue(LINE_PIECES_MAX)
        self._ended = False

    async def read(self) -> bytes:
        return b"" if self._ended and self._said.empty() else await self._said.get()

    async def write(self, data: bytes) -> None:
        if self._ended:
            raise DriverFault("The serial console has ended")
        self._machines.print(self._id, data.replace(b"\r", b"\r\n"))

    async def close(self) -> None:
        self.end()

    def hear(self, data: bytes) -> None:
        if not self._said.full():
            self._said.put_nowait(data)

    def end(self) -> None:
        self._ended = True
        if self._machines.lines.get(self._id) is self:
            del self._machines.lines[self._id]
        self.hear(b"")


class FakeMachines:
    """What is on one simulated host, whoever drives it. One driver at a time listens to it."""

    def __init__(self) -> None:
        self.machines: dict[str, FakeMachine] = {}
        self.lines: dict[str, FakeLine] = {}  # who holds each machine's serial line
        self.listener: Event | None = None

    def crash(self, id: str) -> None:
        """The machine's process dies by itself, as by `kill -9`. Nothing happens when it is not on."""
        self._power_off(id, crashed=True)

    def power_off_by_guest(self, id: str) -> None:
        """Somebody typed `poweroff` in the guest. Nothing happens when it is not on."""
        self._power_off(id, guest_initiated=True)

    def say(self, id: str, text: str) -> None:
        """One line on the console, of which the last 64 KiB are kept."""
        self.print(id, text.encode() + b"\r\n")

    def print(self, id: str, data: bytes) -> None:
        found = self.machines.get(id)
        if found is not None:
            self.machines[id] = replace(found, console=(found.console + data)[-CONSOLE_BYTES:])
            if id in self.lines:
                self.lines[id].hear(data)

    def _power_off(self, id: str, *, crashed: bool = False, guest_initiated: bool = False) -> None:
        found = self.machines.get(id)
        if found is None or found.seen.power is not Power.ON:
            return
        seen = Seen(power=Power.OFF, incarnation=found.seen.incarnation, crashed=crashed, guest_initiated=guest_initiated)
        self.machines[id] = replace(found, seen=seen)
        self.end_line(id)
        if self.listener is not None:
            self.listener.set()

    def end_line(self, id: str) -> None:
        line = self.lines.get(id)
        if line is not None:
            line.end()


class FakeCompute:
    def __init__(
        self,
        world: World,
        machines: FakeMachines | None = None,
        *,
        vcpus: int = 16,
        memory_mib: int = 65536,
        knobs: Knobs | None = None,
        copy: Callable[[str, Path], None] = lambda volume_id, target: None,
        keys: Keyring | None = None,
    ) -> None:
        """`copy`: how the simulated disks copy a volume into a file."""
        self.machines = machines if machines is not None else FakeMachines()
        self.knobs = knobs if knobs is not None else Knobs()
        self._world = world
        self._copy = copy
        self._keys = keys or NoKeys()
        self._capabilities = Capabilities(kind="fake", accelerator="none", vcpus=vcpus, memory_mib=memory_mib)
        self._changed = Event()
        self.machines.listener = self._changed

    async def capabilities(self) -> Capabilities:
        return self._capabilities

    async def start(self, machine: Machine, boot: BootFiles, taps: Sequence[Tap], disks: Sequence[Disk]) -> None:
        fault = await self.knobs.before(self._world, "start")
        for disk in disks:
            if disk.sealed_key is not None:
                await self._keys.open(disk.sealed_key)
        here = self.machines.machines
        found = here.get(machine.id)
        if found is None or found.seen.power is Power.OFF or found.seen.incarnation < machine.incarnation:
            here[machine.id] = FakeMachine(
                machine,
                Seen(power=Power.ON, incarnation=machine.incarnation),
                starts=found.starts + 1 if found else 1,
                resets=found.resets if found else 0,
                console=found.console if found else b"",
                interfaces=tuple(tap.interface_id for tap in taps),
                disks=tuple(disks),
            )
            self.machines.say(machine.id, f"{machine.id} is simulated: no guest runs here ({machine.hostname} login: )")
        await self.knobs.after(self._world, "start", fault)

    async def attach_interface(self, id: str, tap: Tap) -> None:
        fault = await self.knobs.before(self._world, "attach_interface")
        found = self._running(id)
        if found is not None and tap.interface_id not in found.interfaces:
            self.machines.machines[id] = replace(found, interfaces=(*found.interfaces, tap.interface_id))
        await self.knobs.after(self._world, "attach_interface", fault)

    async def detach_interface(self, id: str, interface_id: str) -> None:
        fault = await self.knobs.before(self._world, "detach_interface")
        found = self._running(id)
        if found is not None:
            left = tuple(one for one in found.interfaces if one != interface_id)
            self.machines.machines[id] = replace(found, interfaces=left)
        await self.knobs.after(self._world, "detach_interface", fault)

    async def interfaces(self, id: str) -> frozenset[str]:
        await self.knobs.before(self._world, "interfaces")
        found = self._running(id)
        return frozenset(found.interfaces) if found is not None else frozenset()

    async def wire(self, id: str, disks: Sequence[Disk]) -> None:
        fault = await self.knobs.before(self._world, "wire")
        found = self._running(id)
        if found is not None and found.disks != tuple(disks):
            had = {disk.volume_id for disk in found.disks}
            for disk in disks:
                if disk.sealed_key is not None and disk.volume_id not in had:
                    await self._keys.open(disk.sealed_key)
            self.machines.machines[id] = replace(found, disks=tuple(disks))
        await self.knobs.after(self._world, "wire", fault)

    async def backup(self, id: str, targets: Mapping[str, Path], *, quiet: bool) -> bool:
        fault = await self.knobs.before(self._world, "backup")
        found = self._running(id)
        if found is None or not targets.keys() <= {disk.volume_id for disk in found.disks}:
            return False
        for volume_id, target in targets.items():
            self._copy(volume_id, target)
        if quiet:
            self.machines.machines[id] = replace(found, resets=found.resets + 1)
        await self.knobs.after(self._world, "backup", fault)
        return True

    def _running(self, id: str) -> FakeMachine | None:
        found = self.machines.machines.get(id)
        return found if found is not None and found.seen.power is Power.ON else None

    async def stop(self, id: str, *, grace_s: float) -> None:
        fault = await self.knobs.before(self._world, "stop")
        found = self.machines.machines.get(id)
        if found is not None and found.seen.power is Power.ON:
            seen = Seen(power=Power.OFF, incarnation=found.seen.incarnation)
            self.machines.machines[id] = replace(found, seen=seen)
            self.machines.end_line(id)
        await self.knobs.after(self._world, "stop", fault)

    async def reboot(self, id: str) -> None:
        fault = await self.knobs.before(self._world, "reboot")
        found = self.machines.machines.get(id)
        if found is None or found.seen.power is Power.OFF:
            raise DriverFault(f"Machine {id} is not on, so it cannot reboot")
        self.machines.machines[id] = replace(found, resets=found.resets + 1)
        self.machines.say(id, f"{id} rebooted")
        await self.knobs.after(self._world, "reboot", fault)

    async def destroy(self, id: str) -> None:
        fault = await self.knobs.before(self._world, "destroy")
        self.machines.machines.pop(id, None)
        self.machines.end_line(id)
        await self.knobs.after(self._world, "destroy", fault)

    async def observe(self) -> Mapping[str, Seen]:
        fault = await self.knobs.before(self._world, "observe")
        seen = {id: found.seen for id, found in self.machines.machines.items()}
        await self.knobs.after(self._world, "observe", fault)
        return seen

    async def wait_change(self, *, timeout_s: float) -> None:
        if await self._changed.wait(timeout_s):
            self._changed.clear()

    async def console(self, id: str) -> bytes:
        await self.knobs.before(self._world, "console")
        found = self.machines.machines.get(id)
        return found.console if found else b""

    async def open_line(self, id: str) -> Line:
        await self.knobs.before(self._world, "open_line")
        if self._running(id) is None:
            raise DriverFault(f"Machine {id} is not on, so its console cannot be opened")
        if id in self.machines.lines:
            raise DriverFault(f"The serial console of {id} is in use")
        line = self.machines.lines[id] = FakeLine(self.machines, id)
        return line

    async def measure(self, id: str) -> bool:
        await self.knobs.before(self._world, "measure")
        found = self.machines.machines.get(id)
        return found is not None and found.seen.power is Power.ON

    async def close(self) -> None:
        if self.machines.listener is self._changed:
            self.machines.listener = None

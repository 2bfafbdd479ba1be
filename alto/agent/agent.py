"""An agent: takes a host's assignments, makes them true through drivers, and reports what it sees.

Every machine is worked on by at most one task, which asks `plan.instances.next_action` for one step at a time until there
is nothing left but to report. The wish is in the manifest, on the disk, before anything is touched; so an agent that dies
at any step goes on where it was. A machine that nobody mentioned is never destroyed: unknown ones are reported.

Not here: what a step does to the kernel or to QEMU (drivers), and why it is wished (the server).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog
from msgspec.structs import replace

from alto.agent.checks import CHECK_S, StatusChecks, Subject
from alto.agent.consoles import Consoles
from alto.agent.keys import HostKeys
from alto.agent.manifests import Manifest, Manifests, newer
from alto.agent.networks import Networks, close
from alto.agent.volumes import VolumeHands
from alto.drivers.balancer.driver import BalancerDriver
from alto.drivers.compute.driver import ComputeDriver, ImageDriver
from alto.drivers.network.driver import NetworkDriver
from alto.drivers.volume.driver import VolumeDriver
from alto.kit.event import Event
from alto.kit.pace import rest_s
from alto.kit.world import World
from alto.model.balancers import BalancerPlan, BalancerReport
from alto.model.errors import AltoError, DriverFault, Impossible, Refused
from alto.model.instances import Machine, Phase, Power, Report, Seen, StateReason, Wish
from alto.model.pressure import Gauges
from alto.model.sessions import Ask, Assignments, Hello, Inventory, Origin, Reports, ServerLink, SessionLost
from alto.plan.instances import Action, next_action, report_of
from alto.plan.pressure import differs

log = structlog.get_logger()

POLL_S = 10.0  # how long one question for assignments waits
SWEEP_S = 5.0  # how often the whole host is looked at, change or not
HEALTH_S = 0.5  # how often balancers are asked for their targets' health, while there are any
PROBE_S = 1.0  # how often guests that have not answered yet are tried
# From the first news to the report, so that a quick start is told in one word.
GATHER_S = 0.005
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 15.0
REFUSED_S = 60.0  # between two tries of a host that was told no
STOP_GRACE_S = 30.0  # how long a guest may take to power itself off, as EC2 gives it some time too
ASKS_MAX = 64  # questions of the server answered side by side
ASK_S = 30.0  # nobody waits longer for an answer
STARTS_MAX = 8  # machines that boot side by side; more only slows all of them down


class AgentStatus(msgspec.Struct, kw_only=True):
    """For `alto status`."""

    connected: bool = False
    machines: int = 0
    working: int = 0
    last_error: str | None = None


class Drivers(msgspec.Struct, frozen=True, kw_only=True):
    compute: ComputeDriver
    images: ImageDriver
    network: NetworkDriver
    balancer: BalancerDriver
    volumes: VolumeDriver | None = None  # None: machines keep roots of their own, and have no other volumes
    keys: HostKeys | None = None  # of encrypted disks; None: there are none on this host


class Agent:
    def __init__(
        self,
        world: World,
        drivers: Drivers,
        manifests: Manifests,
        server: ServerLink,
        *,
        cloud_id: str,
        host_id: str,
        name: str,
        underlay: str = "",
        origin: Origin = Origin(),  # noqa: B008 (frozen)
        gauges: Callable[[], Gauges | None] = lambda: None,
    ) -> None:
        """`gauges`: how full the machine is; None where nothing is real."""
        self._world = world
        self._drivers = drivers
        self._manifests = manifests
        self._server = server
        self._cloud_id = cloud_id
        self._host_id = host_id
        self._name = name
        self._underlay = underlay
        self._origin = origin
        self._gauges = gauges
        self._tasks: asyncio.TaskGroup | None = None
        # What the server wishes, beside the manifests.
        self._session: str | None = None
        self._networks = Networks(world, drivers.network, drivers.compute, machine_of=self._machine_of)
        self._balancers: dict[str, BalancerPlan] = {}
        self._balancers_changed = Event()
        # What is true on this host, as far as we know.
        self._seen: dict[str, Seen] = {}
        self._doubtful: set[str] = set()  # a step failed: it may have happened, so look before the next
        self._failed: dict[str, StateReason] = {}
        self._reached: dict[str, int] = {}  # the incarnation in which a guest answered
        self._unheard: set[str] = set()  # machines that run and whose guests have yet to answer
        self._probe_now = Event()
        self._checks = StatusChecks(world, drivers.compute, drivers.network)
        self._consoles = Consoles(world, drivers.compute)
        self._quarantined: tuple[str, ...] = ()
        # Who works on what.
        self._workers: set[str] = set()
        self._again: set[str] = set()
        self._starts = asyncio.Semaphore(STARTS_MAX)
        self._machine_locks: dict[str, asyncio.Lock] = {}
        self._asked: set[str] = set()  # questions of the server that are being answered
        # What the server has yet to hear.
        self._news = asyncio.Event()
        self._reports = 0
        self._unsent: dict[str, Report] = {}
        self._said: dict[str, tuple[object, ...]] = {}
        self._gauges_unsaid: Gauges | None = None
        self._gauges_said: Gauges | None = None
        self._balancer_reports: dict[str, BalancerReport] = {}
        self._balancers_said: dict[str, tuple[str | None, BalancerReport]] = {}
        self._volumes = VolumeHands(
            world,
            drivers.volumes,
            drivers.compute,
            lock_of=self._machine,
            machines=lambda: [manifest.machine for manifest in manifests.all()],
            news=self._news,
        )
        if drivers.keys is not None:
            drivers.keys.answered_by(self._open_key)
        self.status = AgentStatus()
        self.joined = asyncio.Event()  # the server has taken this host once

    async def run(self) -> None:
        """Until cancelled. Everything found on the host is adopted before the server is asked for anything."""
        await self._first_look()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for name, loop in (
                ("session", self._session_loop),
                ("reports", self._report_loop),
                ("sweep", self._sweep_loop),
                ("networks", self._network_loop),
                ("balancers", self._balancer_loop),
                ("probe", self._probe_loop),
                ("checks", self._check_loop),
                ("consoles", self._consoles.keep),
            ):
                tasks.create_task(self._forever(name, loop), name=f"agent {name}")

    async def _first_look(self) -> None:
        """Nothing is decided before the host was seen once; a driver that fails now is asked again."""
        pause_s = RETRY_FIRST_S
        while True:
            try:
                await self._networks.look()
                return await self._look()
            except AltoError as error:
                self.status.last_error = f"first look: {error}"
                log.warning("host cannot be looked at yet", error=str(error))
                await self._world.clock.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_MAX_S)

    async def _forever(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        pause_s = RETRY_FIRST_S
        while True:
            try:
                await loop()
                pause_s = RETRY_FIRST_S
            except Refused as refused:
                # The server knows us and says no; asking again at once would change nothing.
                self.status.last_error = str(refused)
                log.error("the cloud refuses this host", error=str(refused), code=refused.aws_code)
                await self._pause(REFUSED_S)
            except (AltoError, SessionLost, OSError, TimeoutError) as error:
                self.status.last_error = f"{name}: {error}"
                log.warning("agent loop failed", loop=name, error=str(error))
                await self._pause(pause_s)
                pause_s = min(pause_s * 2, RETRY_MAX_S)

    async def _pause(self, most_s: float) -> None:
        """Not all hosts of a cloud at the same moment."""
        await self._world.clock.sleep(self._world.chance.uniform(most_s / 2, most_s))

    # The session: wishes in, reports out.

    async def _session_loop(self) -> None:
        self._session = None
        self.status.connected = False
        capabilities = await self._volumes.describe(await self._drivers.compute.capabilities())
        capabilities = replace(capabilities, ipv6=self._drivers.network.has_ipv6())
        hello = Hello(
            cloud_id=self._cloud_id,
            host_id=self._host_id,
            name=self._name,
            capabilities=capabilities,
            underlay=self._underlay,
            origin=self._origin,
            found=tuple(manifest.machine for manifest in self._manifests.all()),
        )
        session = await self._server.hello(hello)
        self._said.clear()  # a new session hears everything again
        self._gauges_said = None
        self._measure()
        self._session = session
        self.status.connected = True
        self.joined.set()
        for manifest in self._manifests.all():
            self._poke(manifest.machine.id)
        self._news.set()
        while True:
            news = await self._server.assignments(session, timeout_s=POLL_S)
            if news is not None:
                self._take(news)
                self._answer(session, news.asks)

    def _take(self, news: Assignments) -> None:
        self._networks.take(news.networks, full=news.full)
        self._networks.take_changes(news.network_changes)
        if news.full or news.networks:
            self._networks.adopt(self._running())
        for machine in news.machines:
            self._assign(machine)
        for id, epoch in news.tombstones:
            known = self._manifests.find(id)
            if known is not None and known.machine.epoch <= epoch:
                self._assign(replace(known.machine, wish=Wish.TERMINATED))
        for balancer in news.balancers:
            self._balancers[balancer.id] = balancer
        for id in news.gone_balancers:
            self._balancers.pop(id, None)
            self._balancers_said.pop(id, None)
        if news.full:
            wanted = {plan.id for plan in news.balancers}
            self._balancers = {id: plan for id, plan in self._balancers.items() if id in wanted}
        if news.storage and self._tasks is not None:
            self._volumes.take(news.storage, self._tasks)
        if news.full or news.balancers or news.gone_balancers:
            self._balancers_changed.set()

    def _answer(self, session: str, asks: Sequence[Ask]) -> None:
        """Each question by a task of its own: a slow one holds up neither the others nor the next assignments."""
        for ask in asks:
            if len(self._asked) >= ASKS_MAX:
                log.warning("too many questions at once; not answered", what=ask.what, instance=ask.instance_id)
            elif ask.id not in self._asked and self._tasks is not None:
                self._asked.add(ask.id)
                self._tasks.create_task(self._answer_one(session, ask), name=f"ask {ask.what}")

    async def _answer_one(self, session: str, ask: Ask) -> None:
        try:
            async with asyncio.timeout(ASK_S):
                await self._server.answer(session, ask.id, await self._look_up(ask))
        except (AltoError, SessionLost, OSError, TimeoutError) as error:
            # Whoever asked hears that nobody answered, and asks again.
            log.warning("answer not delivered", what=ask.what, instance=ask.instance_id, error=str(error))
        finally:
            self._asked.discard(ask.id)

    async def _look_up(self, ask: Ask) -> bytes | None:
        try:
            if ask.what == "inventory":
                return msgspec.json.encode(await self._inventory())
            if ask.what == "checks":
                return msgspec.json.encode(self._checks.last(ask.instance_id))
            if ask.line is not None and self._tasks is not None:
                return msgspec.json.encode(await self._consoles.answer(ask.instance_id, ask.line, self._tasks))
            return await self._drivers.compute.console(ask.instance_id)
        except AltoError as error:
            log.warning("question not answered", what=ask.what, instance=ask.instance_id, error=str(error))
            return None

    async def _inventory(self) -> Inventory:
        machines = await self._drivers.compute.observe()
        ports = await self._drivers.network.observe()
        balancers = await self._drivers.balancer.observe()
        volumes, snapshots = await self._volumes.observe()
        return Inventory(
            volumes=volumes,
            snapshots=snapshots,
            machines=tuple((id, seen.incarnation, seen.power is Power.ON) for id, seen in sorted(machines.items())),
            ports=tuple(sorted(port for found in ports.values() for port in found)),
            balancers={
                report.id: tuple(one.instance_id for one in report.health if one.state == "healthy") for report in balancers
            },
        )

    async def _open_key(self, sealed: str) -> str:
        if self._session is None:
            raise DriverFault("The server cannot be asked for the key of a disk now")
        try:
            return await self._server.open_key(self._session, sealed)
        except Refused as refused:
            raise Impossible(str(refused)) from refused
        except (SessionLost, OSError, TimeoutError) as error:
            raise DriverFault("The server did not answer with the key of a disk") from error

    def _machine_of(self, id: str) -> Machine | None:
        manifest = self._manifests.find(id)
        return manifest.machine if manifest is not None else None

    def _running(self) -> list[Machine]:
        on = {id for id, seen in self._seen.items() if seen.power is Power.ON}
        return [manifest.machine for manifest in self._manifests.all() if manifest.machine.id in on]

    def _assign(self, machine: Machine) -> None:
        known = self._manifests.find(machine.id)
        if not newer(machine, known.machine if known else None):
            log.warning("older assignment refused", instance=machine.id, epoch=machine.epoch)
            return
        if known is None and machine.wish is Wish.TERMINATED and machine.id not in self._seen:
            self._say(report_of(machine, None, at=self._world.clock.now()))
            return
        # A machine that comes new does not owe the reboots of its past.
        done = known.reboots_done if known else machine.reboots
        self._manifests.put(Manifest(machine=machine, reboots_done=done))
        self._poke(machine.id)

    async def _report_loop(self) -> None:
        await self._news.wait()
        await self._world.clock.sleep(GATHER_S)
        self._news.clear()
        session = self._session
        if session is None:
            await self._world.clock.sleep(RETRY_FIRST_S)
            self._news.set()
            return
        instances, self._unsent = self._unsent, {}
        balancers = tuple(report for _, report in sorted(self._balancer_reports.items()))
        self._balancer_reports.clear()
        storage = dict(self._volumes.reports)
        self._volumes.reports.clear()
        self._reports += 1
        reports = Reports(
            number=self._reports,
            instances=tuple(report for _, report in sorted(instances.items())),
            balancers=balancers,
            storage=tuple(report for _, report in sorted(storage.items())),
            quarantined=self._quarantined,
            gauges=self._gauges_unsaid,
            at=self._world.clock.now(),
        )
        try:
            await self._server.report(session, reports)
        except Exception:
            # Said again, unless something newer is to be said meanwhile.
            self._unsent = {**instances, **self._unsent}
            for report in balancers:
                self._balancer_reports.setdefault(report.id, report)
            self._volumes.reports = {**storage, **self._volumes.reports}
            self._news.set()
            raise
        if self._gauges_unsaid is reports.gauges:
            self._gauges_unsaid = None
        for said in reports.instances:
            # It is over: what was said is remembered only of machines that may say more.
            if said.phase is Phase.TERMINATED and said.instance_id not in self._unsent:
                self._said.pop(said.instance_id, None)
        await self._world.clock.sleep(rest_s(len(reports.instances)))

    def _measure(self) -> None:
        """How full the machine is: told when it changed."""
        gauges = self._gauges()
        if gauges is not None and differs(gauges, self._gauges_said):
            self._gauges_said = self._gauges_unsaid = gauges
            self._news.set()

    def _say(self, report: Report) -> None:
        reached, wiring = report.guest_reached, (report.attached, report.detached, report.wired)
        word = (report.epoch, report.incarnation, report.phase, reached, *wiring, report.checks)
        if self._said.get(report.instance_id) == word:
            return
        self._said[report.instance_id] = word
        self._unsent[report.instance_id] = report
        self._news.set()

    # Machines: one worker each, while there is something to do.

    def _poke(self, id: str) -> None:
        if id in self._workers:
            self._again.add(id)
            return
        if self._tasks is not None:
            self._workers.add(id)
            self._tasks.create_task(self._work(id), name=f"machine {id}")

    async def _work(self, id: str) -> None:
        pause_s = RETRY_FIRST_S
        try:
            while True:
                self._again.discard(id)
                try:
                    async with self._machine(id):
                        finished = await self._step(id)
                    pause_s = RETRY_FIRST_S
                except Exception as error:
                    # One machine that fails again and again holds up nobody else.
                    if isinstance(error, AltoError):
                        log.warning("step failed", instance=id, error=str(error), cause=str(error.__cause__ or ""))
                    else:
                        log.exception("step failed", instance=id)
                    self.status.last_error = f"{id}: {error}"
                    self._doubtful.add(id)
                    await self._world.clock.sleep(pause_s)
                    pause_s = min(pause_s * 2, RETRY_MAX_S)
                    continue
                if finished and id not in self._again:
                    return
        finally:
            self._workers.discard(id)
            self._again.discard(id)
            if self._manifests.find(id) is None:
                self._machine_locks.pop(id, None)
            if id in self._unheard:
                self._probe_now.set()

    async def _step(self, id: str) -> bool:
        """One step towards the wish; True when there is nothing more to do."""
        manifest = self._manifests.find(id)
        if manifest is None:
            return True
        if id in self._doubtful:
            await self._look_at(id)
        machine, seen = manifest.machine, self._seen.get(id)
        match next_action(machine, seen):
            case Action.START:
                await self._start(machine)
            case Action.STOP:
                await self._drivers.compute.stop(id, grace_s=0.0 if machine.skip_os_shutdown else STOP_GRACE_S)
                self._seen[id] = Seen(power=Power.OFF, incarnation=seen.incarnation if seen else machine.incarnation)
                await self._networks.unplug(machine)
            case Action.DESTROY:
                await self._drivers.compute.destroy(id)
                await self._networks.unplug(machine)
                self._seen.pop(id, None)
            case Action.REPORT | Action.NOTHING:
                return await self._settle(manifest, seen)
        return False

    async def _settle(self, manifest: Manifest, seen: Seen | None) -> bool:
        machine = manifest.machine
        running = seen is not None and seen.power is Power.ON
        if machine.wish is Wish.TERMINATED:
            # A start that was cut off may have left a port without a machine.
            await self._networks.unplug(machine)
            await self._volumes.ended(machine)
            self._say(report_of(machine, seen, at=self._world.clock.now()))
            self._manifests.remove(machine.id)
            self._failed.pop(machine.id, None)
            self._reached.pop(machine.id, None)
            self._checks.forget(machine.id)
            return True
        if running and machine.reboots > manifest.reboots_done:
            await self._drivers.compute.reboot(machine.id)
            self._manifests.put(replace(manifest, reboots_done=machine.reboots))
            return False
        if running:
            await self._networks.follow(machine)
        elif self._networks.holds(machine):
            await self._networks.unplug(machine)
        await self._volumes.wire(machine, running=running)
        if machine.id not in self._again:
            self._tell(machine, seen)
        return True

    def _tell(self, machine: Machine, seen: Seen | None) -> None:
        """What is so of a machine that was brought to where its wish wants it."""
        reached = self._reached.get(machine.id) == machine.incarnation
        if seen is not None and seen.power is Power.ON and not reached:
            self._unheard.add(machine.id)
        checks = self._checks.of(machine.id, machine.incarnation)
        report = report_of(machine, seen, at=self._world.clock.now(), guest_reached=reached, checks=checks)
        if report.phase is Phase.STOPPED and machine.id in self._failed:
            report = replace(report, reason=self._failed[machine.id])
        self._say(report)

    async def _start(self, machine: Machine) -> None:
        async with self._starts:
            try:
                boot = await self._drivers.images.fetch(machine.image_source)
                disks = await self._volumes.made(machine, boot)
                taps = await self._networks.plug(machine)
                try:
                    await self._drivers.compute.start(machine, boot, taps, disks)
                finally:
                    close(taps)
            except Impossible as error:
                # No use trying again: this incarnation is over, and says why.
                log.error("machine cannot start", instance=machine.id, error=str(error), cause=str(error.__cause__ or ""))
                await self._networks.unplug(machine)
                self._failed[machine.id] = StateReason(code="Server.InternalError", message=f"Server.InternalError: {error}")
                self._seen[machine.id] = Seen(power=Power.OFF, incarnation=machine.incarnation, crashed=True)
                return
        self._failed.pop(machine.id, None)
        self._volumes.started(machine)
        self._seen[machine.id] = Seen(power=Power.ON, incarnation=machine.incarnation)

    def _machine(self, id: str) -> asyncio.Lock:
        """Held by whoever changes the machine or its volumes."""
        lock = self._machine_locks.get(id)
        if lock is None:
            lock = self._machine_locks[id] = asyncio.Lock()
        return lock

    # What the host says by itself.

    async def _look(self) -> None:
        """Compare the whole host with what we believe; machines that changed by themselves get a worker."""
        busy = set(self._workers)
        found = dict(await self._drivers.compute.observe())
        for id in sorted(found.keys() | self._seen.keys()):
            # What a worker touched meanwhile, it knows better than a look that began before.
            if id in busy or id in self._workers or self._seen.get(id) == found.get(id):
                continue
            if id in self._failed and id not in found:
                continue
            if id in found:
                self._seen[id] = found[id]
            else:
                del self._seen[id]
            if self._tasks is not None and self._manifests.find(id) is not None:
                self._poke(id)
        quarantined = tuple(id for id in sorted(found) if self._manifests.find(id) is None and id not in self._workers)
        if quarantined != self._quarantined:
            log.warning("machines that nobody assigned are left alone", machines=quarantined)
        self._quarantined = quarantined
        self.status.machines = len(self._manifests.all())
        self.status.working = len(self._workers)

    async def _look_at(self, id: str) -> None:
        """A step whose answer was lost may have been done: only the host itself knows."""
        found = (await self._drivers.compute.observe()).get(id)
        if found is not None:
            self._seen[id] = found
        else:
            self._seen.pop(id, None)
        self._doubtful.discard(id)

    async def _sweep_loop(self) -> None:
        await self._drivers.compute.wait_change(timeout_s=SWEEP_S)
        await self._look()
        self._measure()
        await self._networks.refresh()
        await self._networks.remove_idle(nic.vpc_id for machine in self._running() for nic in machine.nics)

    async def _network_loop(self) -> None:
        await self._networks.changed.wait()
        self._networks.changed.clear()
        try:
            await self._networks.refresh()
        except AltoError:
            self._networks.changed.set()
            raise

    async def _probe_loop(self) -> None:
        """Guests that run and were never heard: try them, until each answered once in this incarnation. The first try comes
        at once: what answers so soon is told together with its start."""
        await self._probe_now.wait(PROBE_S)
        self._probe_now.clear()
        for id in sorted(self._unheard):
            manifest, seen = self._manifests.find(id), self._seen.get(id)
            if manifest is None or seen is None or seen.power is not Power.ON:
                self._unheard.discard(id)
                continue
            port = self._networks.port_of(manifest.machine)
            if id in self._workers or port is None or not await self._drivers.network.reach(port):
                continue
            self._unheard.discard(id)
            self._reached[id] = seen.incarnation
            if self._manifests.find(id) is manifest and self._seen.get(id) is seen and id not in self._workers:
                self._tell(manifest.machine, seen)  # nothing else is new of it
            else:
                self._poke(id)

    async def _check_loop(self) -> None:
        await self._world.clock.sleep(CHECK_S)
        subjects = []
        for machine in self._running():
            port, seen = self._networks.port_of(machine), self._seen[machine.id]
            if port is not None and machine.id not in self._workers and seen.incarnation == machine.incarnation:
                heard = self._reached.get(machine.id) == machine.incarnation
                subjects.append(Subject(id=machine.id, incarnation=machine.incarnation, port=port, heard=heard))
        for id in await self._checks.measure(subjects):
            self._poke(id)

    async def _balancer_loop(self) -> None:
        """Membership as wished, health as measured; both without end while there are balancers."""
        told = await self._balancers_changed.wait(HEALTH_S if self._balancers else POLL_S)
        if not self._balancers and not told:
            return
        self._balancers_changed.clear()
        failed: AltoError | None = None
        try:
            # Asked every time: drains end, and a balancer that died begins again.
            await self._drivers.network.hold({plan.address for plan in self._balancers.values() if not plan.appliance})
            await self._drivers.balancer.ensure([plan for _, plan in sorted(self._balancers.items())])
        except AltoError as error:
            failed = error
            self._balancers_changed.set()
        # Even then: what is wrong may be one balancer's, and the others' members come and go.
        await self._tell_health()
        if failed is not None:
            raise failed

    async def _tell_health(self) -> None:
        for report in await self._drivers.balancer.observe():
            if self._balancers_said.get(report.id) != (self._session, report):
                self._balancers_said[report.id] = (self._session, report)
                self._balancer_reports[report.id] = report
                self._news.set()

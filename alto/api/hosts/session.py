"""The server's side of every agent's session: wishes out, truth in.

A session remembers what it sent and sends what is new; anything it forgets is said again, because each session begins with
everything, and begins anew now and then. A report is accepted only with the right epoch and a greater
(incarnation, phase); what a terminated instance held is given back in the same transaction.
"""

import asyncio
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec
import structlog
from msgspec.structs import replace

from alto.api.hosts.admission import welcome
from alto.api.hosts.keys import keys_of, needs_key
from alto.api.hosts.network_news import NetworkNews
from alto.api.hosts.networks import KINDS as NETWORKS
from alto.api.hosts.rules import KINDS as RULES
from alto.api.hosts.storage import take_job_reports
from alto.api.hosts.whereabouts import Whereabouts
from alto.api.vault import Vault
from alto.kit.event import Event
from alto.kit.pace import rest_s
from alto.kit.world import World
from alto.model.balancers import BalancerPlan, LoadBalancer
from alto.model.errors import DriverFault, Refused
from alto.model.hosts import Host, HostState
from alto.model.instances import Checks, Instance, Phase
from alto.model.networks import NetworkInterface
from alto.model.pressure import Gauges
from alto.model.routing import VpcPeering
from alto.model.sessions import Ask, Assignments, Hello, Inventory, LineCall, LineSaid, Measured, Reports, SessionLost
from alto.model.volumes import StorageJob
from alto.plan.balancing import merge_health
from alto.plan.instances import accept, holds_capacity, machine_of
from alto.plan.joining import Connected
from alto.plan.pressure import under_pressure
from alto.store.claims import let_interfaces_go, release_all, take_room_back
from alto.store.store import Reader, Store, Tx
from alto.store.volumes import settle_wiring

log = structlog.get_logger()

# An agent is connected when it was heard of so lately: longer than a question for assignments waits.
ALIVE_S = 15.0
# How long a removed host may take to clean up before it is asked what is left.
FAREWELL_S = 20.0
# An agent that has not been heard of for so long is shown as unreachable. What it runs is left alone.
SILENT_S = 30.0
# Everything is said again so often, in case a message or a wake-up was lost.
RESYNC_S = 60.0


class _Session:
    """What one host was told. Volatile: a new one begins with everything."""

    def __init__(self, id: str, hello: Hello, name: str, now: float, *, farewell: bool) -> None:
        self.id = id
        self.host_id = hello.host_id
        self.name = name
        self.key = hello.key
        self.origin = hello.origin
        self.farewell = farewell  # of a host that was removed: it hears what to take away, and nothing else
        self.began_at = self.heard_at = now
        self.full_at: float | None = None
        self.networks = NetworkNews(hello.host_id)
        self.sent_balancers: dict[str, BalancerPlan] = {}
        self.orphans: dict[str, int] = {}  # found on the host, ended in the store: instance id -> epoch
        self.dirty_instances: set[str] = set()
        self.dirty_balancers = False
        self.dirty_jobs = False
        self.sent_jobs: dict[str, int] = {}  # the version
        self.asks: list[Ask] = []
        self.heard_report = 0  # the greatest number
        self.quarantined: tuple[str, ...] = ()
        self.gauges: Gauges | None = None
        self.heard_gauges = 0  # the greatest number of a report that had them
        self.wake = Event()


class HostSessions:
    """Implements `ServerLink` for agents, whether they are in this process or come over HTTPS."""

    def __init__(self, world: World, store: Store, cloud_id: str, vault: Vault | None = None) -> None:
        """`vault`: what opens the keys of disks, in a cloud that encrypts any."""
        self._world = world
        self._store = store
        self._cloud_id = cloud_id
        self._vault = vault
        self._by_id: dict[str, _Session] = {}
        self._by_host: dict[str, _Session] = {}
        self._answers: dict[str, tuple[str, asyncio.Future[bytes | None]]] = {}  # ask -> (host, its answer)
        # A host may still be on its way back after this server's start: it is silent only after its time.
        self._began = world.clock.monotonic()
        self._watch = store.watch(
            Host, Instance, LoadBalancer, NetworkInterface, StorageJob, *RULES.values(), *NETWORKS.values()
        )
        self._whereabouts = store.read(Whereabouts)

    async def run(self) -> None:
        """Route changes to the sessions they concern, and mark hosts that fell silent; for ever."""
        checked_at = self._world.clock.monotonic()
        while True:
            changed = await self._watch.changed(timeout_s=5.0)
            self._route(changed)
            await self._world.clock.sleep(rest_s(len(changed)))
            now = self._world.clock.monotonic()
            if now - checked_at >= 5.0:
                checked_at = now
                await self._mark_silent()

    def _route(self, changed: frozenset[tuple[str, str]]) -> None:
        instance_ids, rules, job_ids = [], [], []
        interface_ids: set[str] = set()
        for kind, id in sorted(changed):
            if kind == Instance.KIND:
                instance_ids.append(id)
            elif kind == Host.KIND:
                self._host_changed(id)
            elif kind in RULES:
                rules.append((kind, id))
            elif kind == StorageJob.KIND:
                job_ids.append(id)
            elif kind == NetworkInterface.KIND:
                interface_ids.add(id)
            elif kind == "*":
                self._whereabouts = self._store.read(Whereabouts)
                for host_id in sorted(self._by_host):
                    self._host_changed(host_id)
                for session in self._by_host.values():
                    session.full_at = None
                    session.wake.set()
            elif kind == LoadBalancer.KIND:
                balancer = self._store.read(lambda reader, id=id: reader.find(LoadBalancer, id))  # type: ignore[misc]
                for vpc_id in self._whereabouts.put_balancer(id, balancer):
                    self._moved(vpc_id)
                for session in self._by_host.values():
                    session.dirty_balancers = True
                    session.wake.set()
            else:
                self._network_changed(kind, id)
        for session in self._by_host.values() if interface_ids else ():
            # Each launch makes one, and hardly any is named by a route.
            if session.networks.router_changed(interface_ids):
                session.wake.set()
        if rules:
            rows = self._store.read(lambda reader: [reader.find(RULES[kind], id) for kind, id in rules])
            for (kind, id), row in zip(rules, rows, strict=True):
                for session in self._by_host.values():
                    if session.networks.rule_changed(kind, id, row):
                        session.wake.set()
        if job_ids:
            for job in self._store.read(lambda reader: [reader.find(StorageJob, id) for id in job_ids]):
                mine = self._by_host.get(job.host_id) if job is not None else None
                if mine is not None:
                    mine.dirty_jobs = True
                    mine.wake.set()
        if instance_ids:
            instances = self._store.read(lambda reader: [reader.find(Instance, id) for id in instance_ids])
            for id, instance in zip(instance_ids, instances, strict=True):
                self._instance_changed(id, instance)
                if instance is None:
                    continue
                mine = self._by_host.get(instance.host_id or "")
                if mine is None:
                    continue
                # What came back is mostly the host's own report, which is no news to it.
                told = mine.networks.machines.get(instance.id)
                if instance.phase is Phase.TERMINATED or mine.wake.is_set():
                    mine.dirty_instances.add(instance.id)
                elif told is None or told != machine_of(instance):
                    mine.dirty_instances.add(instance.id)
                    mine.wake.set()
            lived_in = {instance.nic.vpc_id for instance in instances if instance is not None}
            for session in self._by_host.values():
                # Who is in a group of a peered VPC decides what its rules let through here.
                if session.networks.peers_changed(lived_in):
                    session.wake.set()

    def _host_changed(self, id: str) -> None:
        host = self._dismiss_if_gone(id)
        if self._whereabouts.put_host(id, host):
            # It may have been unknown until now.
            found = self._store.read(lambda reader: reader.where(Instance, host_id=id)) if host is not None else []
            for instance in found:
                self._whereabouts.put_instance(instance.id, instance)
            for session in self._by_host.values():
                if self._whereabouts.is_known(session.host_id):
                    session.networks.all_changed()
                    session.wake.set()

    def _network_changed(self, kind: str, id: str) -> None:
        """A row that plans are made of, but for rules, changed: hosts that have its VPCs, or peers of these, hear of it."""
        row = self._store.read(lambda reader: reader.find(NETWORKS[kind], id))
        vpc_ids = {one for vpc_id in self._whereabouts.put_row(id, row) for one in self._whereabouts.concerned(vpc_id)}
        if kind == VpcPeering.KIND:
            self._whereabouts.put_peering(id, row if isinstance(row, VpcPeering) else None)
        for session in self._by_host.values():
            if session.networks.vpc_changed(vpc_ids):
                session.wake.set()
        for vpc_id in vpc_ids if kind == VpcPeering.KIND else ():
            self._moved(vpc_id)

    def _instance_changed(self, id: str, instance: Instance | None) -> None:
        hosts = {self._whereabouts.host_of(id)}
        moved = self._whereabouts.put_instance(id, instance)
        if moved:
            hosts.add(self._whereabouts.host_of(id))
            for vpc_id, interface_ids in moved.items():
                self._moved(vpc_id, interface_ids, hosts - {None})

    def _moved(
        self, vpc_id: str, interface_ids: AbstractSet[str] = frozenset(), where: AbstractSet[str | None] = frozenset()
    ) -> None:
        """Interfaces in the VPC, on these hosts, or what balances them changed: hosts that have something of it, or of its
        peers, hear of the others' part. A host that is alone with a VPC is told nothing by it."""
        for one in self._whereabouts.concerned(vpc_id):
            hosts = self._whereabouts.hosts_of(one)
            for session in self._by_host.values():
                moved = interface_ids if one == vpc_id else frozenset()
                if session.networks.shares(one, hosts) and session.networks.moved(
                    self._whereabouts, one, moved, here=where == {session.host_id}
                ):
                    session.wake.set()

    async def _mark_silent(self) -> None:
        now = self._world.clock.monotonic()
        states: dict[str, HostState] = {}
        for host in self._store.read(lambda reader: reader.where(Host)):
            session = self._by_host.get(host.id)
            silent = now - (session.heard_at if session is not None else self._began) > SILENT_S
            if silent and host.state is HostState.READY:
                states[host.id] = HostState.UNREACHABLE
            elif not silent and session is not None and host.state is HostState.UNREACHABLE:
                states[host.id] = HostState.READY

        def body(tx: Tx) -> None:
            for id, state in states.items():
                host = tx.find(Host, id)
                if host is not None:
                    tx.put(replace(host, state=state))

        if states:
            await self._store.write(body)
            log.warning("hosts changed state", hosts={id: str(state) for id, state in states.items()})

    # What agents call.

    async def hello(self, hello: Hello) -> str:
        if hello.cloud_id != self._cloud_id:
            raise Refused(
                "WrongCloud",
                f"This is cloud {self._cloud_id}, and the host belongs to {hello.cloud_id}. To move it: alto agent --down, "
                "then join with a token of this cloud",
                status=403,
            )
        now = self._world.clock.now()
        taken = await self._store.write(lambda tx: welcome(tx, hello, self.connected(), now))
        session = _Session(
            "s-" + self._world.chance.hex(16),
            hello,
            taken.name,
            self._world.clock.monotonic(),
            farewell=taken.farewell,
        )
        session.orphans = taken.tombstones
        self._host_changed(hello.host_id)
        self._by_id[session.id] = session
        if not taken.farewell:
            # A host that was replaced has its successor in this place.
            old = self._by_host.get(hello.host_id)
            if old is not None:
                self._end(old)
            self._by_host[hello.host_id] = session
        log.info("host joined", host=hello.host_id, name=taken.name, found=len(hello.found), farewell=taken.farewell)
        return session.id

    def connected(self) -> list[Connected]:
        """Agents that were heard of just now."""
        now = self._world.clock.monotonic()
        return [
            Connected(host_id=one.host_id, name=one.name, origin=one.origin)
            for one in self._by_host.values()
            if now - one.heard_at <= ALIVE_S
        ]

    def belongs(self, session: str, key: str | None) -> bool:
        """Whether the agent with this key may speak in this session."""
        found = self._by_id.get(session)
        return found is not None and found.key == key

    def silence(self, host_id: str) -> float | None:
        """Seconds since the host was heard of; None when it was not since this server began."""
        session = self._by_host.get(host_id)
        return self._world.clock.monotonic() - session.heard_at if session is not None else None

    def _dismiss_if_gone(self, host_id: str) -> Host | None:
        """A host was removed, or is another machine's now: whoever speaks for it must say hello again."""
        host = self._store.read(lambda reader: reader.find(Host, host_id))
        session = self._by_host.get(host_id)
        if session is not None and (host is None or host.key != session.key):
            del self._by_host[host_id]
            self._end(session)
        return host

    def _end(self, session: _Session) -> None:
        self._by_id.pop(session.id, None)
        session.wake.set()

    async def assignments(self, session: str, *, timeout_s: float) -> Assignments | None:
        mine = self._session(session)
        now = self._world.clock.monotonic()
        if mine.farewell:
            return await self._say_farewell(mine, timeout_s)
        full = mine.full_at is None or now - mine.full_at >= RESYNC_S
        if not full and not mine.wake.is_set():
            if not await mine.wake.wait(timeout_s):
                self._session(session)
                return None
            full = mine.full_at is None
        self._session(session)
        mine.wake.clear()
        asks, mine.asks = tuple(mine.asks), []
        if full:
            mine.full_at = now
            news = self._store.read(lambda reader: self._everything(reader, mine))
        else:
            news = self._store.read(lambda reader: self._news(reader, mine))
        return replace(news, asks=asks) if asks else news

    async def _say_farewell(self, session: _Session, timeout_s: float) -> Assignments | None:
        if session.full_at is None:
            session.full_at = self._world.clock.monotonic()
            return Assignments(full=True, tombstones=tuple(sorted(session.orphans.items())))
        await self._world.clock.sleep(timeout_s)
        if self._world.clock.monotonic() - session.began_at > FAREWELL_S:
            # The next hello shows what is left; when nothing is, it is told why.
            self._end(session)
            raise SessionLost(session.id)
        return None

    async def report(self, session: str, reports: Reports) -> None:
        mine = self._session(session)
        if mine.farewell:
            return
        if reports.quarantined != mine.quarantined:
            mine.quarantined = reports.quarantined
            log.warning("machines that nobody assigned", host=mine.host_id, machines=reports.quarantined)
        if reports.gauges is not None and reports.number > mine.heard_gauges:
            mine.heard_gauges, mine.gauges = reports.number, reports.gauges
            await self._judge_pressure(mine, reports.gauges)
        if not reports.instances and not reports.balancers and not reports.storage:
            return

        now = self._world.clock.now()

        def body(tx: Tx) -> None:
            # Asked here, not before: while this one waited for the writer, a later one may have come, or a new session.
            self._session(session)
            late = reports.number <= mine.heard_report
            mine.heard_report = max(mine.heard_report, reports.number)
            _take_reports(tx, mine.host_id, reports, now, late=late)

        await self._store.write(body, patient=True)

    async def _judge_pressure(self, session: _Session, gauges: Gauges) -> None:
        """Numbers are kept here; only what changes for placement is written."""

        def news(reader: Reader) -> Host | None:
            host = reader.find(Host, session.host_id)
            if host is None or session.gauges is not gauges:  # gone, or something later was said meanwhile
                return None
            pressure = under_pressure(gauges, host.pressure)
            return replace(host, pressure=pressure) if pressure != host.pressure else None

        def body(tx: Tx) -> None:
            # Asked here too: another session may have begun while this one waited for the writer.
            self._session(session.id)
            host = news(tx)
            if host is not None:
                tx.put(host)

        found = self._store.read(news)
        if found is not None:
            await self._store.write(body)
            log.warning("a host's pressure changed", host=session.host_id, short_of=[str(one) for one in found.pressure])

    def gauges(self, host_id: str) -> Gauges | None:
        """How full the host's machine was when it last said so; None when it has not since this server began."""
        session = self._by_host.get(host_id)
        return session.gauges if session is not None else None

    async def answer(self, session: str, ask: str, data: bytes | None) -> None:
        mine = self._session(session)
        host_id, waiting = self._answers.get(ask, ("", None))
        # A host answers what it was asked itself; another's question is none of its business.
        if waiting is not None and not waiting.done() and host_id == mine.host_id:
            waiting.set_result(data)

    async def open_key(self, session: str, sealed: str) -> str:
        mine = self._session(session)
        # Mostly of a machine that it was told of: then nothing is read.
        told = any(sealed in keys_of(machine) for machine in mine.networks.machines.values())
        if self._vault is None or not (told or self._store.read(lambda reader: needs_key(reader, mine.host_id, sealed))):
            log.warning("a host asked for a key that it does not need", host=mine.host_id)
            raise Refused("UnauthorizedKey", "This host was given nothing that the key opens", status=403)
        return self._vault.open(sealed)

    # What operations ask of hosts.

    async def console(self, host_id: str, instance_id: str, *, timeout_s: float) -> bytes:
        """The last of what the serial console said. Raises: DriverFault when the host does not answer."""
        return await self._ask(host_id, "console", instance_id, timeout_s=timeout_s) or b""

    async def inventory(self, host_id: str, *, timeout_s: float) -> Inventory:
        """What is on the host now. Raises: DriverFault when the host does not answer."""
        data = await self._ask(host_id, "inventory", "", timeout_s=timeout_s)
        if data is None:
            raise DriverFault(f"Host {host_id} could not look at itself")
        return msgspec.json.decode(data, type=Inventory)

    async def measured(self, host_id: str, instance_id: str, *, timeout_s: float) -> Measured | None:
        """What status checks found last. Raises: DriverFault when the host does not answer."""
        data = await self._ask(host_id, "checks", instance_id, timeout_s=timeout_s)
        return msgspec.json.decode(data, type=Measured | None) if data is not None else None

    async def line(self, host_id: str, instance_id: str, call: LineCall, *, timeout_s: float) -> LineSaid | None:
        """What a live serial console answers; None when the machine has none now. Raises: DriverFault, as above."""
        data = await self._ask(host_id, "line", instance_id, line=call, timeout_s=timeout_s)
        return msgspec.json.decode(data, type=LineSaid) if data is not None else None

    async def _ask(
        self, host_id: str, what: str, instance_id: str, *, timeout_s: float, line: LineCall | None = None
    ) -> bytes | None:
        session = self._by_host.get(host_id)
        if session is None:
            raise DriverFault(f"Host {host_id} is not connected")
        ask = Ask(id="q-" + self._world.chance.hex(16), what=what, instance_id=instance_id, line=line)
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._answers[ask.id] = (host_id, answer)
        session.asks.append(ask)
        session.wake.set()
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise DriverFault(f"Host {host_id} did not answer within {timeout_s:g} s") from error
        finally:
            del self._answers[ask.id]
            # An agent that fell silent must not find the questions of hours when it is back.
            if ask in session.asks:
                session.asks.remove(ask)

    def _session(self, id: str) -> _Session:
        session = self._by_id.get(id)
        if session is None:
            raise SessionLost(id)
        session.heard_at = self._world.clock.monotonic()
        return session

    # What a host should know.

    def _everything(self, reader: Reader, session: _Session) -> Assignments:
        instances = reader.where(Instance, host_id=session.host_id)
        machines = {one.id: machine_of(one) for one in instances if one.phase is not Phase.TERMINATED}
        session.dirty_instances.clear()
        session.sent_balancers = {}
        session.sent_jobs = {}
        networks = session.networks.everything(reader, self._whereabouts, machines.values())
        balancers, gone = self._new_balancers(reader, session)
        return Assignments(
            full=True,
            machines=tuple(machines.values()),
            tombstones=tuple(sorted(session.orphans.items())),
            networks=networks,
            balancers=balancers,
            gone_balancers=gone,
            storage=self._new_jobs(reader, session),
        )

    def _news(self, reader: Reader, session: _Session) -> Assignments:
        machines = []
        dirty, session.dirty_instances = session.dirty_instances, set()
        for id in sorted(dirty):
            instance = reader.find(Instance, id)
            if instance is None or instance.host_id != session.host_id or instance.phase is Phase.TERMINATED:
                session.networks.drop(id)
                continue
            machine = machine_of(instance)
            if session.networks.machines.get(id) != machine:
                session.networks.put(machine)
                machines.append(machine)
        networks, changes = session.networks.news(reader, self._whereabouts)
        balancers: tuple[BalancerPlan, ...] = ()
        gone: tuple[str, ...] = ()
        if session.dirty_balancers:
            balancers, gone = self._new_balancers(reader, session)
        return Assignments(
            full=False,
            machines=tuple(machines),
            networks=networks,
            network_changes=changes,
            balancers=balancers,
            gone_balancers=gone,
            storage=self._new_jobs(reader, session) if session.dirty_jobs else (),
        )

    def _new_jobs(self, reader: Reader, session: _Session) -> tuple[StorageJob, ...]:
        session.dirty_jobs = False
        jobs = {one.id: one for one in reader.where(StorageJob, host_id=session.host_id)}
        news = tuple(job for id, job in jobs.items() if session.sent_jobs.get(id) != job.version)
        session.sent_jobs = {id: job.version for id, job in jobs.items()}
        return news

    def _new_balancers(self, reader: Reader, session: _Session) -> tuple[tuple[BalancerPlan, ...], tuple[str, ...]]:
        session.dirty_balancers = False
        plans = {one.id: balancer_plan(one) for one in reader.where(LoadBalancer, host_id=session.host_id)}
        gone = tuple(sorted(id for id in session.sent_balancers if id not in plans))
        news = tuple(plan for id, plan in sorted(plans.items()) if session.sent_balancers.get(id) != plan)
        session.sent_balancers = plans
        return news, gone


def balancer_plan(balancer: LoadBalancer) -> BalancerPlan:
    return BalancerPlan(
        id=balancer.id,
        name=balancer.name,
        address=balancer.address,
        port=balancer.port,
        check=balancer.check,
        drain_s=balancer.drain_s,
        targets=balancer.targets,
        appliance=balancer.appliance,
    )


def _shifted(checks: Checks, by_s: float) -> Checks:
    machine, guest = checks.machine_failed_since, checks.guest_failed_since
    return Checks(
        machine_failed_since=machine + by_s if machine is not None else None,
        guest_failed_since=guest + by_s if guest is not None else None,
    )


def _take_reports(tx: Tx, host_id: str, reports: Reports, now: float, *, late: bool = False) -> None:
    """`late`: something later was heard already. Then only what orders itself, by incarnation and phase, is taken."""
    if late:
        reports = replace(reports, balancers=())
    for said in reports.instances:
        # A host's clock may be wrong by hours; what it knows is how long ago it was when it said so.
        checks = _shifted(said.checks, now - reports.at) if said.checks is not None and not late else None
        report = replace(said, at=now - max(0.0, reports.at - said.at), checks=checks)
        instance = tx.find(Instance, report.instance_id)
        if instance is None or instance.host_id != host_id:
            continue
        news = accept(instance, report)
        if news is None:
            continue
        if holds_capacity(instance) and not holds_capacity(news):
            take_room_back(tx, instance)
        if news.wired > instance.wired:
            news = settle_wiring(tx, news, report.at)
        if news.phase is Phase.TERMINATED:
            release_all(tx, news)
        elif len(news.nics) < len(instance.nics):
            let_interfaces_go(tx, instance, news)
        tx.put(news)
    take_job_reports(tx, host_id, reports.storage, now)
    by_id: Mapping[str, LoadBalancer] = (
        {one.id: one for one in tx.where(LoadBalancer, host_id=host_id)} if reports.balancers else {}
    )
    for measured in reports.balancers:
        balancer = by_id.get(measured.id)
        if balancer is None:
            continue
        changed = replace(
            balancer, ready=measured.ready, unready_because=measured.unready_because, measured=measured.appliance_id
        )
        # What was said of its members while it did not serve, or by another before it, is no verdict: their time begins now.
        before = balancer.health if balancer.serves or not changed.serves else ()
        changed = replace(changed, health=merge_health(before, measured.health, now))
        if changed != balancer:
            tx.put(changed)

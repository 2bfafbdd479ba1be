"""One HAProxy for all balancers of this host: its process, its members, its health.

HAProxy is detached and found again by its command line in /proc, so it outlives us and is taken over as it is. What sits
in which slot is written down (members.json, fsynced) before it is done; `layout.py` decides, this file compares with what
HAProxy says and closes the difference. A reload happens only when balancers come or go, slots run out, or a namespace was
made anew; it hands the listening sockets over, so no connection is refused.

Privileges: connecting from inside a VPC's namespace is setns(2), which needs CAP_SYS_ADMIN for as long as HAProxy runs,
so HAProxy's own `user` (which drops everything) can not be used. It is started as an unprivileged user with exactly
CAP_SYS_ADMIN and CAP_NET_BIND_SERVICE, no others in its bounding set, and no_new_privs.

The invariant: a member takes traffic only after it answered its health check, and is cut off only after it had no
sessions left or its `drain_s` is over.
"""

import asyncio
import errno
import os
import pwd
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import msgspec
import structlog

from alto.drivers.balancer.haproxy.config import complaint, render, server_name
from alto.drivers.balancer.haproxy.layout import (
    Balancer,
    Layout,
    Slot,
    Use,
    answered,
    arrange,
    needs_reload,
    released,
)
from alto.drivers.balancer.haproxy.runtime import ANSWER_BYTES_MAX, Conversation, Runtime, Server
from alto.kit.world import NETNS_DIR, Finished, Pid, World
from alto.model.balancers import BalancerPlan, BalancerReport, TargetHealth, TargetState
from alto.model.errors import DriverFault

log = structlog.get_logger()

START_S = 10.0
STOP_S = 5.0
RELEASE_S = 2.0
POLL_S = 0.02
EMPTY_S = 1.0  # who asks again and again has had an answer by then, and come back
TRIES_MAX = 100  # to reach one of two; of a dozen, five were enough
SILENT_MAX = 3
NOT_RUNNING = "the balancer is not running"
LOG_CHECK_S = 60.0
LOG_SIZE = "+32M"  # then one old log is kept beside the new one
SOCKET_PATH_MAX = 90  # 107 bytes fit into sockaddr_un; HAProxy adds ".PID.tmp" while it binds
_CAPABILITIES = "-all,+sys_admin,+net_bind_service"


class HaproxyBalancer:
    """A BalancerDriver. Call `ensure` on every sweep: when nothing changed it costs two questions to HAProxy, and it also
    finishes drains and starts a HAProxy that died."""

    def __init__(
        self, world: World, *, folder: Path, netns_of: Callable[[str], str | None], binary: str = "/usr/sbin/haproxy"
    ) -> None:
        """`folder` becomes HAProxy's own (socket, configuration, log); every folder above it must let an unprivileged user
        pass (mode o+x). `netns_of(vpc_id)` names the namespace members of that VPC live in; None for this host's own."""
        self._world = world
        self._folder = folder
        self._netns_of = netns_of
        self._binary = binary
        self._socket = folder / "haproxy.sock"
        self._runtime = Runtime(lambda: world.net.connect_unix(self._socket, limit=ANSWER_BYTES_MAX))
        self._config = folder / "haproxy.cfg"
        self._server_state = folder / "server-state"
        self._members = folder / "members.json"
        self._log = folder / "haproxy.log"
        self._lock = asyncio.Lock()
        self._layout: Layout | None = None
        self._alone = False  # nobody but the youngest process answers, as far as we know
        self._told: set[Pid] = set()  # to stop, and maybe not through yet
        self._draining_since: dict[tuple[str, str], float] = {}
        self._log_checked_at = 0.0
        self._silent = 0

    async def ensure(self, plans: Sequence[BalancerPlan]) -> None:
        async with self._lock:
            complaints = {plan.id: why for plan in plans if (why := complaint(plan))}
            good = [plan for plan in plans if plan.id not in complaints]
            before = self._current_layout()
            running = await self._answering()
            complaints |= self._unbindable(good, before) if running else await self._unbindable_after_death(good, before)
            good = [plan for plan in good if plan.id not in complaints]
            if not good and running is None and not self._found():
                self._remember(Layout())
            else:
                await self._make_true(before, good, running)
            if complaints:
                raise DriverFault("; ".join(f"{id}: {why}" for id, why in sorted(complaints.items())))

    async def observe(self) -> list[BalancerReport]:
        async with self._lock:
            layout = self._current_layout()
            if not layout.balancers:
                return []
            try:
                await self._settle()
                servers = await self._runtime.servers()
            except DriverFault:
                return [_report(balancer, None) for balancer in layout.balancers]
            layout = await self._close_difference(layout, servers)
            await self._keep_log_small()
            return [_report(balancer, servers) for balancer in layout.balancers]

    async def remove_all(self) -> None:
        async with self._lock:
            for pid in self._found():
                self._world.processes.signal(pid, signal.SIGKILL)
                await self._world.processes.wait_gone(pid, timeout_s=STOP_S)
            if left := self._found():
                raise DriverFault("a balancer does not end") from RuntimeError(f"pids {[pid.pid for pid in left]}")
            self._world.files.remove_tree(self._folder)
            self._layout = None
            self._draining_since.clear()

    async def close(self) -> None:
        pass

    # The layout, in memory and on the disk.

    def _current_layout(self) -> Layout:
        if self._layout is None:
            try:
                self._layout = msgspec.json.decode(self._world.files.read(self._members), type=Layout)
            except FileNotFoundError:
                self._layout = Layout()
            except msgspec.MsgspecError:
                # Written by another version: HAProxy runs on, and the next `ensure` reloads it from the plans.
                self._layout = Layout()
        return self._layout

    def _remember(self, layout: Layout) -> None:
        if layout == self._layout:
            return
        if self._world.files.exists(self._folder):
            self._world.files.write(self._members, msgspec.json.encode(layout))
        self._layout = layout

    def _write_config(self, layout: Layout) -> None:
        text = render(layout, socket=self._socket, server_state=self._server_state)
        # Readable by HAProxy's user, in a folder that is closed to others.
        self._world.files.write(self._config, text.encode(), mode=0o644)

    # From plans to a running HAProxy.

    async def _make_true(self, before: Layout, plans: Sequence[BalancerPlan], running: Pid | None) -> None:
        netns_ids = await self._netns_ids(plans)
        after = arrange(before, plans, netns_of=self._netns_of, netns_ids=netns_ids)
        if running is None or needs_reload(before, after):
            await self._make_folder()
            # Who is cut off before it runs with that, does it again.
            self._remember(msgspec.structs.replace(after, runs=False))
            await self._start(after, running)
            self._remember(after)
        elif after != before:
            self._remember(after)
            # Lazily, for whoever starts HAProxy after it died; the running one never reads it.
            self._write_config(after)
        await self._close_difference(after, await self._runtime.servers())

    async def _close_difference(self, layout: Layout, servers: Mapping[tuple[str, str], Server]) -> Layout:
        """Tell HAProxy what it does not yet do; note who answered and which slots are free again."""
        now = self._world.clock.monotonic()
        free: set[tuple[str, str]] = set()
        new_answers: set[tuple[str, str]] = set()
        draining: set[tuple[str, str]] = set()
        for balancer in layout.balancers:
            for slot in balancer.slots:
                key = balancer.id, slot.name
                server = servers.get(key)
                if server is None:
                    raise DriverFault("the balancer runs with another configuration than it was given")
                if slot.use is Use.MEMBER:
                    if await self._join(balancer, slot, server) and server.up and not slot.answered:
                        new_answers.add(key)
                elif slot.use is Use.FREE:
                    if not server.maintenance:
                        await self._runtime.tell(f"set server {server_name(balancer.id, slot)} state maint")
                else:
                    draining.add(key)
                    since = self._draining_since.setdefault(key, now)
                    if await self._drain(balancer, slot, server, over=now - since >= balancer.drain_s):
                        free.add(key)
        for key in set(self._draining_since) - draining | free:
            self._draining_since.pop(key, None)
        after = released(answered(layout, new_answers), free)
        if after != layout:
            self._remember(after)
            self._write_config(after)
            with suppress(DriverFault):  # only a restart after HAProxy's own death would have used it
                self._world.files.write(self._server_state, (await self._runtime.server_state()).encode(), mode=0o644)
        return after

    async def _join(self, balancer: Balancer, slot: Slot, server: Server) -> bool:
        """True when this slot already serves its member (healthy or not), and nothing had to be said."""
        assert slot.target is not None
        name = server_name(balancer.id, slot)
        target = slot.target
        if (server.address, server.port) != (target.private_ip, target.port) or server.maintenance:
            # By way of drain: leaving maintenance makes HAProxy believe that a server is up, and it must not get a
            # request before its first check. In drain it gets none, and from there it keeps "down" when it becomes ready.
            await self._runtime.tell(f"set server {name} state maint")
            await self._runtime.tell(f"set server {name} addr {target.private_ip} port {target.port}")
            await self._runtime.tell(f"set server {name} state drain")
            await self._runtime.tell(f"set server {name} health down")
            await self._runtime.tell(f"set server {name} state ready")
            return False
        if server.draining:
            await self._runtime.tell(f"set server {name} state ready")
        return True

    async def _drain(self, balancer: Balancer, slot: Slot, server: Server, *, over: bool) -> bool:
        """True when HAProxy has let go of the member and the slot may be given away."""
        name = server_name(balancer.id, slot)
        if server.maintenance:
            return slot.use is Use.LEAVING
        if not server.draining:
            await self._runtime.tell(f"set server {name} state drain")
        elif slot.use is Use.LEAVING and (server.sessions == 0 or over):
            await self._runtime.tell(f"set server {name} state maint")
            if server.sessions:
                await self._runtime.ask(f"shutdown sessions server {name}")
        return False

    # The process.

    async def _start(self, layout: Layout, running: Pid | None) -> None:
        """A HAProxy with the layout's configuration runs; `running` hands over its sockets and finishes what it has."""
        if running is not None:
            state = await self._runtime.server_state()
            self._world.files.write(self._server_state, state.encode(), mode=0o644)
        elif not self._world.files.exists(self._server_state):
            self._world.files.write(self._server_state, b"1\n", mode=0o644)
        self._write_config(layout)
        argv = [*self._as_balancer_user(), self._binary, "-db", "-f", str(self._config)]
        if running is not None:
            argv += ["-x", str(self._socket)]
        if others := [pid for pid in self._found() if pid != running]:
            # All of them: one that lost its socket would go on taking its share of the connections.
            argv += ["-sf", *(str(pid.pid) for pid in others)]
        checked = await self._run([*self._as_balancer_user(), self._binary, "-c", "-q", "-f", str(self._config)])
        if checked.returncode != 0:
            raise DriverFault("the balancer's configuration does not load") from RuntimeError(checked.complaint())
        self._alone = running is None  # two answer until `_settle` is through, by us or by who comes after us
        started = await self._world.processes.spawn(argv, log=self._log)
        await self._answers(started)
        await self._settle()

    async def _settle(self) -> None:
        """The youngest process answers alone. A replacement ends here, at whichever step its beginner was cut off."""
        if self._alone:
            return
        found = sorted(self._found(), key=lambda pid: pid.started)
        self._told &= set(found)
        if older := [pid for pid in found[:-1] if pid not in self._told]:
            # Only then: it takes over their listening sockets, and nobody is to be refused meanwhile.
            await self._answers(found[-1])
        for pid in older:
            await self._retire(pid)
        self._alone = True

    async def _retire(self, pid: Pid) -> None:
        """It takes no connections any more, those that ask just now leave with their next answer, and then it is told to
        stop. Not before: HAProxy 2.6 forgets the namespaces of its servers then, and a request that it had taken and that
        needs a new connection is answered by 503. Who idles is hung up on, and comes anew."""
        async with self._conversation_with(pid) as old:
            if old is not None:
                try:
                    for frontend in await old.frontends():
                        await old.ask(f"shutdown frontend {frontend}")
                    await self._until(old, "CurrConns", lambda value: value == 0, EMPTY_S)
                except DriverFault as fault:  # it goes all the same, and requests may be lost with it
                    log.warning(
                        "a balancer that was replaced is not asked to finish",
                        pid=pid.pid,
                        error=str(fault),
                        cause=repr(fault.__cause__),
                    )
            self._world.processes.signal(pid, signal.SIGUSR1)
            self._told.add(pid)
            if old is not None:
                with suppress(DriverFault):  # until then, both answer at the socket
                    await self._until(old, "Stopping", lambda value: value > 0, START_S)

    @asynccontextmanager
    async def _conversation_with(self, pid: Pid) -> AsyncIterator[Conversation | None]:
        """None for one that answers no more: it was told to stop. Who of two answers at their one socket is chance."""
        for _ in range(TRIES_MAX):
            async with self._runtime.conversation() as found:
                if await found.info("Pid") == pid.pid:
                    yield found
                    return
        yield None

    async def _until(self, old: Conversation, key: str, fine: Callable[[int], bool], seconds: float) -> None:
        deadline = self._world.clock.monotonic() + seconds
        while not fine(await old.info(key)) and self._world.clock.monotonic() < deadline:
            await self._world.clock.sleep(POLL_S)

    async def _answers(self, pid: Pid) -> None:
        deadline = self._world.clock.monotonic() + START_S
        while self._world.clock.monotonic() < deadline:
            if not self._world.processes.alive(pid):
                raise DriverFault("the balancer ended as soon as it was started") from RuntimeError(f"see {self._log}")
            with suppress(DriverFault):
                if await self._runtime.pid() == pid.pid:
                    return
            await self._world.clock.sleep(POLL_S)
        self._world.processes.signal(pid, signal.SIGKILL)
        raise DriverFault(f"the balancer did not answer within {START_S:.0f} s")

    async def _answering(self) -> Pid | None:
        """The HAProxy that owns our socket, or None when nobody does. Raises: DriverFault when it is there and is silent."""
        await self._settle()
        try:
            pid = self._world.processes.find(await self._runtime.pid())
        except DriverFault as fault:
            if not isinstance(fault.__cause__, TimeoutError):
                return None
            # A busy machine may be slow: only one that is silent again and again is ended, for the next to take over.
            self._silent += 1
            if self._silent < SILENT_MAX:
                raise
            for found in self._found():
                self._world.processes.signal(found, signal.SIGKILL)
            pid = None
        self._silent = 0
        return pid

    def _found(self) -> list[Pid]:
        """Every HAProxy process with our configuration, from the kernel: also those that finish after a reload."""
        marker = str(self._config).encode()
        found: list[Pid] = []
        for name in self._world.files.names(Path("/proc")):
            if not name.isdigit():
                continue
            try:
                argv = self._world.files.read(Path("/proc") / name / "cmdline").split(b"\0")
            except OSError:
                continue
            # Not those that only look whether a configuration loads.
            if {self._binary.encode(), b"-db", marker} <= set(argv) and (pid := self._world.processes.find(int(name))):
                found.append(pid)
        return found

    def _as_balancer_user(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        user = _balancer_user()
        return [
            # HAProxy goes back to the folder it was started in, and ends if its user may not enter it (/root).
            *("env", "--chdir=/"),
            "setpriv",
            f"--reuid={user.pw_uid}",
            f"--regid={user.pw_gid}",
            "--clear-groups",
            f"--inh-caps={_CAPABILITIES}",
            f"--ambient-caps={_CAPABILITIES}",
            f"--bounding-set={_CAPABILITIES}",
            "--no-new-privs",
        ]

    async def _make_folder(self) -> None:
        if len(str(self._socket)) > SOCKET_PATH_MAX:
            raise DriverFault("the balancer's folder has too long a path for a socket") from RuntimeError(str(self._folder))
        owner = [] if os.geteuid() != 0 else [f"--owner={_balancer_user().pw_uid}", f"--group={_balancer_user().pw_gid}"]
        made = await self._run(["install", "-d", "--mode=0750", *owner, "--", str(self._folder)])
        if made.returncode != 0:
            raise DriverFault("the balancer's folder can not be made") from RuntimeError(made.complaint())

    async def _keep_log_small(self) -> None:
        now = self._world.clock.monotonic()
        if now - self._log_checked_at < LOG_CHECK_S:
            return
        self._log_checked_at = now
        # HAProxy appends to the descriptor it was given: copied and cut, as logrotate's copytruncate.
        cut = ["-exec", "cp", "--", "{}", "{}.1", ";", "-exec", "truncate", "--size=0", "--", "{}", ";"]
        await self._run(["find", str(self._folder), "-maxdepth", "1", "-name", "haproxy.log", "-size", LOG_SIZE, *cut])

    # What the host says.

    async def _netns_ids(self, plans: Sequence[BalancerPlan]) -> dict[str, int]:
        """Inode by name of those namespaces of our members that exist now."""
        vpcs = {target.vpc_id for plan in plans for target in plan.targets}
        vpcs |= {
            slot.target.vpc_id
            for balancer in self._current_layout().balancers
            for slot in balancer.slots
            if slot.target is not None
        }
        names = sorted(
            {name for vpc in vpcs if (name := self._netns_of(vpc)) is not None} | set(self._current_layout().netns_ids)
        )
        if not names:
            return {}
        # A missing one is a complaint on stderr and a non-zero exit, and the others' lines are there all the same.
        stat = await self._run(["stat", "-L", "-c", "%i %n", "--", *(str(NETNS_DIR / name) for name in names)])
        found = (line.split(" ", 1) for line in stat.stdout.decode().splitlines())
        return {Path(path).name: int(inode) for inode, path in found}

    async def _unbindable_after_death(self, plans: Sequence[BalancerPlan], before: Layout) -> dict[str, str]:
        """As `_unbindable`. The kernel closes a killed process's sockets one after another, when its command line is gone
        already: an address that was ours may stay taken for a moment, and that is no complaint."""
        was_ours = {balancer.id for balancer in before.balancers}
        deadline = self._world.clock.monotonic() + RELEASE_S
        complaints = self._unbindable(plans, Layout())
        while was_ours & complaints.keys() and self._world.clock.monotonic() < deadline:
            await self._world.clock.sleep(POLL_S)
            complaints = self._unbindable(plans, Layout())
        return complaints

    def _unbindable(self, plans: Sequence[BalancerPlan], bound: Layout) -> dict[str, str]:
        """Plans whose address can not be listened on. HAProxy refuses to start at all if one of its addresses is taken, so
        each new one is tried before: one bad balancer must not take down the others."""
        ours = {(balancer.address, balancer.port) for balancer in bound.balancers}
        complaints: dict[str, str] = {}
        for plan in plans:
            if (plan.address, plan.port) in ours:
                continue
            family = socket.AF_INET if ip_address(plan.address).version == 4 else socket.AF_INET6
            with self._world.net.open_socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((plan.address, plan.port))
                    # Two sockets may be bound to one address; only listening tells.
                    probe.listen(1)
                except OSError as cause:
                    why = {
                        errno.EADDRINUSE: "something else listens there",
                        errno.EADDRNOTAVAIL: "this host does not have the address",
                        errno.EACCES: "ports below 1024 need root",
                    }
                    reason = why.get(cause.errno or 0, "it can not be listened on")
                    complaints[plan.id] = f"{plan.address}:{plan.port}: {reason}"
            ours.add((plan.address, plan.port))
        return complaints

    async def _run(self, argv: Sequence[str]) -> Finished:
        try:
            return await self._world.processes.run(argv, timeout_s=START_S)
        except (OSError, TimeoutError) as cause:
            raise DriverFault(f"{Path(argv[0]).name} could not be run") from cause


def _balancer_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("haproxy")  # Debian's package makes it
    except KeyError:
        return pwd.getpwnam("nobody")


def _report(balancer: Balancer, servers: Mapping[tuple[str, str], Server] | None) -> BalancerReport:
    health = [_health(slot, None if servers is None else servers.get((balancer.id, slot.name))) for slot in balancer.slots]
    health += [
        TargetHealth(instance_id=target.instance_id, state=TargetState.INITIAL, reason="its network is not on this host yet")
        for target in balancer.waiting
    ]
    return BalancerReport(
        id=balancer.id,
        ready=servers is not None,
        unready_because="" if servers is not None else NOT_RUNNING,
        health=tuple(target for target in health if target is not None),
    )


def _health(slot: Slot, server: Server | None) -> TargetHealth | None:
    """None for a slot that no planned member has."""
    if slot.target is None or slot.use in (Use.FREE, Use.LEAVING):
        return None
    if slot.use is Use.DRAINING:
        sessions = server.sessions if server is not None else 0
        state, reason = TargetState.DRAINING, f"finishes {sessions} requests" if sessions else "has finished"
    elif server is None:
        state, reason = TargetState.INITIAL, NOT_RUNNING
    elif (server.address, server.port) == (slot.target.private_ip, slot.target.port) and server.up and not server.maintenance:
        state, reason = TargetState.HEALTHY, ""
    elif slot.answered:
        state, reason = TargetState.UNHEALTHY, server.check or "no answer to the health check"
    else:
        reason = "has not been asked yet" if server.check == "Initializing" else server.check
        state, reason = TargetState.INITIAL, reason or "has not answered the health check yet"
    return TargetHealth(instance_id=slot.target.instance_id, state=state, reason=reason)

"""Balancers that are instances: one HAProxy in each, told of its members from the host that runs it (docs/adr/0020).

The instance gets its configuration as user data at its first boot. Members are HAProxy's dynamic servers, each named by its
instance, so that HAProxy itself says who is behind it and nothing is kept here: a driver that begins anew, or a HAProxy that
does, is led from what is to what should be. It speaks to HAProxy's runtime API by TCP from inside the VPC, as the host; the
instance's security group lets nobody else in.

What is in an instance is its tenant's, who may put anything in HAProxy's place: whatever it answers, in whatever time, costs
this host little, concerns that service alone, and is shown only as short plain words.

Not here: the instance (a group of one keeps it, control/groups.py), and its address (control/balancers.py).
The invariant is balancer.py's: a member takes traffic only after it answered its health check, and is cut off only after it
had no sessions left or its `drain_s` is over.
"""

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence

import structlog

from alto.drivers.balancer.driver import BalancerDriver
from alto.drivers.balancer.haproxy.config import checked, complaint, render_appliance
from alto.drivers.balancer.haproxy.runtime import Runtime, Server
from alto.kit.world import World
from alto.model.balancers import (
    APPLIANCE_PORT,
    Appliance,
    BalancerPlan,
    BalancerReport,
    LoadBalancer,
    Target,
    TargetHealth,
    TargetState,
)
from alto.model.errors import DriverFault

log = structlog.get_logger()

ANSWER_S = 1.0  # it is on this machine
SWEEP_S = 3.0  # for all that there is to ask and to say; what is left is said at the next sweep
# `show stat` says some 600 for each member. Those that a driver begun anew does not know of have their place in the first.
ANSWER_BYTES, ANSWER_BYTES_EACH = 128 * 1024, 2 * 1024
REASON_MAX = 80
WWW_DATA = 33


def user_data_of(balancer: LoadBalancer) -> str:
    """Base64 of the script that makes an instance of the image "balancer" this balancer. init keeps both programs from then
    on, also after a reboot."""
    config = render_appliance(balancer, runtime=f"ipv4@*:{APPLIANCE_PORT}", user=WWW_DATA)
    # Dynamic servers take no tcp-ut (2.6), so the kernel itself gives a silent member up after 3 s; not clients (config.py).
    script = f"""#!/bin/sh
cat >/etc/haproxy.cfg <<'END'
{config}END
cat >/sbin/balance <<'END'
#!/bin/sh
echo 3 >/proc/sys/net/ipv4/tcp_retries2
exec /usr/sbin/haproxy -db -q -f /etc/haproxy.cfg
END
chmod 755 /sbin/balance
cat >>/etc/inittab <<'END'
::respawn:/bin/syslogd -n -O /var/log/haproxy.log -s 4096 -b 1
::respawn:/sbin/balance
END
kill -HUP 1
"""
    return base64.b64encode(script.encode()).decode()


class Haproxies:
    """A BalancerDriver of both kinds: this host's own HAProxy, and those in its instances."""

    def __init__(self, own: BalancerDriver, appliances: BalancerDriver) -> None:
        self._own = own
        self._appliances = appliances

    async def ensure(self, plans: Sequence[BalancerPlan]) -> None:
        outcomes = await asyncio.gather(
            self._own.ensure([plan for plan in plans if plan.appliance is None]),
            self._appliances.ensure([plan for plan in plans if plan.appliance is not None]),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def observe(self) -> list[BalancerReport]:
        """Of one kind, when the other can not be observed; of that, what was said last stands."""
        outcomes = await asyncio.gather(self._own.observe(), self._appliances.observe(), return_exceptions=True)
        faults = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for fault in faults:
            if len(faults) == len(outcomes) or not isinstance(fault, DriverFault):
                raise fault
            log.warning("some balancers can not be observed", error=str(fault), cause=str(fault.__cause__ or ""))
        return [report for outcome in outcomes if not isinstance(outcome, BaseException) for report in outcome]

    async def remove_all(self) -> None:
        await self._own.remove_all()
        await self._appliances.remove_all()

    async def close(self) -> None:
        await self._own.close()
        await self._appliances.close()


class Appliances:
    """A BalancerDriver. One that does not answer, or not do as it is told, is no fault, but not ready: it boots, is gone and
    its group knows, or is its tenant's to repair. Nobody else's balancer waits for that."""

    def __init__(self, world: World, *, netns_of: Callable[[str], str | None]) -> None:
        """`netns_of(vpc_id)` names the namespace that VPC has on this host."""
        self._world = world
        self._netns_of = netns_of
        self._known: dict[str, _One] = {}  # by the plan's id

    async def ensure(self, plans: Sequence[BalancerPlan]) -> None:
        complaints = {plan.id: why for plan in plans if (why := complaint(plan))}
        good = {plan.id: plan for plan in plans if plan.id not in complaints}
        for id in self._known.keys() - good.keys():
            del self._known[id]
        for id, plan in good.items():
            assert plan.appliance is not None
            known = self._known.get(id)
            if known is None or known.appliance != plan.appliance:
                known = self._known[id] = _One(self._world, plan.appliance, self._netns_of)
            known.plan = plan
        await asyncio.gather(*(one.make_true() for one in self._known.values()))
        if complaints:
            raise DriverFault("; ".join(f"{id}: {why}" for id, why in sorted(complaints.items())))

    async def observe(self) -> list[BalancerReport]:
        return list(await asyncio.gather(*(one.report() for one in self._known.values())))

    async def remove_all(self) -> None:
        """They go with their instances."""
        self._known.clear()

    async def close(self) -> None:
        pass


class _One:
    """One of them, for as long as it is the same instance."""

    plan: BalancerPlan

    def __init__(self, world: World, appliance: Appliance, netns_of: Callable[[str], str | None]) -> None:
        self.appliance = appliance
        self._world = world

        async def reach() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await world.net.connect_inside(netns_of(appliance.vpc_id), appliance.private_ip, APPLIANCE_PORT)

        self._runtime = Runtime(reach, answer_s=ANSWER_S)
        self._lock = asyncio.Lock()
        self._seen: Mapping[str, Server] | None = None  # by the instance that each is; None: it does not answer
        self._fresh = False  # nothing was said to it since, and nobody was told of it
        self._silence = ""  # how it does not answer
        self._refusal = ""  # how it does not do as it is told
        self._told: set[str] = set()  # its members, until it names them no more
        self._answered: set[str] = set()  # members that passed a check; a driver begun anew asks HAProxy whom it sent requests
        self._draining_since: dict[str, float] = {}

    async def make_true(self) -> None:
        """Raises nothing: what goes wrong is this one's alone, and `report` has it."""
        async with self._lock:
            refusal, cause = "", ""
            try:
                async with asyncio.timeout(SWEEP_S):
                    await self._look()
                    if self._seen is not None:
                        await self._close_difference(self._seen)
            except TimeoutError:
                refusal, self._fresh = "the balancer is too slow to be told of its members", True
            except DriverFault as fault:
                refusal, cause, self._fresh = str(fault), _plain(str(fault.__cause__ or "")), True
            if refusal and refusal != self._refusal:
                log.warning(
                    "a balancer's instance does not do as it is told",
                    balancer=self.plan.id,
                    instance=self.appliance.instance_id,
                    error=refusal,
                    cause=cause,
                )
            self._refusal = refusal

    async def report(self) -> BalancerReport:
        """From what the last sweep saw, when that is still so: who is slow to answer is not asked twice."""
        async with self._lock:
            if not self._fresh:
                await self._look()
            self._fresh = False
            why = self._silence or self._refusal
            health = tuple(self._health(target, self._seen) for target in self.plan.targets)
            return BalancerReport(
                id=self.plan.id, ready=not why, unready_because=why, health=health, appliance_id=self.appliance.instance_id
            )

    async def _look(self) -> None:
        # By who was put there, never by whom it names: that may be anybody, and ever more.
        self._told |= {target.instance_id for target in self.plan.targets}
        self._runtime.bytes_max = ANSWER_BYTES + ANSWER_BYTES_EACH * len(self._told)
        self._silence, self._seen = "", None
        try:
            found = await self._runtime.servers()
        except DriverFault as fault:
            self._silence = str(fault)
        else:
            self._seen = {server.name: server for (backend, _), server in found.items() if backend == self.plan.id}
        self._fresh = True

    async def _close_difference(self, servers: Mapping[str, Server]) -> None:
        now = self._world.clock.monotonic()
        wanted = {target.instance_id: target for target in self.plan.targets}
        for id, target in wanted.items():
            server = servers.get(id)
            if server is None:
                if not target.draining:
                    await self._join(target)
            elif not _is_at(server, target):
                await self._cut_off(id, server)  # another address is another machine: it joins when that is gone
            elif target.draining:
                if not server.draining:
                    await self._say(id, "set server {} state drain")
            elif server.draining or server.maintenance:
                await self._begin(id)  # a join that was cut off; or it stays after all
        for id in servers.keys() - wanted.keys():
            since, server = self._draining_since.setdefault(id, now), servers[id]
            if not server.draining and not server.maintenance:
                await self._say(id, "set server {} state drain")  # before it counts as idle: a request may be on its way to it
            elif server.maintenance or server.sessions == 0 or now - since >= self.plan.drain_s:
                await self._cut_off(id, server)
        for id in self._draining_since.keys() - (servers.keys() - wanted.keys()):
            del self._draining_since[id]
        self._answered &= wanted.keys()
        self._told &= servers.keys() | wanted.keys()

    async def _join(self, target: Target) -> None:
        # A dynamic server has its check here alone, not from the backend's defaults (2.6).
        await self._say(target.instance_id, f"add server {{}} {target.private_ip}:{target.port} {checked(self.plan.check)}")
        await self._begin(target.instance_id)

    async def _begin(self, id: str) -> None:
        # By way of drain, as in balancer.py: out of maintenance it would be taken for healthy before its first check.
        await self._say(id, "enable health {}")
        await self._say(id, "set server {} state drain")
        await self._say(id, "set server {} health down")
        await self._say(id, "set server {} state ready")

    async def _cut_off(self, id: str, server: Server) -> None:
        """Now out of service, and gone at one of the next calls: HAProxy keeps it while a connection ends."""
        if not server.maintenance:
            await self._say(id, "set server {} state maint")
            await self._runtime.ask(f"shutdown sessions server {self.plan.id}/{id}")
        else:
            await self._runtime.ask(f"del server {self.plan.id}/{id}")  # changes nothing of whom `report` tells

    async def _say(self, id: str, command: str) -> None:
        self._fresh = False
        await self._runtime.tell(command.format(f"{self.plan.id}/{id}"))

    def _health(self, target: Target, servers: Mapping[str, Server] | None) -> TargetHealth:
        server = servers.get(target.instance_id) if servers is not None else None
        if target.draining:
            state, reason = (
                TargetState.DRAINING,
                _plain(f"finishes {server.sessions} requests") if server is not None else "has finished",
            )
        elif servers is None:
            state, reason = TargetState.INITIAL, self._silence
        elif server is None or not _is_at(server, target):
            state, reason = TargetState.INITIAL, "has not been asked yet"
        elif server.up and not server.maintenance and not server.draining:
            self._answered.add(target.instance_id)
            state, reason = TargetState.HEALTHY, ""
        elif target.instance_id in self._answered or server.served:
            state, reason = TargetState.UNHEALTHY, _plain(server.check) or "no answer to the health check"
        else:
            state, reason = TargetState.INITIAL, _plain(server.check) or "has not answered the health check yet"
        return TargetHealth(instance_id=target.instance_id, state=state, reason=reason)


def _plain(said: str) -> str:
    return "".join(character for character in said[:REASON_MAX] if character.isprintable())


def _is_at(server: Server, target: Target) -> bool:
    return (server.address, server.port) == (target.private_ip, target.port)

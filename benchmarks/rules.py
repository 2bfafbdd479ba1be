"""What one changed rule, or one instance that comes, moves to another group or goes, costs in a VPC with 1,000 instances, 200
groups and 5,000 rules on 8 hosts that a VXLAN joins, and in smaller ones.

    python -m benchmarks.rules [--hosts 8]

Counted: rows that the server reads, bytes that it says to all hosts together, statements that nftables of the hosts and lines
that `ip` and `bridge` then take; these are the same at each size. And CPU of all of that together, per change: the three sizes
take turns, so that they meet the same machine. Server, store, the agents' networks, their firewalls and routes are the
product's own, in this process; no packet and no machine is there. Last, what is not O(affected) and need not be: that a host
hears everything, as it does when it joins and once a minute.
"""

import argparse
import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from alto.agent.networks import Networks
from alto.api.hosts.session import HostSessions
from alto.drivers.compute.driver import Tap
from alto.drivers.compute.fake import FakeCompute
from alto.drivers.network.fake import FakeNetwork
from alto.kit.world import World, real_world
from alto.model.acls import AclAssociation, AclEntry, NetworkAcl, PrefixList, PrefixListEntry
from alto.model.hosts import Capabilities
from alto.model.instances import Instance, Machine, Phase
from alto.model.network_plans import (
    VNI_FROM,
    Firewall,
    FirewallPatch,
    NetworkChange,
    NetworkPlan,
    Port,
    Routing,
    RoutingPatch,
)
from alto.model.networks import Permission, SecurityGroup, Subnet, Vpc
from alto.model.records import Record
from alto.model.sessions import Assignments, Hello
from alto.plan import firewall, routes
from alto.store.sqlite import MemoryDisk, SqliteStore
from alto.store.store import Reader, Tx
from benchmarks.store import ACCOUNT, REGION, instance
from benchmarks.tables import Verdict, print_table, print_verdicts

T = TypeVar("T")

SIZES = ((250, 50), (500, 100), (1000, 200))  # instances and groups
RULES_EACH = 25
SAMPLES = 9
GROWTH_MAX = 1.5  # CPU of a change in a VPC four times as large
CHANGING = 25  # groups below this number are changed
CHANGING_HOSTS = 5  # as many instances has a group
HEARD_S = 0.15  # hosts that a change does not concern hear nothing for so long
VPC, SUBNET, ACL, LIST = "vpc-0123456789abcdef0", "subnet-0123456789abcdef0", "acl-0123456789abcdef0", "pl-0123456789abcdef0"
OWN: Mapping[str, Any] = {"account": ACCOUNT, "region": REGION}


EVERYBODY = "sg-0ffffffffffffffff"  # as a VPC's default group


def group_id(number: int) -> str:
    return f"sg-{number:017x}"


def rule(number: int, **peer: str | None) -> Permission:
    return Permission(
        id=f"sgr-{number:017x}", egress=False, protocol="tcp", from_port=number % 60000, to_port=number % 60000, **peer
    )


def group(number: int, groups: int) -> SecurityGroup:
    """A rule in five names another group; one group in ten a prefix list."""
    rules = [
        rule(number * 100 + each, group_id=group_id((number + each) % groups))
        if each % 5 == 0
        else rule(number * 100 + each, cidr=f"10.{number}.{each}.0/24")
        for each in range(RULES_EACH - 1)
    ]
    rules.append(rule(number * 100 + 99, prefix_list_id=LIST) if number % 10 == 0 else rule(number, cidr="0.0.0.0/0"))
    return SecurityGroup(id=group_id(number), vpc_id=VPC, name=f"g{number}", description="", permissions=tuple(rules), **OWN)


class Cost(NamedTuple):
    rows: int
    bytes: int
    statements: int
    commands: int


class Counting:
    """A reader that counts the rows it gives."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.rows = 0

    def find(self, kind: type[Any], id: str) -> Any:
        self.rows += 1
        return self._reader.find(kind, id)

    def get(self, kind: type[Any], id: str) -> Any:
        self.rows += 1
        return self._reader.get(kind, id)

    def where(self, kind: type[Any], **conditions: Any) -> list[Any]:
        rows = self._reader.where(kind, **conditions)
        self.rows += len(rows)
        return rows


class Paper(FakeNetwork):
    """A host's network without a kernel: what would be said to that is made, and counted."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._firewalls: dict[str, Firewall] = {}
        self._routings: dict[str, Routing] = {}
        self._plans: dict[str, NetworkPlan] = {}
        self.statements = self.commands = 0

    async def ensure_network(self, plan: NetworkPlan, ports: Sequence[Port]) -> None:
        await super().ensure_network(plan, ports)
        self._plans[plan.vpc_id] = plan
        self._firewalls[plan.vpc_id] = firewall.compiled(plan, ports)
        self._routings[plan.vpc_id] = routes.compiled(plan, ports, way_out=True)

    async def change_network(self, plan: NetworkPlan, change: NetworkChange) -> None:
        await super().change_network(plan, change)
        before, self._plans[plan.vpc_id] = self._plans[plan.vpc_id], plan
        self._take(plan.vpc_id, firewall.amended(self._firewalls[plan.vpc_id], change))
        if change.neighbours or change.gone_neighbours:
            patch = routes.resettled(self._routings[plan.vpc_id], before, plan, change)
            assert patch is not None, "routes are made anew"
            self._go(plan.vpc_id, patch)

    async def plug(self, port: Port, machine: Machine) -> Tap:
        tap = await super().plug(port, machine)
        self._put(port)
        return tap

    async def describe(self, port: Port, machine: Machine) -> None:
        await super().describe(port, machine)
        self._put(port)

    async def unplug(self, port_id: str, vpc_id: str) -> None:
        await super().unplug(port_id, vpc_id)
        self._take(vpc_id, firewall.unplugged(self._firewalls[vpc_id], port_id))
        self._go(vpc_id, routes.without_port(self._routings[vpc_id], self._plans[vpc_id], f"tap{port_id[-12:]}"))

    def _put(self, port: Port) -> None:
        self._take(port.vpc_id, firewall.plugged(self._firewalls[port.vpc_id], port))
        self._go(port.vpc_id, routes.with_port(self._routings[port.vpc_id], self._plans[port.vpc_id], port))

    def _take(self, vpc_id: str, patch: FirewallPatch) -> None:
        self.statements += firewall.statements(self._firewalls[vpc_id], patch).count("\n")
        firewall.take(self._firewalls[vpc_id], patch)

    def _go(self, vpc_id: str, patch: RoutingPatch) -> None:
        self.statements += routes.change(patch).count("\n")
        for made in (routes.puts(patch), routes.drops(patch)):
            self.commands += len(made.ip) + len(made.ip_v6) + len(made.bridge)
        self._routings[vpc_id] = routes.take(self._routings[vpc_id], patch)


class Hand:
    """An agent's part of it: its networks, and the machines that it was told of, all of which run."""

    def __init__(self, world: World) -> None:
        self.driver = Paper(world)
        self.machines: dict[str, Machine] = {}
        self._networks = Networks(world, self.driver, FakeCompute(world), machine_of=self.machines.get)

    async def take(self, news: Assignments) -> None:
        self._networks.take(news.networks, full=news.full)
        self._networks.take_changes(news.network_changes)
        await self._networks.refresh()
        for machine in news.machines:
            known = self.machines.get(machine.id)
            self.machines[machine.id] = machine
            if known is None:
                await self._networks.plug(machine)
            else:
                await self._networks.follow(machine)

    async def end(self, instance_id: str) -> None:
        machine = self.machines.pop(instance_id, None)
        if machine is not None:
            await self._networks.unplug(machine)


class Fleet:
    """A server with its hosts, and what they hold of the VPC."""

    def __init__(self, instances: int, groups: int, hosts: int) -> None:
        self._world = real_world()
        self.store = SqliteStore.inline(MemoryDisk(), pause=lambda: asyncio.sleep(0))
        self.sessions = HostSessions(self._world, self.store, "cloud-bench")
        self._links: dict[str, str] = {}
        self._hands = {f"h-{number}": Hand(self._world) for number in range(hosts)}
        names = list(self._hands)
        self._records: list[Record] = [group(number, groups) for number in range(groups)]
        everybody = rule(1, group_id=EVERYBODY)
        self._records.append(
            SecurityGroup(id=EVERYBODY, vpc_id=VPC, name="default", description="", permissions=(everybody,), **OWN)
        )
        for number in range(instances):
            first, round = number % groups, number // groups
            # Groups that will change are on the same hosts at each size, and on no others.
            name = names[round if first < CHANGING else (round + CHANGING_HOSTS) % hosts]
            own = (group_id(first), group_id((first + 1) % groups))
            self._records.append(resident(number, name, f"10.200.{number // 200}.{number % 200 + 10}", own))
        self._rows = 0

    async def begin(self) -> None:
        for name in self._hands:
            await self._join(name)
        self._records += [
            Vpc(id=VPC, cidr="10.200.0.0/16", vni=VNI_FROM, **OWN),
            Subnet(id=SUBNET, vpc_id=VPC, cidr="10.200.0.0/16", zone=f"{REGION}a", **OWN),
            NetworkAcl(
                id=ACL, vpc_id=VPC, associations=(AclAssociation(id="aclassoc-0123456789abcdef0", subnet_id=SUBNET),), **OWN
            ),
            PrefixList(id=LIST, name="list", max_entries=99, entries=(PrefixListEntry(cidr="192.0.2.0/24"),), **OWN),
        ]
        await self._write(*self._records)
        # The rows of the beginning are looked at once more, as changes.
        while any(told := await self._news()):
            for name, said in zip(self._links, told, strict=True):
                if said is not None:
                    await self._hands[name].take(said)
        self._count_rows()

    async def _join(self, name: str) -> None:
        capabilities = Capabilities(kind="fake", accelerator="none", vcpus=4000, memory_mib=4_000_000)
        underlay = f"192.0.2.{10 + list(self._hands).index(name)}:4789"
        hello = Hello(cloud_id="cloud-bench", host_id=name, name=name, capabilities=capabilities, underlay=underlay)
        self._links[name] = await self.sessions.hello(hello)

    async def hear_everything(self) -> float:
        """One host, in seconds of CPU: the server reads and says it, the agent compares."""
        name = next(iter(self._links))
        await self._join(name)
        began = time.process_time()
        said = await self.sessions.assignments(self._links[name], timeout_s=HEARD_S)
        assert said is not None
        assert said.full
        await self._hands[name].take(msgspec.json.decode(msgspec.json.encode(said), type=Assignments))
        return time.process_time() - began

    async def change(self, make: Callable[[Reader], Record]) -> Cost:
        """Until each host that was told anything has it in its firewall."""
        record = self.store.read(make)
        self._rows = 0
        before = [(hand.driver.statements, hand.driver.commands) for hand in self._hands.values()]
        if isinstance(record, Instance) and record.phase is Phase.TERMINATED:
            await self._hands[record.host_id or ""].end(record.id)
        await self._write(record)
        told = await self._news()
        said = [(name, news) for name, news in zip(self._links, told, strict=True) if news is not None]
        for name, news in said:
            assert news.full or not news.networks, "a whole plan was said"
            await self._hands[name].take(news)
        after = [(hand.driver.statements, hand.driver.commands) for hand in self._hands.values()]
        # What a row's version and a host's name are long is not the change's.
        bare = [_without_versions(news) for _, news in said]
        lines, commands = (sum(now[each] - old[each] for old, now in zip(before, after, strict=True)) for each in (0, 1))
        return Cost(self._rows, sum(len(msgspec.json.encode(one)) for one in bare), lines, commands)

    async def _news(self) -> list[Assignments | None]:
        return await asyncio.gather(*(self.sessions.assignments(link, timeout_s=HEARD_S) for link in self._links.values()))

    async def _write(self, *records: Record) -> None:
        def body(tx: Tx) -> None:
            for record in records:
                tx.put(record)

        await self.store.write(body)

    def _count_rows(self) -> None:
        true_read = self.store.read

        def counted(body: Callable[[Reader], T]) -> T:
            def run(reader: Reader) -> T:
                counting = Counting(reader)
                try:
                    return body(counting)  # type: ignore[arg-type]
                finally:
                    self._rows += counting.rows

            return true_read(run)

        self.store.read = counted  # type: ignore[method-assign]


def resident(number: int, host_id: str, address: str, groups: tuple[str, ...]) -> Instance:
    made = instance(number)
    mac = "02:" + number.to_bytes(5).hex(":")
    nic = replace(made.nic, group_ids=(*groups, EVERYBODY), private_ip=address, mac=mac)
    return replace(made, host_id=host_id, nics=(nic,))


def _without_versions(news: Assignments) -> Assignments:
    changes = (replace(one, groups=tuple(replace(each, version=0) for each in one.groups)) for one in news.network_changes)
    return replace(news, network_changes=tuple(changes))


def changes() -> dict[str, Callable[[Reader, int], Record]]:
    """What is changed, by its name; the number differs from sample to sample."""

    def one_rule(reader: Reader, sample: int) -> Record:
        old = reader.get(SecurityGroup, group_id(3))
        return replace(old, permissions=(*old.permissions[:RULES_EACH], rule(50000 + sample, cidr="192.0.2.0/24")))

    def naming_a_group(reader: Reader, sample: int) -> Record:
        old = reader.get(SecurityGroup, group_id(4))
        return replace(old, permissions=(*old.permissions[:RULES_EACH], rule(50000 + sample, group_id=group_id(9))))

    def one_entry(reader: Reader, sample: int) -> Record:
        entry = AclEntry(number=10 + sample, egress=False, allow=True, protocol="-1", cidr=f"198.18.{sample}.0/24")
        return replace(reader.get(NetworkAcl, ACL), entries=(entry,))

    def one_range(reader: Reader, sample: int) -> Record:
        fresh = PrefixListEntry(cidr=f"198.51.100.{sample * 8 + 8}/29")
        return replace(reader.get(PrefixList, LIST), entries=(PrefixListEntry(cidr="192.0.2.0/24"), fresh))

    def one_member(reader: Reader, sample: int) -> Record:
        old = reader.get(Instance, instance(5).id)
        nic = replace(old.nic, group_ids=(group_id(5), group_id(10 + sample), EVERYBODY))
        return replace(old, nics=(nic,))

    def one_more(reader: Reader, sample: int) -> Record:
        return resident(900_000 + sample, "h-0", f"10.200.250.{10 + sample}", (group_id(5), group_id(6)))

    def one_less(reader: Reader, sample: int) -> Record:
        return replace(reader.get(Instance, instance(900_000 + sample).id), phase=Phase.TERMINATED)

    return {
        "one rule": one_rule,
        "a rule naming a group": naming_a_group,
        "an ACL's entry": one_entry,
        "a prefix list's range": one_range,
        "an instance's group": one_member,
        "an instance comes": one_more,
        "an instance goes": one_less,
    }


Found = dict[tuple[int, int], dict[str, tuple[Cost, float]]]


async def measured(hosts: int) -> tuple[Found, dict[tuple[int, int], float]]:
    """By size: what each change costs mostly (now and then the server looks at all its hosts, whatever changed), and CPU
    milliseconds of the median one; and those of a host that hears everything."""
    fleets = {size: Fleet(*size, hosts) for size in SIZES}
    running = [asyncio.create_task(fleet.sessions.run()) for fleet in fleets.values()]
    for fleet in fleets.values():
        await fleet.begin()
    gc.collect()
    gc.freeze()  # else each change would pay for looking at all that is there in this process
    found: Found = {size: {} for size in SIZES}
    for name, change in changes().items():
        costs: dict[tuple[int, int], list[Cost]] = {size: [] for size in SIZES}
        cpu: dict[tuple[int, int], list[float]] = {size: [] for size in SIZES}
        for sample in range(SAMPLES):
            for size, fleet in fleets.items():
                began = time.process_time()
                costs[size].append(await fleet.change(lambda reader, sample=sample, change=change: change(reader, sample)))  # type: ignore[misc]
                cpu[size].append((time.process_time() - began) * 1000)
        for size in SIZES:
            found[size][name] = statistics.mode(costs[size]), statistics.median(cpu[size])
    whole = {size: min([await fleet.hear_everything() for _ in range(3)]) * 1000 for size, fleet in fleets.items()}
    for each in running:
        each.cancel()
    return found, whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=8)
    hosts = parser.parse_args().hosts
    if hosts <= CHANGING_HOSTS:
        parser.error(f"--hosts {hosts}: there are more than {CHANGING_HOSTS}, as that many hear of changes")
    found, whole = asyncio.run(measured(hosts))
    rows = [
        (
            name,
            f"{instances:,} / {groups} / {groups * RULES_EACH:,}",
            *map(str, cost),
            f"{cpu:.1f} ms",
        )
        for name in changes()
        for (instances, groups), costs_of in found.items()
        for cost, cpu in [costs_of[name]]
    ]
    head = ("change", "instances / groups / rules", "rows read", "bytes said", "nft statements", "ip commands", "CPU")
    print_table(f"One change, to {hosts} hosts", head, rows)
    print_table(
        "One host hears everything",
        ("instances / groups / rules", "CPU"),
        [(f"{size[0]:,} / {size[1]} / {size[1] * RULES_EACH:,}", f"{spent:.1f} ms") for size, spent in whole.items()],
    )
    verdicts = []
    for name in changes():
        seen = [found[size][name][0] for size in SIZES]
        verdicts.append(
            Verdict(f"{name}: the same at each size", " ".join(str(tuple(one)) for one in seen), len(set(seen)) == 1)
        )
        cpu = [found[size][name][1] for size in SIZES]
        growth = max(cpu) / cpu[0]
        verdicts.append(
            Verdict(
                f"{name}: at most {GROWTH_MAX} x the CPU at 4 x the size",
                f"{growth:.2f} x {cpu[0]:.1f} ms",
                growth <= GROWTH_MAX,
            )
        )
    return 0 if print_verdicts(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())

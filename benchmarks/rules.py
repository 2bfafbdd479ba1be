"""What one changed rule, or one instance that comes, moves to another group or goes, costs in a VPC with 1,000 instances, 200
groups and 5,000 rules on 8 hosts that a VXLAN joins, and in smaller ones.

    python -m benchmarks.rules [--hosts 8]

Counted, not timed: rows that the server reads, bytes that it says to all hosts together, statements that nftables of the hosts
and lines that `ip` and `bridge` then take. Server, store, hosts' firewalls and routes are the product's own, in this process;
no packet and no machine is there. CPU is of all of that together, per change.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from alto.api.hosts.session import HostSessions
from alto.kit.world import real_world
from alto.model.acls import AclAssociation, AclEntry, NetworkAcl, PrefixList, PrefixListEntry
from alto.model.hosts import Capabilities
from alto.model.instances import Instance, Phase
from alto.model.network_plans import VNI_FROM, Firewall, NetworkPlan, Port
from alto.model.networks import Permission, SecurityGroup, Subnet, Vpc
from alto.model.records import Record
from alto.model.sessions import Assignments, Hello
from alto.plan import routes
from alto.plan.firewall import amended, compiled, plugged, statements, take
from alto.plan.network_changes import changed
from alto.store.sqlite import MemoryDisk, SqliteStore
from alto.store.store import Reader, Tx
from benchmarks.store import ACCOUNT, REGION, instance
from benchmarks.tables import Verdict, print_table, print_verdicts

T = TypeVar("T")

SIZES = ((250, 50), (500, 100), (1000, 200))  # instances and groups
RULES_EACH = 25
SAMPLES = 5
CHANGING = 25  # groups below this number are changed
HEARD_S = 0.3  # hosts that a change does not concern hear nothing for so long
VPC, SUBNET, ACL, LIST = "vpc-0123456789abcdef0", "subnet-0123456789abcdef0", "acl-0123456789abcdef0", "pl-0123456789abcdef0"
OWN: Mapping[str, Any] = {"account": ACCOUNT, "region": REGION}


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


class Fleet:
    """A server with its hosts, each with the firewall of its part of the VPC."""

    def __init__(self, instances: int, groups: int, hosts: int) -> None:
        self._world = real_world()
        self.store = SqliteStore.inline(MemoryDisk(), pause=lambda: asyncio.sleep(0))
        self.sessions = HostSessions(self._world, self.store, "cloud-bench")
        self._names = [f"h-{number}" for number in range(hosts)]
        self._links: dict[str, str] = {}
        self._firewalls: dict[str, Firewall] = {}
        self._plans: dict[str, NetworkPlan] = {}
        self._ports: dict[str, list[Port]] = {name: [] for name in self._names}
        self._records: list[Record] = [group(number, groups) for number in range(groups)]
        self._groups = groups
        for number in range(instances):
            made = instance(number)
            first, round = number % groups, number // groups
            own = (group_id(first), group_id((first + 1) % groups))
            # Groups that will change are on the same five hosts at each size, and on no others.
            name = self._names[round if first < CHANGING else (round + 5) % hosts]
            nic = replace(made.nic, group_ids=own, private_ip=f"10.200.{number // 200}.{number % 200 + 10}")
            self._records.append(replace(made, host_id=name, nics=(nic,)))
            self._ports[name].append(_port(made, nic.private_ip, own))
        self._rows = 0

    async def begin(self) -> None:
        capabilities = Capabilities(kind="fake", accelerator="none", vcpus=4000, memory_mib=4_000_000)
        for name in self._names:
            underlay = f"192.0.2.{10 + len(self._links)}:4789"
            hello = Hello(cloud_id="cloud-bench", host_id=name, name=name, capabilities=capabilities, underlay=underlay)
            self._links[name] = await self.sessions.hello(hello)
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
                for plan in said.networks if said is not None else ():
                    self._plans[name] = plan
        for name in self._names:
            self._firewalls[name] = compiled(self._plans[name], self._ports[name])
        self._count_rows()

    async def change(self, make: Callable[[Reader], Record]) -> Cost:
        """Until each host that was told anything has it in its firewall."""
        record = self.store.read(make)
        self._rows = 0
        await self._write(record)
        told = await self._news()
        said = [(name, news) for name, news in zip(self._links, told, strict=True) if news is not None]
        lines = commands = 0
        for name, news in said:
            assert not news.networks, "a whole plan was said"
            old = self._plans[name]
            for change in news.network_changes:
                patch = amended(self._firewalls[name], change)
                lines += statements(self._firewalls[name], patch).count("\n")
                take(self._firewalls[name], patch)
                self._plans[name] = changed(self._plans[name], change)
            if old is not self._plans[name]:
                before, after = (routes.compiled(one, self._ports[name], way_out=True) for one in (old, self._plans[name]))
                for made in (routes.puts(before, after), routes.drops(before, after)):
                    commands += len(made.ip) + len(made.ip_v6) + len(made.bridge)
                lines += routes.change(before, after).count("\n")
            for machine in news.machines:
                patch = plugged(self._firewalls[name], _port(machine, machine.nic.private_ip, machine.nic.group_ids))
                lines += statements(self._firewalls[name], patch).count("\n")
                take(self._firewalls[name], patch)
        # What a row's version and a host's name are long is not the change's.
        bare = [_without_versions(news) for _, news in said]
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


def _port(made: Any, address: str, groups: tuple[str, ...]) -> Port:
    return Port(
        id=made.nic.interface_id,
        instance_id=made.id,
        vpc_id=VPC,
        subnet_id=SUBNET,
        subnet_cidr="10.200.0.0/16",
        mac=made.nic.mac,
        private_ip=address,
        public_ip=None,
        hostname="host",
        group_ids=groups,
    )


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
        nic = replace(old.nic, group_ids=(group_id(5), group_id(10 + sample)))
        return replace(old, nics=(nic,))

    def one_more(reader: Reader, sample: int) -> Record:
        made = instance(900_000 + sample)
        nic = replace(made.nic, group_ids=(group_id(5), group_id(6)), private_ip=f"10.200.250.{10 + sample}")
        return replace(made, host_id="h-0", nics=(nic,))

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


async def measured(instances: int, groups: int, hosts: int) -> dict[str, tuple[Cost, float]]:
    """What each change costs mostly (now and then the server looks at all its hosts, whatever changed), and CPU milliseconds of
    the median one."""
    fleet = Fleet(instances, groups, hosts)
    running = asyncio.create_task(fleet.sessions.run())
    await fleet.begin()
    found = {}
    for name, change in changes().items():
        costs, cpu = [], []
        for sample in range(SAMPLES):
            began = time.process_time()
            costs.append(await fleet.change(lambda reader, sample=sample, change=change: change(reader, sample)))  # type: ignore[misc]
            cpu.append((time.process_time() - began) * 1000)
        found[name] = statistics.mode(costs), statistics.median(cpu)
    running.cancel()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=8)
    hosts = parser.parse_args().hosts
    found = {size: asyncio.run(measured(*size, hosts)) for size in SIZES}
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
    verdicts = []
    for name in changes():
        seen = [found[size][name][0] for size in SIZES]
        verdicts.append(
            Verdict(f"{name}: the same at each size", " ".join(str(tuple(one)) for one in seen), len(set(seen)) == 1)
        )
    return 0 if print_verdicts(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())

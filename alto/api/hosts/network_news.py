"""What one host was told of networks and of the machines in them, and what it must hear now.

News of a VPC are its whole plan where hosts, subnets, routes or gateways are different; of rules and of who lives on other
hosts they are as long as what changed. A security group is news to hosts on which an interface is in it: others owe
themselves that until they get one, or hear of everything again.

Invariant: what a plan here says is what the host has, once it took what it was told; but for groups in `_owed`.
"""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import TypeAlias

from msgspec.structs import replace

from alto.api.hosts.networks import read_plan
from alto.api.hosts.rules import concerns, rule_changes
from alto.api.hosts.whereabouts import Whereabouts
from alto.model.instances import Machine
from alto.model.network_plans import NetworkChange, NetworkPlan
from alto.model.networks import SecurityGroup
from alto.model.records import Record
from alto.plan.network_changes import changed
from alto.plan.networks import routers_of
from alto.store.store import Reader

Told: TypeAlias = tuple[tuple[NetworkPlan, ...], tuple[NetworkChange, ...]]


class NetworkNews:
    """Volatile, as the session that has it. Whatever is marked here is read again when it is told."""

    def __init__(self, host_id: str) -> None:
        self._host_id = host_id
        self.machines: dict[str, Machine] = {}  # as they were told; changed by `put` and `drop`
        self._vpcs: Counter[str] = Counter()  # VPC -> interfaces of `machines` in it
        self._groups: Counter[str] = Counter()
        self._plans: dict[str, NetworkPlan] = {}
        self._routers: dict[str, set[str]] = {}  # VPC -> interfaces that its routes name
        self._peers: dict[str, set[str]] = {}  # VPC -> VPCs that have groups which its rules name
        self._guests: dict[str, set[str]] = {}  # VPC -> groups of other VPCs that are associated with it
        # What may be different.
        self._all = False
        self._whole: set[str] = set()  # VPCs
        self._moved: dict[str, set[str]] = {}  # VPC -> interfaces on other hosts
        self._rules: set[tuple[str, str]] = set()  # (kind, id) of what rules.py is about
        self._owed: set[str] = set()  # groups that changed, and that none of `machines` is in

    # Machines.

    def put(self, machine: Machine) -> None:
        self.drop(machine.id)
        self.machines[machine.id] = machine
        for nic in machine.nics:
            self._vpcs[nic.vpc_id] += 1
            self._groups.update(nic.group_ids)
            due = self._owed.intersection(nic.group_ids)
            self._owed -= due
            self._rules |= {(SecurityGroup.KIND, id) for id in due}

    def drop(self, id: str) -> None:
        machine = self.machines.pop(id, None)
        for nic in machine.nics if machine is not None else ():
            for counter, keys in ((self._vpcs, (nic.vpc_id,)), (self._groups, nic.group_ids)):
                counter.subtract(keys)
                for key in keys:
                    if not counter[key]:
                        del counter[key]

    # Marks. Each says whether the host is to hear of it at once.

    def all_changed(self) -> None:
        self._all = True

    def rule_changed(self, kind: str, id: str, row: Record | None) -> bool:
        if row is None:
            # It was nobody's and in nobody's rules.
            self._owed.discard(id)
            self._rules.add((kind, id))
            return False
        if not concerns(row, self._plans, self._guests):
            return False
        if not isinstance(row, SecurityGroup) or id in self._groups:
            self._rules.add((kind, id))
            return True
        own = self._plans.get(row.vpc_id)
        if own is None or own.find_group(id) is not None:
            self._owed.add(id)
        else:
            self._rules.add((kind, id))  # rules of other groups may name it
        return False

    def moved(self, whereabouts: Whereabouts, vpc_id: str, interface_ids: AbstractSet[str], *, here: bool) -> bool:
        """These interfaces in the VPC came, went or changed, or its hosts did; `here`: on this host, and on no other."""
        plan = self._plans.get(vpc_id)
        if plan is None or not self._is_right(whereabouts, plan, lived_in=whereabouts.lives_in(vpc_id, self._host_id)):
            self._whole.add(vpc_id)
            return True
        if here or not interface_ids:
            return False
        self._moved.setdefault(vpc_id, set()).update(interface_ids)
        return True

    def shares(self, vpc_id: str, hosts: AbstractSet[str]) -> bool:
        """Whether others have the VPC too, which is on these hosts now, or had it when this host was told of it last."""
        plan = self._plans.get(vpc_id)
        return (len(hosts) > 1 and self._host_id in hosts) or (plan is not None and (bool(plan.hosts) or plan.standing))

    def vpc_changed(self, vpc_ids: AbstractSet[str]) -> bool:
        """Something of these VPCs that is no rule."""
        known = self._plans.keys() & vpc_ids
        self._whole |= known
        return bool(known)

    def router_changed(self, interface_ids: AbstractSet[str]) -> bool:
        """Routes may lead to one of these interfaces."""
        return self._routers != {} and self.vpc_changed(
            {id for id, named in self._routers.items() if not named.isdisjoint(interface_ids)}
        )

    def peers_changed(self, vpc_ids: AbstractSet[str]) -> bool:
        """Rules may let in who is in a group of these VPCs."""
        return self._peers != {} and self.vpc_changed(
            {id for id, named in self._peers.items() if not named.isdisjoint(vpc_ids)}
        )

    # News.

    def everything(self, reader: Reader, whereabouts: Whereabouts, machines: Iterable[Machine]) -> tuple[NetworkPlan, ...]:
        for id in list(self.machines):
            self.drop(id)
        for index in (self._plans, self._routers, self._peers, self._guests, self._rules, self._owed):
            index.clear()
        for machine in machines:
            self.put(machine)
        return self._read(reader, whereabouts, None)

    def news(self, reader: Reader, whereabouts: Whereabouts) -> Told:
        """To be taken in this order."""
        rules, self._rules = self._rules, set()
        changes, unsaid = rule_changes(reader, self._plans, self._guests, rules)
        if self._all or unsaid:
            return self._read(reader, whereabouts, None), changes
        whole = self._whole | (self._vpcs.keys() - self._plans.keys())
        near = []
        for vpc_id, interface_ids in sorted(self._moved.items()):
            plan = self._plans.get(vpc_id)
            if plan is None or not self._is_right(whereabouts, plan, lived_in=vpc_id in self._vpcs):
                whole.add(vpc_id)
            elif vpc_id not in whole:
                change = whereabouts.resettled(plan, self._host_id, interface_ids)
                if change != NetworkChange(vpc_id=vpc_id):
                    near.append(change)
                    self._plans[vpc_id] = changed(plan, change)
        self._moved = {}
        return self._read(reader, whereabouts, whole) if whole else (), (*changes, *near)

    def _read(self, reader: Reader, whereabouts: Whereabouts, only: AbstractSet[str] | None) -> tuple[NetworkPlan, ...]:
        """Plans of these VPCs, or of all, that are not as they were told."""
        if only is None:
            self._all, self._moved = False, {}
        self._whole = set()
        known = whereabouts.is_known(self._host_id)
        own = set(self._vpcs).intersection(only) if only is not None else set(self._vpcs)
        passing = whereabouts.vpcs_of(self._host_id, only) - self._vpcs.keys() if known else set()
        news = []
        for vpc_id in sorted(own | passing):
            plan = read_plan(reader, vpc_id)
            if plan is None:
                continue
            plan = whereabouts.told(plan, self._host_id, standing=vpc_id in passing) if known else replace(plan, vni=0)
            if self._plans.get(vpc_id) != plan:
                self._remember(plan)
                news.append(plan)
        for vpc_id in sorted(self._plans if only is None else self._plans.keys() & only):
            plan = self._plans[vpc_id]
            if vpc_id in self._vpcs or vpc_id in passing:
                continue
            # Nothing more is told of it: when it comes again, all is.
            for index in (self._plans, self._routers, self._peers, self._guests):
                del index[vpc_id]
            if plan.standing:
                news.append(replace(plan, standing=False, hosts=(), neighbours=(), members={}, vni=0, underlay=""))
        return tuple(news)

    def _is_right(self, whereabouts: Whereabouts, plan: NetworkPlan, *, lived_in: bool) -> bool:
        """Whether the plan says which hosts have the VPC, and why this one does."""
        return plan.standing is not lived_in and whereabouts.is_told_of(plan, self._host_id)

    def _remember(self, plan: NetworkPlan) -> None:
        self._plans[plan.vpc_id] = plan
        self._routers[plan.vpc_id] = routers_of([plan])
        self._guests[plan.vpc_id] = {one.id for one in plan.groups if one.vpc_id != plan.vpc_id}
        rules = (rule for one in plan.groups for rule in one.permissions)
        self._peers[plan.vpc_id] = {rule.group_peer.vpc_id for rule in rules if rule.group_peer is not None}

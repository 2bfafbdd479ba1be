"""A VPC that simulated hosts share, and somebody who changes its rules and members; in seeds whose name begins with "spread",
so that the histories of all others stay what they are.

A host is told what changes, and takes that over into what it has. So what it has is compared with what is made from nothing,
from the rows as they are: in the end, and a while after each change in quiet, long before everything is said again.
"""

import asyncio
import random
from collections.abc import Sequence

from msgspec.structs import replace

from alto.api.hosts.networks import read_plan
from alto.api.hosts.whereabouts import Whereabouts
from alto.model.acls import NetworkAcl
from alto.model.instances import Instance, Phase
from alto.model.network_plans import NetworkPlan
from alto.store.store import Reader
from tests.sim.api import OTHER_GROUP
from tests.sim.check import Violated
from tests.sim.cloud import SimCloud
from tests.sim.hosts import SimHost
from tests.sim.workload import Client

PREFIX = "spread"
PROBES = 8
# In quiet: messages, commits and drivers that take their time, and less than until a host hears everything (60 s).
ARRIVES_S = 20.0


def has_spread(seed: str) -> bool:
    return seed.startswith(PREFIX)


class RuleClient(Client):
    """Also changes the rules of a group that some are in, and of one that mostly nobody is in, an ACL, and who is where."""

    def __init__(self, cloud: SimCloud, number: int, *, actions: int, pace_s: float) -> None:
        super().__init__(cloud, number, actions=actions, pace_s=pace_s)
        self._rules = random.Random(f"{self._name} rules {cloud.seed}")

    async def run(self) -> None:
        await self.launch()
        for _ in range(self._actions):
            await asyncio.sleep(self._chance.uniform(0, self._pace_s))
            await self.any_change()

    async def launch(self) -> None:
        await self._launch()

    async def any_change(self) -> None:
        await self._rules.choice((self.change, self.change, self.launch, self.terminate))()

    async def change(self) -> None:
        await self._rules.choice((self._allow, self._allow, self._revoke, self._acl, self._regroup, self._regroup))()

    async def _allow(self) -> None:
        """Several at once now and then: hosts hear of them together."""
        for _ in range(self._rules.choice((1, 1, 3))):
            await self._ask("AuthorizeSecurityGroupIngress", self._rule(self._rules.randrange(1, 40)))

    async def _revoke(self) -> None:
        await self._ask("RevokeSecurityGroupIngress", self._rule(self._rules.randrange(1, 40)))

    def _rule(self, port: int) -> dict[str, object]:
        peer: dict[str, object] = (
            {"IpRanges": [{"CidrIp": f"10.{port}.0.0/16"}]} if port % 3 else {"UserIdGroupPairs": [{"GroupId": OTHER_GROUP}]}
        )
        permission = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **peer}
        return {"GroupId": self._rules.choice(self._groups()), "IpPermissions": [permission]}

    async def _acl(self) -> None:
        acl = self._cloud.store.read(lambda reader: reader.where(NetworkAcl))[0]
        number = self._rules.randrange(1, 20)
        taken = any(entry.number == number and not entry.egress for entry in acl.entries)
        entry = {"NetworkAclId": acl.id, "RuleNumber": number, "Egress": False}
        if taken:
            await self._ask("DeleteNetworkAclEntry", entry)
        else:
            more = {"Protocol": "6", "RuleAction": "deny", "CidrBlock": f"198.18.{number}.0/24"}
            await self._ask("CreateNetworkAclEntry", {**entry, **more, "PortRange": {"From": 1, "To": number}})

    async def _regroup(self) -> None:
        """Whoever it is, of any client."""
        running = self._cloud.store.read(lambda reader: [one for one in reader.where(Instance) if one.phase is Phase.RUNNING])
        if running:
            interface = self._rules.choice(running).nic.interface_id
            groups = self._rules.choice(([OTHER_GROUP], [self._groups()[0]], self._groups()))
            await self._ask("ModifyNetworkInterfaceAttribute", {"NetworkInterfaceId": interface, "Groups": groups})

    def _groups(self) -> list[str]:
        """The default one first."""
        plans = self._cloud.store.read(lambda reader: [read_plan(reader, acl.vpc_id) for acl in reader.where(NetworkAcl)])
        found = [group.id for plan in plans if plan is not None for group in plan.groups if group.name == "default"]
        return [*found[:1], OTHER_GROUP]


async def changes_arrive(cloud: SimCloud, client: RuleClient) -> None:
    """Raises: Violated, when a change in quiet is not with the hosts before they hear everything again."""
    for _ in range(PROBES):
        await client.any_change()
        deadline = cloud.loop.time() + ARRIVES_S
        while wrong := cloud.store.read(lambda reader: plans_differ(reader, cloud.hosts)):
            if cloud.loop.time() > deadline:
                raise Violated(f"{ARRIVES_S:g} s after a change in quiet: " + "; ".join(wrong[:5]))
            await asyncio.sleep(0.5)
        await asyncio.sleep(ARRIVES_S / 4)


def plans_differ(reader: Reader, hosts: Sequence[SimHost]) -> list[str]:
    """What hosts have of the VPCs of their ports otherwise than it would be told to one that just joined."""
    wrong, whereabouts = [], Whereabouts(reader)
    for host in hosts:
        for vpc_id, vpc in sorted(host.networks.vpcs.items()):
            plan = read_plan(reader, vpc_id)
            if plan is None or not vpc.ports:
                continue
            if whereabouts.is_known(host.id):
                standing = not whereabouts.lives_in(vpc_id, host.id)
                plan = whereabouts.told(plan, host.id, standing=standing)
            else:
                plan = replace(plan, vni=0)
            used = {id for found in vpc.ports.values() for id in found.port.group_ids}
            told, held = _used(plan, used), _used(vpc.plan, used)
            fields = [one for one in NetworkPlan.__struct_fields__ if getattr(told, one) != getattr(held, one)]
            wrong += [f"{host.id} has {one} of {vpc_id} as {getattr(held, one)}, not {getattr(told, one)}" for one in fields]
    return wrong


def _used(plan: NetworkPlan, group_ids: set[str]) -> NetworkPlan:
    """A group that nobody here is in may be older: it is told when somebody is."""
    return replace(plan, groups=tuple(one for one in plan.groups if one.id in group_ids))

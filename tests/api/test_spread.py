"""Goal: hosts that share a VPC hear of each other's instances as these come and go; hosts that do not are left in peace.

Method: sessions spoken by hand, instances launched by the API and placed by hand; what each host is told, and when.
"""

import asyncio

import pytest
from msgspec.structs import replace

from alto.api.hosts.networks import read_plan
from alto.api.hosts.session import HostSessions
from alto.api.hosts.whereabouts import Whereabouts
from alto.model.hosts import Host
from alto.model.instances import Instance, Phase
from alto.model.network_plans import VNI_FROM, VNI_TO, NetworkPlan
from alto.model.networks import NetworkInterface, Vpc
from alto.model.routing import Target
from alto.model.sessions import Assignments, Hello
from alto.plan.network_changes import changed
from tests.api.cloud import Cloud, Tenant
from tests.api.rows import host, tiny
from tests.api.test_beside_instances import IMAGE
from tests.api.test_sessions import HELLO

UNDERLAYS = {f"h-{number}": f"192.0.2.{number}:4789" for number in (1, 2, 3)}


@pytest.fixture
def image(cloud: Cloud) -> None:
    # The first is the server's own machine, the others joined.
    for number, key in ((1, None), (2, "k-2"), (3, "k-3")):
        cloud.put(replace(host(number, vcpus=64, memory_mib=64_000), key=key))
    cloud.put(tiny(size_gib=2))


def launched(tenant: Tenant) -> str:
    return str(tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"])


class Hosts:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.sessions = HostSessions(cloud.world, cloud.store, "cloud-test")
        self.links: dict[str, str] = {}
        self.has: dict[str, dict[str, NetworkPlan]] = {}  # host -> VPC -> its plan, as an agent keeps it
        self.whole: set[str] = set()  # VPCs of which the last one that heard was told the whole plan

    async def join(self, id: str) -> dict[str, NetworkPlan]:
        key = self.cloud.store.read(lambda reader: reader.get(Host, id)).key
        hello: Hello = replace(HELLO, host_id=id, name=id, underlay=UNDERLAYS[id], key=key)
        self.links[id] = await self.sessions.hello(hello)
        return await self.hears(id)

    async def hears(self, id: str, timeout_s: float = 0.3) -> dict[str, NetworkPlan]:
        """What it has of those VPCs of which it is told anything now."""
        news: Assignments | None = await self.sessions.assignments(self.links[id], timeout_s=timeout_s)
        if news is None:
            return {}
        has = self.has.setdefault(id, {})
        self.whole = {plan.vpc_id for plan in news.networks}
        has.update((plan.vpc_id, plan) for plan in news.networks)
        for change in news.network_changes:
            has[change.vpc_id] = changed(has[change.vpc_id], change)
        return {vpc_id: has[vpc_id] for vpc_id in self.whole | {change.vpc_id for change in news.network_changes}}

    async def place(self, instance_id: str, host_id: str | None, phase: Phase = Phase.PLACED) -> None:
        await self.cloud.store.write(
            lambda tx: tx.put(replace(tx.get(Instance, instance_id), host_id=host_id, phase=phase, epoch=1))
        )
        await asyncio.sleep(0.05)


def addresses(plan: NetworkPlan) -> dict[str, str]:
    return {address: one.underlay for one in plan.neighbours for address in one.addresses}


def test_hosts_of_a_vpc_hear_of_each_others_instances(cloud: Cloud, tenant: Tenant, image: None) -> None:
    one, two = launched(tenant), launched(tenant)
    first, second = (cloud.store.read(lambda reader, id=id: reader.get(Instance, id)).nic for id in (one, two))
    vpc_id = first.vpc_id
    vni = cloud.store.read(lambda reader: reader.get(Vpc, vpc_id)).vni

    async def body() -> None:
        hosts = Hosts(cloud)
        running = asyncio.create_task(hosts.sessions.run())
        assert [await hosts.join(id) for id in UNDERLAYS] == [{}, {}, {}]
        await hosts.place(one, "h-2")
        alone = (await hosts.hears("h-2"))[vpc_id]
        assert (alone.hosts, addresses(alone)) == ((UNDERLAYS["h-1"],), {})
        # The server's machine has it too, for the public address; the third host hears nothing.
        passing = (await hosts.hears("h-1"))[vpc_id]
        assert passing.standing
        assert addresses(passing) == {first.private_ip: UNDERLAYS["h-2"]}
        assert [one.public_ip for near in passing.neighbours for one in near.public] == [first.public_ip]
        await hosts.place(two, "h-3")
        for id, others in (("h-1", {first: "h-2", second: "h-3"}), ("h-2", {second: "h-3"}), ("h-3", {first: "h-2"})):
            told = (await hosts.hears(id))[vpc_id]
            assert addresses(told) == {nic.private_ip: UNDERLAYS[where] for nic, where in others.items()}
            assert {id: set(members) for id, members in told.members.items()} == {first.group_ids[0]: set(addresses(told))}
            assert set(told.hosts) == set(UNDERLAYS.values()) - {UNDERLAYS[id]}
            assert told.vni == vni
        assert vni is not None and VNI_FROM <= vni <= VNI_TO  # noqa: PT018
        # A report changes nothing that others are told.
        await hosts.place(one, "h-2", Phase.RUNNING)
        assert [await hosts.hears(id) for id in ("h-1", "h-3")] == [{}, {}]
        # The second moves to where the first is: the third host has nothing of the VPC any more.
        await hosts.place(two, "h-2")
        assert set(addresses((await hosts.hears("h-1"))[vpc_id]).values()) == {UNDERLAYS["h-2"]}
        assert (await hosts.hears("h-2"))[vpc_id].hosts == (UNDERLAYS["h-1"],)
        for id in (one, two):
            await hosts.place(id, "h-2", Phase.TERMINATED)
        gone = (await hosts.hears("h-1"))[vpc_id]
        assert (gone.standing, gone.vni, gone.neighbours) == (False, 0, ())
        # A server that was started again knows what rows say.
        await hosts.place(one, "h-2")
        again = Hosts(cloud)
        assert (await again.join("h-1"))[vpc_id].neighbours == passing.neighbours
        running.cancel()

    cloud.runner.run(body())


def test_who_comes_and_goes_is_told_alone(cloud: Cloud, tenant: Tenant, image: None) -> None:
    """To hosts that have the VPC already: what differs, and it leads to what a new session is told whole."""
    ids = [launched(tenant) for _ in range(5)]
    rows = cloud.store.read(lambda reader: [reader.get(Instance, id) for id in ids])
    vpc_id = rows[0].nic.vpc_id
    (default,) = rows[0].nic.group_ids
    other = str(tenant("CreateSecurityGroup", GroupName="other", Description="of one", VpcId=vpc_id)["GroupId"])

    async def body() -> None:
        hosts = Hosts(cloud)
        running = asyncio.create_task(hosts.sessions.run())
        for id, where in zip(ids, ("h-1", "h-2", "h-3", None, None), strict=True):
            await hosts.place(id, where)
        for name in UNDERLAYS:
            await hosts.join(name)
        for name in UNDERLAYS:
            await hosts.hears(name)  # of those that came after it

        async def told(concerned: set[str]) -> None:
            for name in UNDERLAYS:
                said = vpc_id in await hosts.hears(name)
                assert said == (name in concerned), name
                assert not said or not hosts.whole, name
            whereabouts, plan = cloud.store.read(lambda reader: (Whereabouts(reader), read_plan(reader, vpc_id)))
            assert plan is not None
            for name in UNDERLAYS:
                mine = hosts.has[name][vpc_id]
                whole = whereabouts.told(plan, name, standing=mine.standing)
                assert (mine.neighbours, mine.members) == (whole.neighbours, whole.members), name

        # One more, on a host that has the VPC: the two others hear of it.
        await hosts.place(ids[3], "h-2")
        await told({"h-1", "h-3"})
        # In a group that nobody was in, beside its first.
        row = cloud.store.read(lambda reader: reader.get(Instance, ids[3]))
        nic = replace(row.nic, group_ids=(default, other))
        await cloud.store.write(lambda tx: tx.put(replace(tx.get(Instance, ids[3]), nics=(nic,))))
        await told({"h-1", "h-3"})
        assert hosts.has["h-1"][vpc_id].members[other] == (nic.private_ip,)
        # It moves.
        await hosts.place(ids[3], "h-3")
        await told({"h-1", "h-2"} | {"h-3"})
        # Two at once; and it goes, with the group's last member.
        await hosts.place(ids[4], "h-2")
        await hosts.place(ids[3], "h-3", Phase.TERMINATED)
        await told(set(UNDERLAYS))
        assert other not in hosts.has["h-1"][vpc_id].members
        running.cancel()

    cloud.runner.run(body())


def test_a_host_that_is_alone_has_no_tunnel(cloud: Cloud, tenant: Tenant, image: None) -> None:
    one, two = launched(tenant), launched(tenant)

    async def body() -> None:
        hosts = Hosts(cloud)
        running = asyncio.create_task(hosts.sessions.run())
        await hosts.join("h-1")
        await hosts.place(one, "h-1")
        (told,) = (await hosts.hears("h-1")).values()
        assert (told.hosts, told.vni, told.underlay) == ((), 0, "")
        await hosts.place(two, "h-1")
        assert await hosts.hears("h-1") == {}
        running.cancel()

    cloud.runner.run(body())


def test_hosts_on_one_machine_have_ports_of_their_own(cloud: Cloud, image: None) -> None:
    async def body() -> None:
        hosts = Hosts(cloud)
        for id in ("h-1", "h-2", "h-3"):
            key = cloud.store.read(lambda reader, id=id: reader.get(Host, id)).key
            for _ in range(2):
                await hosts.sessions.hello(replace(HELLO, host_id=id, name=id, underlay="192.0.2.1:4789", key=key))
        found = [one.underlay for one in cloud.store.read(lambda reader: reader.where(Host))]
        assert found == ["192.0.2.1:4789", "192.0.2.1:4790", "192.0.2.1:4791"]

    cloud.runner.run(body())


def test_an_interface_that_a_route_names_is_watched(cloud: Cloud, tenant: Tenant, image: None) -> None:
    one = launched(tenant)
    nic = cloud.store.read(lambda reader: reader.get(Instance, one)).nic
    interface = tenant("CreateNetworkInterface", SubnetId=nic.subnet_id)["NetworkInterface"]["NetworkInterfaceId"]
    filters = [{"Name": "vpc-id", "Values": [nic.vpc_id]}]
    table = tenant("DescribeRouteTables", Filters=filters)["RouteTables"][0]["RouteTableId"]
    tenant("CreateRoute", RouteTableId=table, DestinationCidrBlock="10.99.0.0/16", NetworkInterfaceId=interface)

    async def attach(instance_id: str | None) -> None:
        await cloud.store.write(lambda tx: tx.put(replace(tx.get(NetworkInterface, interface), instance_id=instance_id)))

    async def body() -> None:
        hosts = Hosts(cloud)
        running = asyncio.create_task(hosts.sessions.run())
        await hosts.join("h-1")
        await hosts.place(one, "h-1")
        for expected in (None, Target.INTERFACE, None):
            (told,) = (await hosts.hears("h-1")).values()
            assert {route.target for subnet in told.subnets for route in subnet.routes if "10.99" in route.destination} == {
                expected
            }
            await attach(one if expected is None else None)
        running.cancel()

    cloud.runner.run(body())

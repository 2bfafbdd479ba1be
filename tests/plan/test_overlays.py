"""Goal: what hosts are told of one VPC fits together: nobody speaks to one who does not listen, nobody is left out, a NAT
gateway works on one host, and a public address leads into the VPC by one host of each machine.

Method: random machines, hosts, instances, peers and balancers; all hosts' plans are compared with each other.
"""

from hypothesis import given
from hypothesis import strategies as some

from alto.model.instances import Nic
from alto.model.network_plans import EndpointPlan, NatPlan, NetworkPlan
from alto.plan.network_changes import changed
from alto.plan.overlays import Place, Resident, places, resettled, spread
from tests.drivers.network.samples import group, plan

VNI = 0x800001


END = EndpointPlan(
    interface_id="eni-end",
    subnet_id="subnet-vpc-1",
    mac="02:00:00:00:01:00",
    private_ip="10.77.0.99",
    hostname="ip-10-77-0-99.ec2.internal",
    group_ids=("sg-a",),
)


def resident(number: int, host_id: str, *group_ids: str) -> Resident:
    nic = Nic(
        interface_id=f"eni-{number}",
        attachment_id=f"eni-attach-{number}",
        subnet_id="subnet-vpc-1",
        vpc_id="vpc-1",
        mac=f"02:00:00:00:00:{number:02x}",
        private_ip=f"10.77.0.{10 + number}",
        public_ip=f"127.64.0.{10 + number}",
        group_ids=group_ids or ("sg-a",),
    )
    return Resident(instance_id=f"i-{number}", host_id=host_id, region="us-east-1", hostname=f"guest{number}", nics=(nic,))


@given(
    machines=some.lists(some.integers(1, 3), min_size=1, max_size=5),
    at_server=some.integers(0, 1),
    lives=some.lists(some.integers(0, 4), min_size=1, max_size=6),
    peer_lives=some.lists(some.integers(0, 4), max_size=2),
    balanced=some.lists(some.integers(0, 4), max_size=1),
    ready=some.lists(some.booleans(), min_size=5, max_size=5),
)
def test_what_hosts_are_told_fits_together(
    machines: list[int], at_server: int, lives: list[int], peer_lives: list[int], balanced: list[int], ready: list[bool]
) -> None:
    hosts = {
        f"h-{number}": Place(
            host_id=f"h-{number}",
            underlay=f"192.0.2.{machine}:{4789 + number}",
            ready=ready[number],
            at_server=number == 0 and at_server == 1,
        )
        for number, machine in enumerate(machines)
    }

    def named(numbers: list[int]) -> set[str]:
        return {f"h-{number % len(machines)}" for number in numbers}

    residents = [resident(number, f"h-{where % len(machines)}") for number, where in enumerate(lives)]
    having = places(hosts, named(lives), [named(peer_lives)], named(balanced))
    assert named(lives) | named(peer_lives) | named(balanced) <= having
    nat = NatPlan(id="nat-1", subnet_id="subnet-vpc-1", private_ip="10.77.0.200", public_ip=None)
    whole = plan(group("sg-a"), nats=(nat,), endpoints=(END,), vni=VNI)
    around = [hosts[id] for id in sorted(having)]
    told: dict[str, NetworkPlan] = {
        one.host_id: spread(whole, one, around, residents, standing=one.host_id not in named(lives)) for one in around
    }
    for id, its in told.items():
        others = {hosts[other].underlay for other in having - {id}}
        assert set(its.hosts) == others
        assert its.vni == (VNI if others else 0)
        far = {one.nics[0].private_ip: hosts[one.host_id].underlay for one in residents if one.host_id != id}
        # An endpoint is on the server's machine, and a neighbour to everybody else.
        by_api = "h-0" if at_server and "h-0" in having else None
        assert its.endpoints == ((END,) if id == by_api else ())
        if by_api not in (None, id):
            far[END.private_ip] = hosts["h-0"].underlay
        assert {one.addresses[0]: one.underlay for one in its.neighbours} == far
        assert set(its.members.get("sg-a", ())) == set(far)
    working = [id for id, its in told.items() if its.nats[0].underlay == ""]
    assert len(working) == 1
    assert {its.nats[0].underlay for its in told.values()} <= {"", hosts[working[0]].underlay}
    if any(one.ready for one in around):
        assert hosts[working[0]].ready
    for machine in {one.address for one in around}:
        there = [its for id, its in told.items() if hosts[id].address == machine]
        for one in residents:
            ways = [near for its in there for near in its.neighbours if near.interface_id == one.nics[0].interface_id]
            leading = [near for near in ways if near.public]
            assert len(leading) == (0 if hosts[one.host_id].address == machine else 1)


@given(lives=some.lists(some.integers(0, 2), max_size=4))
def test_the_servers_machine_has_every_vpc_that_is_elsewhere(lives: list[int]) -> None:
    hosts = {
        f"h-{number}": Place(host_id=f"h-{number}", underlay=f"192.0.2.{number}:4789", ready=True, at_server=number == 0)
        for number in range(3)
    }
    assert ("h-0" in places(hosts, {f"h-{one}" for one in lives}, [], [])) == bool(lives)


def test_loopback_is_nowhere_for_others() -> None:
    here = Place(host_id="h-1", underlay="127.0.0.1:4789", ready=True, at_server=True)
    there = Place(host_id="h-2", underlay="192.0.2.2:4789", ready=True, at_server=False)
    its = spread(plan(vni=VNI), here, (here, there), [resident(1, "h-2")], standing=True)
    assert (its.hosts, its.vni, its.neighbours) == ((), 0, ())


life = some.tuples(some.integers(0, 2), some.sampled_from([("sg-a",), ("sg-b",), ("sg-a", "sg-b")]))


@given(
    machines=some.lists(some.integers(1, 2), min_size=3, max_size=3),
    before=some.dictionaries(some.integers(0, 4), life),
    after=some.dictionaries(some.integers(0, 4), life),
)
def test_who_moved_makes_of_what_was_told_what_would_be_told_anew(
    machines: list[int], before: dict[int, tuple[int, tuple[str, ...]]], after: dict[int, tuple[int, tuple[str, ...]]]
) -> None:
    around = [
        Place(host_id=f"h-{number}", underlay=f"192.0.2.{machine}:{4789 + number}", ready=True, at_server=number == 0)
        for number, machine in enumerate(machines)
    ]

    def people(lives: dict[int, tuple[int, tuple[str, ...]]]) -> list[Resident]:
        return [resident(number, f"h-{where}", *groups) for number, (where, groups) in lives.items()]

    moved = {f"eni-{number}" for number in range(5) if before.get(number) != after.get(number)}
    for host in around:
        old, new = (
            spread(plan(group("sg-a"), group("sg-b"), endpoints=(END,), vni=VNI), host, around, people(lives), standing=False)
            for lives in (before, after)
        )
        who = [one for one in people(after) if one.nics[0].interface_id in moved]
        change = resettled(old, host, around, who, moved)
        assert changed(old, change) == new
        told = {one.interface_id for one in change.neighbours} | set(change.gone_neighbours)
        assert told <= moved

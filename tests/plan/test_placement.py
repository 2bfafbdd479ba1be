"""Placement. Goal: never overfull, nobody refused who fits, and every refusal says what was lacking.
Method: hypothesis over pools of hosts; the expected sums are counted here."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from alto.model.instances import Phase
from alto.model.placement_groups import PlacementGroup, PlacementMember, Strategy
from alto.plan.placement import Demand, Neighbours, Placed, Room, Unplaced, fitting, look_around, place, take
from tests.plan.test_instances import instance

demands = st.builds(
    Demand,
    instance_type=st.just("t"),
    vcpus=st.integers(1, 8),
    memory_mib=st.integers(1, 4096),
)


def room(number: int, vcpus: int, memory_mib: int, refuses: str | None = None) -> Room:
    return Room(
        host_id=f"h-{number}",
        name=f"host-{number}",
        vcpus=16,
        memory_mib=8192,
        vcpus_free=vcpus,
        memory_mib_free=memory_mib,
        refuses=refuses,
    )


pools = st.lists(
    st.tuples(st.integers(0, 16), st.integers(0, 8192), st.sampled_from([None, None, "draining"])), max_size=8
).map(lambda drawn: [room(number, *one) for number, one in enumerate(drawn)])


@given(pools, st.lists(demands, max_size=30))
def test_no_host_is_ever_overfull(rooms: list[Room], wanted: list[Demand]) -> None:
    by_id = {one.host_id: one for one in rooms}
    for demand in wanted:
        match place(demand, rooms):
            case Placed(host_id):
                assert by_id[host_id].refuses is None
                take(demand, by_id[host_id])
    assert all(one.vcpus_free >= 0 and one.memory_mib_free >= 0 for one in rooms)


@given(pools, demands)
def test_what_fits_somewhere_is_placed(rooms: list[Room], demand: Demand) -> None:
    fits = [
        one
        for one in rooms
        if one.refuses is None and one.vcpus_free >= demand.vcpus and one.memory_mib_free >= demand.memory_mib
    ]
    assert isinstance(place(demand, rooms), Placed) == bool(fits)
    assert fitting(demand, 1, rooms) == bool(fits)


@given(pools, demands, st.integers(1, 40))
def test_a_count_that_is_said_to_fit_does(rooms: list[Room], demand: Demand, count: int) -> None:
    said = fitting(demand, count, rooms)
    by_id = {one.host_id: one for one in rooms}
    placed = 0
    for _ in range(count):
        match place(demand, rooms):
            case Placed(host_id):
                take(demand, by_id[host_id])
                placed += 1
            case Unplaced():
                break
    assert said == placed


def test_the_emptiest_host_comes_first_and_ties_go_to_the_lowest_id() -> None:
    demand = Demand(instance_type="t", vcpus=1, memory_mib=64)
    assert place(demand, [room(1, 4, 1000), room(2, 4, 3000), room(3, 4, 2000)]) == Placed("h-2")
    assert place(demand, [room(2, 4, 1000), room(1, 4, 1000)]) == Placed("h-1")


def test_a_refusal_counts_what_hosts_lack() -> None:
    demand = Demand(instance_type="t3.medium", vcpus=2, memory_mib=4096)
    rooms = [room(1, 16, 100), room(2, 16, 200), room(3, 16, 8192, "draining"), room(4, 1, 8192)]
    assert place(demand, rooms) == Unplaced(
        "no host fits t3.medium (2 vCPUs, 4096 MiB): 2 hosts short of memory, 1 host draining, 1 host short of processors"
    )
    assert place(demand, []) == Unplaced(
        "no host fits t3.medium (2 vCPUs, 4096 MiB): this cloud has no host yet; its operator adds one (alto host token create)"
    )


def test_only_a_host_that_simulates_has_what_no_host_has() -> None:
    demand = Demand(instance_type="p3.2xlarge", vcpus=8, memory_mib=62464, needs="GPUs")
    real = room(1, 96, 1 << 20)
    assert place(demand, [real]) == Unplaced("no host fits p3.2xlarge (8 vCPUs, 62464 MiB): 1 host without GPUs")
    assert place(demand, [real, replace(room(2, 96, 1 << 20), kind="fake")]) == Placed("h-2")


def group(strategy: Strategy, partitions: int = 0) -> PlacementGroup:
    return PlacementGroup(
        id="pg-1", account="1", region="r", name="g", strategy=strategy, partitions=partitions, created_at=0.0
    )


@given(pools, st.sampled_from(Strategy), st.integers(1, 3), st.lists(st.sampled_from([None, 1, 2, 3]), max_size=12))
def test_no_two_stand_where_their_group_forbids(
    rooms: list[Room], strategy: Strategy, partitions: int, asked: list[int | None]
) -> None:
    own = group(strategy, partitions if strategy is Strategy.PARTITION else 0)
    by_id = {one.host_id: one for one in rooms}
    neighbours = Neighbours(own, [])
    standing: list[tuple[str, int | None]] = []
    for wish in asked:
        partition = wish if strategy is Strategy.PARTITION and wish is not None and wish <= partitions else None
        demand = Demand(instance_type="t", vcpus=1, memory_mib=64, group=neighbours, partition=partition)
        match place(demand, rooms):
            case Placed(host_id, given_partition):
                assert partition in (None, given_partition)
                take(demand, by_id[host_id], given_partition)
                standing.append((host_id, given_partition))
            case Unplaced(why):
                assert why.startswith("no host fits t")
    hosts = [host_id for host_id, _ in standing]
    match strategy:
        case Strategy.SPREAD:
            assert len(hosts) == len(set(hosts))
        case Strategy.CLUSTER:
            assert len(set(hosts)) <= 1
        case Strategy.PARTITION:
            assert all(number is not None and 1 <= number <= partitions for _, number in standing)
            assert len({*standing}) == len({*hosts}), "no host has two partitions"


@given(pools, st.sampled_from([Strategy.SPREAD, Strategy.CLUSTER]), st.integers(1, 12))
def test_asking_how_many_fit_takes_nothing(rooms: list[Room], strategy: Strategy, count: int) -> None:
    neighbours = Neighbours(group(strategy), [])
    demand = Demand(instance_type="t", vcpus=1, memory_mib=64, group=neighbours)
    open_rooms = [one for one in rooms if one.refuses is None and one.vcpus_free >= 1 and one.memory_mib_free >= 64]
    if strategy is Strategy.CLUSTER:
        # It begins at the emptiest host, as any launch, and stays there.
        most = max((min(one.vcpus_free, one.memory_mib_free // 64) for one in open_rooms), default=0)
        assert fitting(demand, count, rooms) <= most
    else:
        assert fitting(demand, count, rooms) == min(count, len(open_rooms))
    assert all(neighbours.refuses(one.host_id, None) is None for one in rooms)


def test_members_that_wait_stand_nowhere_yet() -> None:
    waiting = PlacementMember(id="i-1", group_id="pg-1", spread_of="pg-1")
    there = PlacementMember(id="i-2", group_id="pg-1", spread_of="pg-1", host_id="h-2")
    demand = Demand(instance_type="t", vcpus=1, memory_mib=64, group=Neighbours(group(Strategy.SPREAD), [waiting, there]))
    assert place(demand, [room(1, 4, 1000), room(2, 4, 3000)]) == Placed("h-1")
    assert place(demand, [room(2, 4, 3000)]) == Unplaced(
        "no host fits t (1 vCPUs, 64 MiB): 1 host with another member of the spread placement group g"
    )


accounts = st.sampled_from(["alice", "bob", "carol"])


@given(pools, st.lists(st.tuples(demands, accounts, st.booleans()), max_size=30))
def test_nobody_stands_beside_another_accounts_dedicated_one(rooms: list[Room], wanted: list[tuple[Demand, str, bool]]) -> None:
    by_id = {one.host_id: one for one in rooms}
    there: dict[str, list[tuple[str, bool]]] = {one.host_id: [] for one in rooms}
    for bare, account, dedicated in wanted:
        demand = replace(bare, account=account, dedicated=dedicated)
        if dedicated:
            look_around(rooms, lambda host_id: [instance(account=whose, host_id=host_id) for whose, _ in there[host_id]])
        match place(demand, rooms):
            case Placed(host_id):
                there[host_id].append((account, dedicated))
                take(demand, by_id[host_id])
    for found in there.values():
        kept = {account for account, dedicated in found if dedicated}
        assert not kept or {account for account, _ in found} == kept
    assert not rooms or any(one.dedicated_to is None for one in rooms), "nobody is kept out of the whole cloud"


def test_only_those_that_hold_room_keep_a_dedicated_one_away() -> None:
    demand = Demand(instance_type="t", vcpus=1, memory_mib=64, account="alice", dedicated=True)
    for phase, fits in ((Phase.PLACED, False), (Phase.RUNNING, False), (Phase.STOPPED, True), (Phase.TERMINATED, True)):
        one, other = room(1, 16, 8192), room(2, 0, 8192)
        look_around([one, other], lambda host_id, phase=phase: [instance(account="bob", host_id=host_id, phase=phase)])  # type: ignore[misc]
        assert fitting(demand, 1, [one, other]) == fits


def test_the_last_host_is_left_for_all_accounts() -> None:
    demand = Demand(instance_type="t", vcpus=1, memory_mib=64, account="alice", dedicated=True)
    gone, other_kind, theirs = room(2, 16, 8192), room(3, 16, 8192), room(4, 16, 8192)
    gone.refuses, other_kind.kind, theirs.dedicated_to = "not heard of", "container", "bob"
    rooms = [room(1, 16, 8192), gone, other_kind, theirs]
    look_around(rooms, lambda host_id: [])
    assert fitting(demand, 1, rooms) == 0
    assert place(demand, rooms) == Unplaced(
        "no host fits t (1 vCPUs, 64 MiB): 1 host kept for dedicated instances of another account, 1 host left to the "
        "tenancy 'default', as the last that all accounts share, 1 host not heard of, 1 host of kind container, and the image "
        "is for qemu"
    )
    gone.refuses = None
    assert fitting(demand, 17, rooms) == 16, "of two only one"


def test_dedicated_ones_take_few_hosts() -> None:
    demand = Demand(instance_type="t", vcpus=1, memory_mib=64, account="alice", dedicated=True)
    rooms = [room(1, 16, 8192), room(2, 4, 1024)]
    rooms[1].accounts = {"alice"}
    look_around(rooms, lambda host_id: [])
    assert place(demand, rooms) == Placed("h-2")

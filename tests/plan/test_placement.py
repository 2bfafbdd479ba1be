"""Placement. Goal: never overfull, nobody refused who fits, and every refusal says what was lacking.
Method: hypothesis over pools of hosts; the expected sums are counted here."""

from hypothesis import given
from hypothesis import strategies as st

from alto.plan.placement import Demand, Placed, Room, Unplaced, fits_at_least, place, take

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
    assert fits_at_least(demand, 1, rooms) == bool(fits)


@given(pools, demands, st.integers(1, 40))
def test_a_count_that_is_said_to_fit_does(rooms: list[Room], demand: Demand, count: int) -> None:
    said = fits_at_least(demand, count, rooms)
    by_id = {one.host_id: one for one in rooms}
    placed = 0
    for _ in range(count):
        match place(demand, rooms):
            case Placed(host_id):
                take(demand, by_id[host_id])
                placed += 1
            case Unplaced():
                break
    assert said == (placed == count)


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
    assert place(demand, []) == Unplaced("no host fits t3.medium (2 vCPUs, 4096 MiB): this cloud has no host yet")

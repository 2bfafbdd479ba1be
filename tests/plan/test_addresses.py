"""Addresses. Goal: none is given twice, none that EC2 keeps back is ever given, all others are, and a freed one comes late.
Method: hypothesis over small subnets, compared with the standard library's own list of hosts."""

import random
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from alto.model.errors import NoCapacity
from alto.model.networks import AddressPool
from alto.plan.addresses import assignable, given_out, hostname, mac, next_address


def test_a_28_has_eleven_addresses_for_instances() -> None:
    # The VPC user guide's own example: a /24 has 251, a /28 eleven.
    assert assignable(IPv4Network("10.0.0.0/28")) == 11
    assert assignable(IPv4Network("10.0.0.0/24")) == 251


def _pool(cidr: str, *, in_turn: bool) -> AddressPool:
    return AddressPool(id="subnet-1", cidr=cidr, size=assignable(IPv4Network(cidr)), in_turn=in_turn)


@given(st.integers(24, 29), st.data())
def test_each_address_comes_once_until_none_is_left(prefix: int, data: st.DataObject) -> None:
    network = IPv4Network(f"10.1.0.0/{prefix}")
    pool = _pool(str(network), in_turn=False)
    free = [str(one) for one in network][4:-1]
    taken = set(data.draw(st.sets(st.sampled_from(free))))
    cursor, given = data.draw(st.integers(0, network.num_addresses)), set()
    for _ in range(len(free) - len(taken)):
        cursor, address = next_address(pool, cursor, taken.__contains__)
        assert address == str(network[cursor])
        assert address in free
        assert address not in taken
        taken.add(address)
        given.add(address)
    assert given | taken == set(free)
    with pytest.raises(NoCapacity):
        next_address(pool, cursor, taken.__contains__)


_STEP = st.one_of(
    st.integers(1, 4), st.tuples(st.just("choose"), st.integers(0, 11)), st.tuples(st.just("free"), st.integers(0, 11))
)


@given(st.lists(_STEP, max_size=40))
def test_a_pool_that_is_given_in_turn_gives_what_any_other_would(steps: list[int | tuple[str, int]]) -> None:
    """What was chosen, freed and comes round again included; only less is asked."""
    cidr = "10.0.0.0/28"
    knows, asks = _pool(cidr, in_turn=True), _pool(cidr, in_turn=False)
    taken: set[str] = set()
    for step in steps:
        if isinstance(step, int):
            if len(taken) + step > knows.size:
                continue
            cursor = knows.cursor
            for _ in range(step):
                cursor, address = next_address(knows, cursor, taken.__contains__)
                assert (cursor, address) == next_address(asks, asks.cursor, taken.__contains__)
                asks = given_out(asks, cursor, 1)
                assert address not in taken
                taken.add(address)
            knows = given_out(knows, cursor, step)
            assert (knows.used, knows.cursor) == (asks.used, asks.cursor)
        elif step[0] == "free" and taken:
            taken.discard(sorted(taken)[step[1] % len(taken)])
            knows, asks = replace(knows, used=len(taken)), replace(asks, used=len(taken))
        elif (address := f"10.0.0.{4 + step[1] % 11}") not in taken:
            taken.add(address)
            knows, asks = given_out(replace(knows, in_turn=False), knows.cursor, 1), given_out(asks, asks.cursor, 1)


def test_a_pool_that_is_given_in_turn_is_not_looked_up() -> None:
    asked: list[str] = []
    pool = _pool("10.0.0.0/28", in_turn=True)
    for _ in range(11):
        cursor, _ = next_address(pool, pool.cursor, lambda address: bool(asked.append(address)))  # type: ignore[func-returns-value]
        pool = given_out(pool, cursor, 1)
    assert not asked
    next_address(pool, pool.cursor, lambda address: bool(asked.append(address)))  # type: ignore[func-returns-value]
    assert asked == ["10.0.0.4"]


def test_a_freed_address_comes_back_after_all_others() -> None:
    pool = _pool("10.0.0.0/28", in_turn=False)
    cursor, held, order = 0, "", []
    for _ in range(11):
        cursor, held = next_address(pool, cursor, held.__eq__)  # the ones before were given back at once
        order.append(cursor)
    assert order == list(range(4, 15))


def test_names_and_hardware_addresses() -> None:
    assert hostname("172.31.0.5", "us-east-1") == "ip-172-31-0-5.ec2.internal"
    # The user guide's example of another region; guests there get that domain from DHCP too.
    assert hostname("10.24.34.0", "us-west-2") == "ip-10-24-34-0.us-west-2.compute.internal"


def test_hardware_addresses_are_those_of_numbers_that_were_drawn() -> None:
    ids = [f"eni-{number:017x}" for number in (0x0AB3_4567_89AB_CDEF, 0x0AB3_4567_89AB_CDF0, 0x0AB3_8567_89AB_CDEF)]
    macs = [mac(id) for id in ids]
    assert macs == ["16:67:89:ab:cd:f0", "16:67:89:ab:cd:f1", "16:67:89:ab:cd:f0"], "46 bits: 18 hours later they come again"
    for _ in range(1000):
        first = int(mac(f"eni-{random.getrandbits(64):017x}")[:2], 16)
        assert first & 3 == 2, "for one machine, and nobody's brand"
    with pytest.raises(ValueError, match="'eni-x' was not drawn"):
        mac("eni-x")

"""Addresses. Goal: none is given twice, none that EC2 keeps back is ever given, all others are, and a freed one comes late.
Method: hypothesis over small subnets, compared with the standard library's own list of hosts."""

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alto.model.errors import NoCapacity
from alto.plan.addresses import address_at, assignable, hostname, mac, next_offset


def test_a_28_has_eleven_addresses_for_instances() -> None:
    # The VPC user guide's own example: a /24 has 251, a /28 eleven.
    assert assignable(IPv4Network("10.0.0.0/28")) == 11
    assert assignable(IPv4Network("10.0.0.0/24")) == 251


@given(st.integers(24, 29), st.data())
def test_each_address_comes_once_until_none_is_left(prefix: int, data: st.DataObject) -> None:
    network = IPv4Network(f"10.1.0.0/{prefix}")
    free = [str(one) for one in network][4:-1]
    taken = set(data.draw(st.sets(st.sampled_from(free))))
    cursor, given_out = data.draw(st.integers(0, network.num_addresses)), set()
    for _ in range(len(free) - len(taken)):
        cursor = next_offset(network, cursor, lambda address: address in taken)
        address = address_at(network, cursor)
        assert address in free
        assert address not in taken
        taken.add(address)
        given_out.add(address)
    assert given_out | taken == set(free)
    with pytest.raises(NoCapacity):
        next_offset(network, cursor, lambda address: address in taken)


def test_a_freed_address_comes_back_after_all_others() -> None:
    network = IPv4Network("10.0.0.0/28")
    cursor, order = 0, []
    for _ in range(11):
        held = address_at(network, cursor)  # the ones before were given back at once
        cursor = next_offset(network, cursor, held.__eq__)
        order.append(cursor)
    assert order == list(range(4, 15))


def test_names_and_hardware_addresses() -> None:
    assert hostname("172.31.0.5", "us-east-1") == "ip-172-31-0-5.ec2.internal"
    # The user guide's example of another region; guests there get that domain from DHCP too.
    assert hostname("10.24.34.0", "us-west-2") == "ip-10-24-34-0.us-west-2.compute.internal"
    assert mac("0123456789") == "02:01:23:45:67:89"

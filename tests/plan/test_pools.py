"""Goal: a pool of public addresses is one that can work, and who gives another is told why. Method: one of each kind."""

from ipaddress import IPv4Interface, IPv4Network

import pytest

from alto.plan.pools import check_place, pool_range


@pytest.mark.parametrize(
    "text", ["127.64.0.0/16", "127.1.2.0/29", "192.168.7.128/25", "203.0.113.0/24", "10.0.0.0/8", "172.32.0.0/16", "8.8.8.8/29"]
)
def test_ranges_that_work(text: str) -> None:
    assert str(pool_range(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("office", "no range"),
        ("2001:db8::/64", "no range"),
        ("192.168.7.0/33", "no range"),
        ("192.168.7.9", "192.168.7.9/32"),
        ("192.168.7.130/25", "192.168.7.128/25"),
        ("192.168.7.0/255.255.255.0", "192.168.7.0/24"),
        ("192.168.7.8/30", "too small"),
        ("0.0.0.0/0", "too large"),
        ("126.0.0.0/7", "too large"),
        ("127.0.0.0/8", "127.0.0.0/16"),
        ("127.0.1.0/24", "127.0.0.0/16"),
        ("0.1.0.0/16", "0.0.0.0/8"),
        ("169.254.3.0/24", "169.254.0.0/16"),
        ("224.0.1.0/24", "224.0.0.0/3"),
        ("240.64.0.0/16", "224.0.0.0/3"),
        ("172.31.240.0/20", "default VPC"),
        ("172.16.0.0/12", "default VPC"),
    ],
)
def test_ranges_that_do_not_say_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        pool_range(text)


LAN = {"lo": [IPv4Interface("127.0.0.1/8"), IPv4Interface("192.168.7.133/32")], "eth0": [IPv4Interface("192.168.7.2/24")]}


def test_no_address_of_the_pool_is_the_machines_own_or_its_routers() -> None:
    check_place(IPv4Network("192.168.7.128/25"), LAN, ["192.168.7.1"])  # a balancer's, on lo, is the cloud's
    check_place(IPv4Network("203.0.113.0/24"), LAN, ["192.168.7.1"])
    check_place(IPv4Network("127.64.0.0/16"), LAN, [])
    with pytest.raises(ValueError, match=r"own address 192\.168\.7\.2 \(eth0\)"):
        check_place(IPv4Network("192.168.7.0/25"), LAN, ["192.168.7.1"])
    with pytest.raises(ValueError, match=r"192\.168\.7\.129, which is this machine's router"):
        check_place(IPv4Network("192.168.7.128/25"), LAN, ["192.168.7.129"])

"""Goal: ranges of VPCs and subnets are what EC2's documentation allows. Method: its own examples and limits ("VPC CIDR
blocks", "Subnet CIDR blocks"), and hypothesis for what must hold whatever the ranges: subnets never meet."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alto.model.errors import Refused
from alto.plan.ranges import amazon_v6, free_range, further_range, overlap, subnet_range, subnet_range_v6, vpc_range


def code_of(refusal: pytest.ExceptionInfo[Refused]) -> str:
    return refusal.value.aws_code


@pytest.mark.parametrize(("text", "canonical"), [("10.0.0.0/16", "10.0.0.0/16"), ("100.68.0.18/18", "100.68.0.0/18")])
def test_a_range_of_a_vpc_is_canonical(text: str, canonical: str) -> None:
    assert str(vpc_range(text)) == canonical


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("10.0.0.0/15", "InvalidVpc.Range"),
        ("10.0.0.0/29", "InvalidVpc.Range"),
        ("127.0.0.0/16", "InvalidVpc.Range"),
        ("169.254.0.0/16", "InvalidVpc.Range"),
        ("224.0.0.0/16", "InvalidVpc.Range"),
        ("1000.1.0.0/20", "InvalidParameterValue"),
        ("10.0.0.0", "InvalidParameterValue"),
        ("10.0.0.0/255.255.0.0", "InvalidParameterValue"),
        ("fd00::/16", "InvalidParameterValue"),
        ("", "InvalidParameterValue"),
    ],
)
def test_what_a_vpc_cannot_have(text: str, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        vpc_range(text)
    assert code_of(refusal) == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("10.0.1.0/24", None),
        ("10.0.0.0/16", None),
        ("10.0.0.0/28", None),
        ("10.0.0.0/29", "InvalidSubnet.Range"),
        ("10.1.0.0/24", "InvalidSubnet.Range"),
        ("10.0.0.0/15", "InvalidSubnet.Range"),
        ("nonsense", "InvalidParameterValue"),
    ],
)
def test_a_subnet_lies_in_its_vpc(text: str, code: str | None) -> None:
    if code is None:
        assert str(subnet_range(text, ["10.0.0.0/16"], [])) == text
        return
    with pytest.raises(Refused) as refusal:
        subnet_range(text, ["10.0.0.0/16"], [])
    assert code_of(refusal) == code


def networks(prefixes: st.SearchStrategy[int]) -> st.SearchStrategy[str]:
    def network(number: int, prefix: int) -> str:
        return str(ipaddress.IPv4Network((0x0A000000 | number << 4, prefix), strict=False))

    return st.builds(network, st.integers(0, 2**12 - 1), prefixes)


@given(st.lists(networks(st.integers(16, 28)), max_size=12))
def test_subnets_never_meet(asked: list[str]) -> None:
    taken: list[str] = []
    for text in asked:
        # An address is taken when any range given so far contains it: the expectation counts addresses, not ranges.
        wanted = ipaddress.IPv4Network(text)
        meets = any(wanted[0] in ipaddress.IPv4Network(each) or ipaddress.IPv4Network(each)[0] in wanted for each in taken)
        if not meets:
            taken.append(str(subnet_range(text, ["10.0.0.0/16"], taken)))
            continue
        with pytest.raises(Refused) as refusal:
            subnet_range(text, ["10.0.0.0/16"], taken)
        assert code_of(refusal) == "InvalidSubnet.Conflict"


@pytest.mark.parametrize(
    ("primary", "text", "fine"),
    [
        ("10.0.0.0/16", "10.2.0.0/16", True),
        ("10.0.0.0/16", "100.64.0.0/16", True),
        ("10.0.0.0/16", "10.0.128.0/17", False),
        ("10.0.0.0/16", "172.16.0.0/16", False),
        ("10.0.0.0/16", "192.168.0.0/16", False),
        ("10.0.0.0/16", "198.19.0.0/16", False),
        ("172.31.0.0/16", "10.0.0.0/16", False),
        ("172.31.0.0/16", "172.16.0.0/16", True),
        ("100.64.0.0/16", "10.0.0.0/16", False),
    ],
)
def test_further_ranges_come_from_the_same_private_block(primary: str, text: str, fine: bool) -> None:
    if fine:
        assert str(further_range(text, [primary], [])) == text
        return
    with pytest.raises(Refused) as refusal:
        further_range(text, [primary], [])
    assert code_of(refusal) == "InvalidVpc.Range"


def test_a_further_range_does_not_swallow_a_route() -> None:
    with pytest.raises(Refused) as refusal:
        further_range("10.2.0.0/16", ["10.0.0.0/16"], ["0.0.0.0/0", "10.2.3.0/24"])
    assert code_of(refusal) == "InvalidVpc.Range"
    assert further_range("10.2.3.0/28", ["10.0.0.0/16"], ["0.0.0.0/0", "10.2.3.0/24"])


def test_ipv6_ranges() -> None:
    given = amazon_v6("0123456789ab")
    assert str(given) == "fd01:2345:6789:ab00::/56"
    own = [str(given)]
    assert str(subnet_range_v6("fd01:2345:6789:ab05::/64", own, [])) == "fd01:2345:6789:ab05::/64"
    for text, code in (
        ("fd01:2345:6789:ab00::/60", "InvalidSubnet.Range"),
        ("fd01:2345:6789:ac00::/64", "InvalidSubnet.Range"),
        ("fd01:2345:6789:ab07::/64", "InvalidSubnet.Conflict"),
        ("10.0.0.0/24", "InvalidParameterValue"),
    ):
        with pytest.raises(Refused) as refusal:
            subnet_range_v6(text, own, ["fd01:2345:6789:ab07::/64"])
        assert code_of(refusal) == code


def test_the_lowest_free_range() -> None:
    assert str(free_range(["172.31.0.0/16"], ["172.31.0.0/20", "172.31.32.0/20"], 20)) == "172.31.16.0/20"
    assert free_range(["10.0.0.0/24"], ["10.0.0.0/28"], 24) is None


def test_ranges_of_two_vpcs() -> None:
    assert overlap(["10.0.0.0/16", "10.5.0.0/16"], ["10.5.128.0/20"])
    assert not overlap(["10.0.0.0/16"], ["10.1.0.0/16", "192.168.0.0/24"])

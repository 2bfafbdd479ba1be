"""Goal: a VPC's rules are data that no tenant's text can break, and changes are as long as what changed.

Method: compile plans, among them hostile ones, and read the text. What the rules do to packets is asked of the kernel itself in
tests/drivers/network/test_rules.py.
"""

import copy
import re

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from alto.model.network_plans import Firewall, NetworkPlan, Port
from alto.plan.firewall import compiled, plugged, replanned, ruleset, statements, take, unplugged
from tests.drivers.network.samples import ALL_OUT, DEFAULT, address_v6, allow, dual, dual_port, group, plan, port

# One statement of nft: plain words, no quotes but around devices, and nothing that could begin another statement.
STATEMENT = re.compile(
    r"(add|delete|flush) (table|map|set|chain|rule|element) (inet|arp) alto( [a-z_][A-Za-z0-9_-]*)?"
    r"( [A-Za-z0-9_@.:,/!={}\-]+| \"[A-Za-z0-9*-]+\"|;)*"
)

texts = st.text(max_size=20) | st.sampled_from(
    ["sg-1; flush ruleset", "sg-1\nflush ruleset", '"', "}", "$x", "@y", "", "tcp accept"]
)
permissions = st.builds(
    allow,
    st.sampled_from(["tcp", "TCP", "udp", "icmp", "-1", "6", "50", "58", "256", "gre", "-2", "٣"]) | texts,
    st.integers(-2, 70000),
    st.integers(-2, 70000),
    cidr_v6=st.sampled_from([None, "::/0", "fd00::/33", "fd00::/129", "::/0; accept"]) | texts,
    cidr=st.sampled_from([None, "0.0.0.0/0", "10.0.0.1/8", "10.0.0.0/33", "::/0", "10.0.0.0/8; accept"]) | st.none() | texts,
    group=st.sampled_from([None, "sg-default", "sg-absent"]) | st.none() | texts,
    egress=st.booleans(),
)


def rules(text: str, chain: str) -> list[str]:
    return [
        line.removeprefix(f"add rule inet alto {chain} ")
        for line in text.splitlines()
        if f" {chain} " in line and "rule" in line
    ]


def with_port(firewall: Firewall, new: Port) -> tuple[str, Firewall]:
    """The transaction, and what it leads to; `firewall` stays as it is."""
    patch = plugged(firewall, new)
    after = copy.deepcopy(firewall)
    take(after, patch)
    return statements(firewall, patch), after


def without_port(firewall: Firewall, port_id: str) -> tuple[str, Firewall]:
    patch = unplugged(firewall, port_id)
    after = copy.deepcopy(firewall)
    take(after, patch)
    return statements(firewall, patch), after


def change(firewall: Firewall, network: NetworkPlan, ports: list[Port]) -> str:
    return statements(firewall, replanned(firewall, network, ports))


def by(*permissions_: msgspec.Struct) -> list[str]:
    """The ingress rules of one group."""
    compiled_ = compiled(plan(DEFAULT, group("sg-1", *permissions_)), [])  # type: ignore[arg-type]
    return rules(ruleset(compiled_), "c_by_sg_1")


def test_a_rule_means_what_ec2_means() -> None:
    everybody = "0.0.0.0/0"
    assert by(allow("tcp", 80, cidr=everybody)) == ["meta nfproto ipv4 tcp dport 80 accept"]
    assert by(allow("TCP", 80, cidr=everybody)) == ["meta nfproto ipv4 tcp dport 80 accept"]
    assert by(allow("6", 80, 90, cidr="10.1.2.3/8")) == ["ip saddr 10.0.0.0/8 tcp dport 80-90 accept"]
    assert by(allow("udp", 0, 65535, cidr=everybody)) == ["meta nfproto ipv4 meta l4proto udp accept"]
    assert by(allow("tcp", -1, -1, cidr=everybody)) == ["meta nfproto ipv4 meta l4proto tcp accept"]
    assert by(allow("icmp", 8, -1, cidr=everybody)) == ["meta nfproto ipv4 icmp type 8 accept"]
    assert by(allow("icmp", 3, 4, cidr=everybody)) == ["meta nfproto ipv4 icmp type 3 icmp code 4 accept"]
    assert by(allow("icmp", -1, -1, cidr=everybody)) == ["meta nfproto ipv4 meta l4proto icmp accept"]
    assert by(allow("50", cidr=everybody)) == ["meta nfproto ipv4 meta l4proto 50 accept"]
    assert by(allow("-1", group="sg-default")) == ["ip saddr @alto_of_sg_default accept"]
    assert rules(ruleset(compiled(plan(group("sg-1")), [])), "c_to_sg_1") == ["meta nfproto ipv4 accept"]


def test_a_rule_without_meaning_lets_nothing_through_and_harms_no_other() -> None:
    bad = [
        allow("gre", cidr="0.0.0.0/0"),
        allow("tcp", 90, 80, cidr="0.0.0.0/0"),
        allow("tcp", 1, 65536, cidr="0.0.0.0/0"),
        allow("icmp", 256, cidr="0.0.0.0/0"),
        allow("256", cidr="0.0.0.0/0"),
        allow("tcp", 80, cidr="10.0.0.0/33"),
        allow("tcp", 80, cidr="nonsense"),
        allow("tcp", 80, group="sg-absent"),
    ]
    firewall = compiled(plan(group("sg-1", *bad, allow("tcp", 22, cidr="0.0.0.0/0"))), [])
    assert rules(ruleset(firewall), "c_by_sg_1") == ["meta nfproto ipv4 tcp dport 22 accept"]
    assert len(firewall.refused["sg-1"]) == len(bad)
    # What no packet is, is neither wrong nor anything.
    assert by(allow("icmpv6", cidr="0.0.0.0/0"), allow("icmp", cidr_v6="::/0"), allow("tcp", 80)) == []


def test_a_rule_is_of_the_family_that_its_range_is_of() -> None:
    assert by(allow("tcp", 80, cidr_v6="::/0")) == ["meta nfproto ipv6 tcp dport 80 accept"]
    assert by(allow("-1", cidr_v6="fd00:a::1/48")) == ["ip6 saddr fd00:a::/48 accept"]
    assert by(allow("icmpv6", 128, 0, cidr_v6="::/0")) == ["meta nfproto ipv6 icmpv6 type 128 icmpv6 code 0 accept"]
    network = dual(DEFAULT, group("sg-1", allow("tcp", 80, group="sg-default"), allow("58", group="sg-default")))
    firewall = compiled(network, [dual_port(1), port(2)])
    assert rules(ruleset(firewall), "c_by_sg_1") == [
        "ip saddr @alto_of_sg_default tcp dport 80 accept",
        "ip6 saddr @alto_of6_sg_default tcp dport 80 accept",
        "ip6 saddr @alto_of6_sg_default meta l4proto 58 accept",
    ]
    assert set(firewall.elements["alto_of6_sg_default"]) == {"fd00:a:0:1::b"}
    assert set(firewall.elements["alto_of_sg_default"]) == {"10.77.0.11", "10.77.0.12"}
    # A group without IPv6 has the same rules as ever.
    assert "alto_of6_sg_default" not in compiled(plan(), [port(1)]).declared


def test_changes_of_ipv6_end_where_a_fresh_rule_set_is() -> None:
    network = dual(DEFAULT, group("sg-1", allow("-1", list="pl-1")), prefix_lists={"pl-1": ()})
    firewall = compiled(network, [dual_port(1), port(2)])
    listed = msgspec.structs.replace(network, prefix_lists={"pl-1": ("fd00::/64",)}, members={"sg-1": (address_v6(9),)})
    for now, ports in ((listed, [port(1), dual_port(2, "sg-1")]), (network, [dual_port(1)])):
        take(firewall, replanned(firewall, now, ports))
        fresh = compiled(now, ports)
        assert (firewall.chains, firewall.declared) == (fresh.chains, fresh.declared)
        assert firewall.elements == fresh.elements


def test_a_port_that_makes_no_sense_has_no_traffic_and_harms_no_other() -> None:
    firewall = compiled(plan(), [port(1), port(2, mac="02:00; accept"), port(3, private_ip="10.77.0.13 accept")])
    assert set(firewall.elements["alto_from"]) == {f'"{port(1).device}"'}
    assert set(firewall.refused) == {port(2).id, port(3).id}


def test_a_guest_is_only_itself_before_anything_else_is_asked() -> None:
    text = ruleset(compiled(plan(), [port(1)]))
    own = rules(text, f"c_from_{port(1).device}")
    assert own[0] == "ether saddr != 02:00:0a:4d:00:0b counter drop"
    assert own[1] == "meta nfproto != ipv4 counter drop"
    assert own[3] == "ip saddr != 10.77.0.11 counter drop"
    assert own[-1] == "accept"
    # Before connection tracking (priority -200), so that no state can let a forged packet in.
    assert "add chain inet alto c_from { type filter hook prerouting priority -300; policy accept; }" in text.splitlines()


def test_members_are_the_ports_here_and_the_addresses_elsewhere() -> None:
    away = plan(DEFAULT, group("sg-1"), members={"sg-default": ("10.77.0.99", "nonsense", "::1"), "sg-absent": ("10.77.0.98",)})
    firewall = compiled(away, [port(1), port(2, "sg-1", "sg-default"), port(3, "sg-1", "sg-absent")])
    assert set(firewall.elements["alto_of_sg_default"]) == {"10.77.0.99", "10.77.0.11", "10.77.0.12"}
    assert set(firewall.elements["alto_of_sg_1"]) == {"10.77.0.12", "10.77.0.13"}
    # A group of a peer's is known by its members alone.
    assert set(firewall.elements["alto_of_sg_absent"]) == {"10.77.0.98", "10.77.0.13"}


def test_a_change_is_as_long_as_what_changed() -> None:
    few = compiled(plan(), [port(number) for number in range(1, 3)])
    many = compiled(plan(), [port(number) for number in range(1, 200)])
    new = port(240)
    assert len(with_port(many, new)[0]) == len(with_port(few, new)[0])
    assert len(without_port(many, port(1).id)[0]) == len(without_port(few, port(1).id)[0])
    assert change(many, plan(), [port(number) for number in range(1, 200)]) == ""


def test_what_comes_and_goes_leaves_nothing() -> None:
    firewall = compiled(plan(), [port(1)])
    assert without_port(with_port(firewall, port(2))[1], port(2).id)[1] == firewall
    assert with_port(firewall, port(1)) == ("", firewall)
    # A nonsensical port is forgotten too.
    bad = port(3, mac="")
    assert without_port(with_port(firewall, bad)[1], bad.id)[1] == firewall


@given(ids=st.lists(texts, max_size=3), wishes=st.lists(permissions, max_size=6), odd=st.tuples(texts, texts, texts))
def test_no_text_of_a_tenant_gets_into_the_rules(ids: list[str], wishes: list[object], odd: tuple[str, str, str]) -> None:
    groups = [group(id, *wishes) for id in ["sg-default", *ids]]  # type: ignore[arg-type]
    ports = [
        dual_port(1, ipv6=(address_v6(1), odd[0], odd[2])),
        port(2, *ids, id=odd[0]),
        port(3, mac=odd[1]),
        port(4, private_ip=odd[2]),
    ]
    firewall = compiled(dual(*groups), ports)
    smaller = compiled(plan(DEFAULT), ports[:1])
    for text in (ruleset(firewall), change(smaller, plan(*groups), ports), change(firewall, plan(DEFAULT), ports[:1])):
        for line in text.splitlines():
            assert STATEMENT.fullmatch(line), line


def test_the_default_group_is_all_from_itself_and_all_out() -> None:
    assert ALL_OUT in DEFAULT.permissions
    text = ruleset(compiled(plan(), [port(1)]))
    assert rules(text, "c_by_sg_default") == ["ip saddr @alto_of_sg_default accept"]
    assert rules(text, "c_to_sg_default") == ["meta nfproto ipv4 accept"]

"""Goal: what is shown of rules says them exactly: given back to a revocation it means the same rules. Method: random groups."""

import ipaddress

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from alto.api.ec2.permissions import Draft, IpPermission, drafts, made, meaning, shown_permissions
from alto.model.networks import Permission, SecurityGroup

GROUPS = [f"sg-{number:017x}" for number in range(3)]
LISTS = [f"pl-{number:017x}" for number in range(3)]


def ports(protocol: str) -> st.SearchStrategy[tuple[int, int]]:
    if protocol in ("tcp", "udp"):
        return st.tuples(st.integers(0, 65_535), st.integers(0, 65_535)).map(lambda pair: (min(pair), max(pair)))
    if protocol in ("icmp", "icmpv6"):
        return st.one_of(st.just((-1, -1)), st.tuples(st.integers(0, 255), st.integers(-1, 255)))
    return st.just((-1, -1))


@st.composite
def rules(draw: st.DrawFn) -> Permission:
    protocol = draw(st.sampled_from(["tcp", "udp", "icmp", "icmpv6", "-1", "50", "0", "255"]))
    from_port, to_port = draw(ports(protocol))
    rule = Permission(id="", egress=draw(st.booleans()), protocol=protocol, from_port=from_port, to_port=to_port)
    match draw(st.sampled_from(["v4", "v6", "group", "list"])):
        case "v4":
            address = (draw(st.ip_addresses(v=4)), draw(st.integers(0, 32)))
            return msgspec.structs.replace(rule, cidr=str(ipaddress.IPv4Network(address, strict=False)))
        case "v6":
            address6 = (draw(st.ip_addresses(v=6)), draw(st.integers(0, 128)))
            return msgspec.structs.replace(rule, cidr_v6=str(ipaddress.IPv6Network(address6, strict=False)))
        case "list":
            return msgspec.structs.replace(rule, prefix_list_id=draw(st.sampled_from(LISTS)))
    return msgspec.structs.replace(rule, group_id=draw(st.sampled_from(GROUPS)))


def named(draft: Draft) -> SecurityGroup | None:
    if draft.group is None or draft.group.group_id is None:
        return None
    return SecurityGroup(id=draft.group.group_id, account="1", region="r", vpc_id="vpc-1", name="n", description="d")


@given(st.lists(rules(), max_size=12, unique_by=meaning), st.booleans())
def test_what_is_shown_means_the_same_rules(permissions: list[Permission], egress: bool) -> None:
    group = SecurityGroup(
        id=GROUPS[0],
        account="1",
        region="r",
        vpc_id="vpc-1",
        name="n",
        description="d",
        permissions=tuple(permissions),
    )
    wanted = {meaning(rule) for rule in permissions if rule.egress is egress}
    shown = msgspec.convert(shown_permissions(group, egress=egress), list[IpPermission])
    if not wanted:
        assert shown == []
        return
    again = [made(draft, "", egress, {}, named(draft)) for draft in drafts(shown)]
    assert {meaning(rule) for rule in again} == wanted
    assert len(again) == len(wanted)
    kinds = [(each.ip_protocol, each.from_port, each.to_port) for each in shown]
    assert len(kinds) == len(set(kinds))  # one entry for each protocol and range of ports

"""Goal: a change says all that differs between two plans, no more than that, and leads from one to the other.

Method: random networks of the packet oracle as plans, and one rule in a VPC of three sizes.
"""

import msgspec

from alto.model.network_plans import NetworkPlan
from alto.plan.firewall import amended, compiled, statements, take
from alto.plan.network_changes import changed, difference
from tests.drivers.network.random_rules import network, plans_of
from tests.drivers.network.samples import allow, group, plan, port


def sorted_of(one: NetworkPlan) -> NetworkPlan:
    """As plans are (network_plan, spread); who writes one by hand for a host need not."""
    members = {id: tuple(sorted(addresses)) for id, addresses in sorted(one.members.items())}
    return msgspec.structs.replace(
        one,
        groups=tuple(sorted(one.groups, key=lambda group: group.id)),
        acls=tuple(sorted(one.acls, key=lambda acl: acl.id)),
        subnets=tuple(sorted(one.subnets, key=lambda subnet: subnet.id)),
        members=members,
    )


def test_a_change_leads_from_one_plan_to_the_other() -> None:
    for seed in range(50):
        # Some of it comes and goes.
        old, new = plans_of(network(seed))["vpc-1"], plans_of(network(seed + 1))["vpc-1"]
        old = msgspec.structs.replace(
            old, groups=old.groups[seed % 3 :], members={"sg-a": ("10.0.0.1", "10.0.0.2"), "sg-x": ()}
        )
        new = msgspec.structs.replace(new, acls=new.acls[: 2 + seed % 2], members={"sg-a": ("10.0.0.2", "10.0.0.3")})
        old, new = sorted_of(old), sorted_of(new)
        change = difference(old, new)
        assert change is not None
        assert changed(old, change) == new
        # And the rules follow: amended, they are what compiling anew would give.
        firewall = compiled(old, [])
        take(firewall, amended(firewall, change))
        assert firewall == compiled(new, [])


def test_what_is_no_rule_is_said_by_a_whole_plan() -> None:
    assert difference(plan(), plan(dns_support=False)) is None
    assert difference(plan(), plan(subnets=())) is None


def test_one_rule_costs_the_same_in_a_vpc_of_any_size() -> None:
    """Statements for the kernel, and bytes for the host."""
    costs = set()
    for groups, ports in ((50, 50), (200, 200), (800, 800)):
        named = [group(f"sg-{n:04}", *(allow("tcp", low, cidr="10.0.0.0/8") for low in range(1, 26))) for n in range(groups)]
        everybody = [
            port(n % 200, f"sg-{n % groups:04}", id=f"eni-{n:017x}", private_ip=f"10.77.0.{n % 250}") for n in range(ports)
        ]
        before = plan(*named)
        more = msgspec.structs.replace(named[7], permissions=(*named[7].permissions, allow("tcp", 443, cidr="0.0.0.0/0")))
        change = difference(before, plan(*named[:7], more, *named[8:]))
        assert change is not None
        firewall = compiled(before, everybody)
        text = statements(firewall, amended(firewall, change))
        costs.add((len(text.splitlines()), len(msgspec.json.encode(change))))
    assert len(costs) == 1, costs
    # Its 26 rules anew, once emptied, and one that says all may leave.
    assert costs.pop()[0] <= 30

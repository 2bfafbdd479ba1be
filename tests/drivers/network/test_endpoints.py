"""Goal: an interface endpoint leads guests of its VPC to the cloud's API, as its groups and its subnet's ACL say, by its names;
and nothing is left of it when it goes.

Method: guests are namespaces behind the driver's own taps; in the place of the API is a server on the machine's loopback, which
says who reached it. What a packet's fate is, is seen by real clients.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from alto.kit.world import NETNS_DIR
from alto.model.acls import AclEntry
from alto.model.network_plans import AclPlan, EndpointPlan, Neighbour, NetworkPlan, SubnetPlan
from alto.model.networks import SecurityGroup
from tests.drivers.network.guests import hello, pings, reaches, run, say, tcp_server
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.samples import DEFAULT, allow, group, plan, port

pytestmark = pytest.mark.net

API = ("127.0.0.1", 8773)
AT = "10.77.1.50"
OWN, PRIVATE = "vpce-1-0a.ec2.us-east-1.vpce.amazonaws.com", "ec2.us-east-1.amazonaws.com"
ENDPOINT = EndpointPlan(
    interface_id=f"eni-{0xE0:017x}",
    subnet_id="subnet-2",
    mac="02:00:0a:4d:01:32",
    private_ip=AT,
    hostname="ip-10-77-1-50.ec2.internal",
    group_ids=("sg-end",),
)
OPEN = tuple(AclEntry(number=100, egress=egress, allow=True, protocol="-1", cidr="0.0.0.0/0") for egress in (True, False))


def with_endpoint(*groups: SecurityGroup, entries: tuple[AclEntry, ...] = OPEN, **changes: Any) -> NetworkPlan:
    """Guests are in one subnet, the endpoint in another, which has an ACL."""
    subnets = (
        SubnetPlan(id="subnet-1", cidr="10.77.0.0/24", zone="us-east-1a"),
        SubnetPlan(id="subnet-2", cidr="10.77.1.0/24", zone="us-east-1b", acl_id="acl-1"),
    )
    made = plan(
        DEFAULT,
        *groups,
        subnets=subnets,
        acls=(AclPlan(id="acl-1", entries=entries),),
        endpoints=(ENDPOINT,),
        names={OWN: (AT,), PRIVATE: (AT,)},
    )
    return replace(made, **changes)


LETS_IN = group("sg-end", allow("tcp", 80, group="sg-default"))


@pytest.fixture
def api(cloud: Cloud) -> Iterator[Cloud]:
    cloud.api = API
    cloud.new_driver()
    with tcp_server(None, API[1], hello):
        yield cloud


def comes(netns: str, *, fate: str = "open", at: str = AT) -> bool:
    """The edge hears of it by and by."""
    end = time.monotonic() + 10
    while reaches(at, 80, netns=netns, timeout=0.3) != fate:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_guests_reach_the_api_by_it_as_its_groups_say(api: Cloud) -> None:
    api.ensure(with_endpoint(LETS_IN, group("sg-other")))
    guest = api.guest(1, subnet_id="subnet-1")
    other = api.guest(2, "sg-other", subnet_id="subnet-1")
    assert comes(guest.netns)
    assert say(AT, 80, netns=guest.netns) == "127.0.0.1"
    assert reaches(AT, 80, netns=other.netns, timeout=0.3) == "silence"
    # There is nothing else.
    assert reaches(AT, 8773, netns=guest.netns, timeout=0.3) == "silence"
    assert not pings(AT, netns=guest.netns)
    wide = group("sg-end", allow("-1", cidr="10.77.0.0/16"))
    here = (port(1, subnet_id="subnet-1"), port(2, "sg-other", subnet_id="subnet-1"))
    api.ensure(with_endpoint(wide, group("sg-other")), *here)
    assert say(AT, 80, netns=other.netns) == "127.0.0.1"
    assert pings(AT, netns=other.netns)
    assert reaches(AT, 443, netns=guest.netns) == "refused"
    assert reaches("10.77.1.51", 80, netns=guest.netns, timeout=0.3) != "open"


def test_a_guests_own_rules_and_the_subnets_acl_decide_too(api: Cloud) -> None:
    narrow = replace(group("sg-narrow"), permissions=(allow("tcp", 80, group="sg-end", egress=True),))
    shut = replace(group("sg-shut"), permissions=(allow("tcp", 80, group="sg-narrow", egress=True),))
    everybody = group("sg-end", allow("tcp", 80, cidr="0.0.0.0/0"))
    api.ensure(with_endpoint(everybody, narrow, shut))
    guest, other = api.guest(1, "sg-narrow", subnet_id="subnet-1"), api.guest(2, "sg-shut", subnet_id="subnet-1")
    here = (port(1, "sg-narrow", subnet_id="subnet-1"), port(2, "sg-shut", subnet_id="subnet-1"))
    assert comes(guest.netns)
    assert reaches(AT, 80, netns=other.netns, timeout=0.3) == "silence"
    no_answers = (OPEN[1],)
    api.ensure(with_endpoint(everybody, narrow, shut, entries=no_answers), *here)
    assert reaches(AT, 80, netns=guest.netns, timeout=0.3) == "silence"
    api.ensure(with_endpoint(everybody, narrow, shut), *here)
    assert reaches(AT, 80, netns=guest.netns) == "open"


def looked_up(netns: str, name: str) -> list[str]:
    """Of both families: busybox gives up on a name whose AAAA is refused."""
    text = run("busybox", "nslookup", name, "10.77.0.2", netns=netns, check=False)
    if any(word in text for word in ("REFUSED", "SERVFAIL", "No answer")):
        return [text]
    return sorted(line.split()[-1] for line in text.splitlines() if line.startswith("Address:") and not line.endswith(":53"))


def test_its_names_are_the_vpcs(api: Cloud) -> None:
    api.ensure(with_endpoint(LETS_IN))
    guest = api.guest(1, subnet_id="subnet-1")
    assert looked_up(guest.netns, OWN) == [AT]
    assert looked_up(guest.netns, PRIVATE) == [AT]
    assert looked_up(guest.netns, ENDPOINT.hostname) == [AT]
    api.ensure(with_endpoint(LETS_IN, names={OWN: (AT,)}), port(1, subnet_id="subnet-1"))
    assert AT not in str(looked_up(guest.netns, PRIVATE))
    assert looked_up(guest.netns, OWN) == [AT]


def test_it_comes_to_a_vpc_and_goes_and_leaves_nothing(api: Cloud) -> None:
    bare = with_endpoint(LETS_IN, endpoints=(), names={})
    api.ensure(bare)
    guest = api.guest(1, subnet_id="subnet-1")
    here = port(1, subnet_id="subnet-1")

    def traces() -> dict[str, object]:
        found = api.traces()
        return {**found, "files": [name for name in found["files"] if "dnsmasq.log" not in name]}  # type: ignore[attr-defined]

    before = traces()
    devices = run("ip", "-o", "link", netns=api.netns())
    assert reaches(AT, 80, netns=guest.netns, timeout=0.3) != "open"
    api.ensure(with_endpoint(LETS_IN), here)
    assert comes(guest.netns)
    # A control plane that was started again finds it, and it is not interrupted.
    api.new_driver()
    api.ensure(with_endpoint(LETS_IN), here)
    assert reaches(AT, 80, netns=guest.netns) == "open"
    api.ensure(bare, here)
    assert reaches(AT, 80, netns=guest.netns, timeout=0.3) != "open"
    assert AT not in str(looked_up(guest.netns, PRIVATE))
    assert run("ip", "-o", "link", netns=api.netns()).count("tapv") == 0
    assert len(run("ip", "-o", "link", netns=api.netns()).splitlines()) == len(devices.splitlines())
    after = traces()
    assert (after["namespaces"], after["devices"], after["files"]) == (
        before["namespaces"],
        before["devices"],
        sorted([*before["files"], *(name for name in after["files"] if name.endswith("/dns/endpoints"))]),  # type: ignore[misc, attr-defined]
    )
    # With its VPC.
    api.ensure(with_endpoint(LETS_IN), here)
    assert comes(guest.netns)
    guest.close()
    api.guests.clear()
    api.do(lambda driver: driver.remove_network("vpc-1"))
    assert [one.name for one in NETNS_DIR.iterdir() if api.cloud_id in one.name and "site" not in one.name] == []


def test_guests_on_other_hosts_reach_it_on_the_servers(api: Cloud, tmp_path: Path) -> None:
    here, there = "127.0.0.1:24791", "127.0.0.1:24792"
    second = Cloud(tmp_path / "second", cloud_id=api.cloud_id, host_id="h-2")
    try:
        far = port(1, subnet_id="subnet-1")
        guest_there = Neighbour(
            interface_id=far.id,
            vpc_id="vpc-1",
            addresses=(far.private_ip,),
            hostname=far.hostname,
            group_ids=far.group_ids,
            underlay=there,
        )
        end_here = Neighbour(
            interface_id=ENDPOINT.interface_id,
            vpc_id="vpc-1",
            addresses=(AT,),
            hostname=ENDPOINT.hostname,
            group_ids=ENDPOINT.group_ids,
            underlay=here,
        )
        joined = {"vni": 0x80004E, "members": {"sg-default": (far.private_ip,)}}
        api.ensure(with_endpoint(LETS_IN, underlay=here, hosts=(there,), neighbours=(guest_there,), **joined))
        joined = {"vni": 0x80004E, "members": {"sg-end": (AT,)}}
        second.ensure(with_endpoint(LETS_IN, endpoints=(), underlay=there, hosts=(here,), neighbours=(end_here,), **joined))
        guest = second.guest(1, subnet_id="subnet-1")
        assert comes(guest.netns)
        assert say(AT, 80, netns=guest.netns) == "127.0.0.1"
        assert looked_up(guest.netns, PRIVATE) == [AT]
        shut = group("sg-end", allow("tcp", 80, cidr="10.77.0.12/32"))
        api.ensure(with_endpoint(shut, underlay=here, hosts=(there,), neighbours=(guest_there,), vni=0x80004E))
        assert reaches(AT, 80, netns=guest.netns, timeout=0.3) == "silence"
    finally:
        second.close()

"""Goal: the real network driver gives guests what EC2 gives them, and nothing of its own is left when it goes.

Method: guests are namespaces behind the driver's own taps, on a machine that is a namespace too; what a packet's fate is, is
seen by real clients and servers.
"""

from pathlib import Path

import pytest

from tests.drivers.network.guests import hello, reaches, say, tcp_server
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.samples import DEFAULT, allow, group, plan, port

pytestmark = pytest.mark.net


def test_nothing_is_left(cloud: Cloud) -> None:
    before = cloud.traces()
    cloud.ensure()
    cloud.guest(1, public_ip="127.64.0.5")
    assert cloud.traces() != before
    for guest in cloud.guests.values():
        guest.close()
    cloud.guests.clear()
    cloud.do(lambda driver: driver.remove_all())
    assert cloud.traces() == before


def test_a_guest_gets_its_lease_and_is_reached_from_where_its_rules_say(cloud: Cloud, tmp_path: Path) -> None:
    cloud.ensure(plan(DEFAULT, group("sg-web", allow("tcp", 80, cidr="0.0.0.0/0"))))
    inner = cloud.guest(1, configured=False)
    web = cloud.guest(2, "sg-web", public_ip="127.64.0.5")
    lease = inner.dhcp(tmp_path)
    assert lease == "lease 10.77.0.11/24 router 10.77.0.1 dns 10.77.0.2 domain ec2.internal name ip-10-77-0-11\n"
    with tcp_server(web.netns, 80, hello), tcp_server(web.netns, 81, hello):
        assert say("10.77.0.12", 80, netns=inner.netns) == "10.77.0.11"
        assert say("127.64.0.5", 80) == "169.254.169.252"
        assert say("10.77.0.12", 80, netns=cloud.netns()) == "10.77.0.3"
        assert reaches("127.64.0.5", 81) == "silence"
    assert reaches("127.64.0.5", 80) == "refused"
    assert reaches("127.64.0.6", 80) == "refused"
    assert inner.curl("http://169.254.169.254/latest/meta-data/instance-id") == f"{port(1).instance_id}\n200"

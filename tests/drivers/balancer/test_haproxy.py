"""HAProxy as a BalancerDriver, the real one, with members that are real HTTP servers in namespaces of their own.

Goal: members join only after they answer, leave without a lost request, die without one, and the balancer outlives its
driver. Method: a "VPC" namespace with one routed veth for each member, as the network driver's taps are; four clients ask
through the balancer all the while and write down what they got.
"""

import http.client
import os
import signal
import socket
import time
from pathlib import Path

import msgspec
import pytest

from alto.model.balancers import BalancerPlan, HealthCheck, TargetState
from alto.model.errors import DriverFault
from tests.drivers.balancer.members import NETNS, REAL, Clients, Host, Vpc, ask, gone, pids, plan, run, wait

pytestmark = REAL


def test_a_member_takes_traffic_only_after_it_answered(vpc: Vpc, host: Host) -> None:
    a, b = vpc.plug("a", 11), vpc.plug("b", 12)
    vpc.serve(a)
    host.serves(plan(a))
    with Clients(plan().address) as clients:
        clients.wait_for(lambda answers: answers["a"] > 20)
        first = pids(host.folder)
        host.ensure(plan(a, b))
        assert host.states()["b"] is TargetState.INITIAL
        clients.wait_for(lambda answers: answers["a"] > 50)
        vpc.serve(b)
        host.wait_for(a=TargetState.HEALTHY, b=TargetState.HEALTHY)
        clients.wait_for(lambda answers: answers["a"] > 20 and answers["b"] > 20)
    assert clients.failures == []
    assert pids(host.folder) == first, "membership must not cost a reload"


def test_drain_under_load_loses_nothing(vpc: Vpc, host: Host) -> None:
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    host.serves(plan(a, b))
    with Clients(plan().address) as clients, Clients(plan().address, path="/slow") as slow:
        clients.wait_for(lambda answers: answers["b"] > 20)
        time.sleep(0.5)  # so that slow requests are under way at b
        draining = msgspec.structs.replace(b, draining=True)
        host.ensure(plan(a, draining))
        assert host.states()["b"] is TargetState.DRAINING
        host.ensure(plan(a))
        wait(lambda: gone(host, b), "the drained slot")
        vpc.servers["b"].kill()
        vpc.vanish(b)
        clients.wait_for(lambda answers: answers["a"] > 50 and answers["b"] == 0)
    assert clients.failures == []
    assert slow.failures == []
    assert slow.answers["b"] > 0


def test_a_member_that_stays_busy_is_cut_off_when_its_time_is_over(vpc: Vpc, host: Host) -> None:
    a = vpc.member("a", 11)
    host.ensure(plan(a, drain_s=0.5))
    host.wait_for(a=TargetState.HEALTHY)
    with Clients(plan().address, path="/slower"):
        time.sleep(0.2)
        began = time.monotonic()
        host.ensure(plan(drain_s=0.5))
        wait(lambda: gone(host, a), "the slot")
        assert time.monotonic() - began < 4, "a slower request takes 6 s"


@pytest.mark.parametrize("silently", [False, True], ids=["its tap vanishes", "it falls silent"])
def test_a_killed_member_costs_no_request(vpc: Vpc, host: Host, silently: bool) -> None:
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    host.serves(plan(a, b))
    with Clients(plan().address) as clients, Clients(plan().address, path="/slow") as slow:
        clients.wait_for(lambda answers: answers["b"] > 20)
        time.sleep(0.5)
        if silently:
            run("ip", "netns", "exec", f"{NETNS}-12", "ip", "link", "set", "eth0", "down")
        else:
            vpc.vanish(b)
        host.wait_for(a=TargetState.HEALTHY, b=TargetState.UNHEALTHY)
        clients.wait_for(lambda answers: answers["a"] > 50 and answers["b"] == 0)
        slow.wait_for(lambda answers: answers["a"] > 8)
    assert clients.failures == []
    assert slow.failures == []


def test_the_balancer_outlives_its_driver(vpc: Vpc, host: Host) -> None:
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    host.serves(plan(a))
    before = pids(host.folder)
    with Clients(plan().address) as clients:
        clients.wait_for(lambda answers: answers["a"] > 20)
        host.die_and_come_back()
        assert host.states() == {"a": TargetState.HEALTHY}
        host.ensure(plan(a, b))
        host.wait_for(a=TargetState.HEALTHY, b=TargetState.HEALTHY)
        vpc.servers["b"].kill()
        host.wait_for(a=TargetState.HEALTHY, b=TargetState.UNHEALTHY)
        host.die_and_come_back()
        assert host.states()["b"] is TargetState.UNHEALTHY, "a new driver still knows that b did answer once"
    assert clients.failures == []
    assert pids(host.folder) == before


def test_a_slot_given_to_another_member_never_reaches_the_old_one(vpc: Vpc, host: Host) -> None:
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    host.serves(plan(a))
    with Clients(plan().address) as clients:
        clients.wait_for(lambda answers: answers["a"] > 20)
        host.ensure(plan())
        wait(lambda: gone(host, a), "the slot to be free")
        host.ensure(plan(b))
        host.wait_for(b=TargetState.HEALTHY)
        clients.wait_for(lambda answers: answers["b"] > 50)
        before = clients.answers["a"]
        clients.wait_for(lambda answers: answers["b"] > 50)
    assert clients.answers["a"] == before
    assert all(failure.startswith("503") for failure in clients.failures), "without members, and only then"


def test_haproxy_killed_comes_back_with_its_members(vpc: Vpc, host: Host) -> None:
    a = vpc.member("a", 11)
    host.serves(plan(a))
    (pid,) = pids(host.folder)
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not host.observe()[0].ready, "its death to be noticed")
    host.ensure(plan(a))
    assert ask(plan().address)[1] == b"a", "at once: its member was known to answer"
    assert host.observe()[0].ready


def test_an_address_that_the_dead_haproxy_still_holds_for_a_moment_is_waited_for(vpc: Vpc, host: Host) -> None:
    a = vpc.member("a", 11)
    host.serves(plan(a))
    (pid,) = pids(host.folder)
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not host.observe()[0].ready and pids(host.folder) == [], "its death")
    # The kernel closing the last socket late, made certain.
    still_held = socket.socket()
    still_held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    still_held.bind((plan().address, plan().port))
    still_held.listen(1)
    host.loop.call_later(0.2, still_held.close)
    host.ensure(plan(a))
    assert ask(plan().address)[1] == b"a"


def test_one_bad_balancer_leaves_the_others_alone(vpc: Vpc, host: Host) -> None:
    a = vpc.member("a", 11)
    bad = plan(a, id="lb-bad", number=3, port=8080)
    with socket.create_server((bad.address, bad.port)):
        with pytest.raises(DriverFault, match="something else listens there"):
            host.ensure(plan(a), bad)
        host.wait_for(a=TargetState.HEALTHY)
    injected = BalancerPlan(
        id="lb-evil",
        name="evil",
        address=bad.address,
        port=8080,
        check=HealthCheck(path="/'\n  server evil 127.0.0.1:22"),
        drain_s=1.0,
        targets=(a,),
    )
    with pytest.raises(DriverFault, match="characters that no URL has"):
        host.ensure(plan(a), injected)
    host.ensure(plan(a), bad)
    assert ask(bad.address)[0] in (200, 503)


def test_what_a_client_and_a_member_see(vpc: Vpc, host: Host) -> None:
    a = vpc.member("a", 11)
    host.serves(plan(a))
    connection = http.client.HTTPConnection(plan().address, 8080, timeout=5)
    connection.request("GET", "/long", headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.headers["X-Forwarded-For-Seen"] == "127.0.0.1"
    response.read()
    (pid,) = pids(host.folder)
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert status["Uid"].split()[0] != "0"
    # CAP_NET_BIND_SERVICE is bit 10, CAP_SYS_ADMIN bit 21.
    assert int(status["CapBnd"], 16) == (1 << 10) | (1 << 21)
    assert status["NoNewPrivs"] == "1"
    wait(lambda: b"GET /long" in (host.folder / "haproxy.log").read_bytes(), "the access log")


def test_nothing_is_left(vpc: Vpc, host: Host) -> None:
    a = vpc.member("a", 11)
    host.serves(plan(a))
    host.loop.run_until_complete(host.driver.remove_all())
    assert pids(host.folder) == []
    assert not host.folder.exists()
    with pytest.raises(OSError, match="refused"):
        ask(plan().address)

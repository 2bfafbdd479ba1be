"""HAProxy as a BalancerDriver, the real one, with members that are real HTTP servers in namespaces of their own.

Goal: members join only after they answer, leave without a lost request, die without one, and the balancer outlives its
driver. Method: a "VPC" namespace with one routed veth for each member, as the network driver's taps are; four clients ask
through the balancer all the while and write down what they got.
"""

import asyncio
import http.client
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from alto.drivers.balancer.haproxy.balancer import HaproxyBalancer
from alto.kit.world import real_world
from alto.model.balancers import BalancerPlan, BalancerReport, HealthCheck, Target, TargetState
from alto.model.errors import DriverFault

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces"),
    pytest.mark.skipif(shutil.which("haproxy", path="/usr/sbin:/usr/bin") is None, reason="apt-get install haproxy"),
]

NUMBER = os.getpid() % 200
NETNS = f"ui-vpc-{os.getpid()}"
CHECK = HealthCheck(path="/health", interval_s=0.2, timeout_s=1.0, healthy_threshold=1, unhealthy_threshold=2)

MEMBER = """
import http.server, sys, time
name = sys.argv[1]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    wbufsize = -1  # head and body in one packet: a response cut in two is lost to everybody
    def do_GET(self):
        time.sleep({"/slow": 2, "/slower": 6}.get(self.path, 0))
        body = ("x" * 4000 if self.path == "/long" else name).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/plain")
        self.send_header("X-Forwarded-For-Seen", self.headers.get("X-Forwarded-For", ""))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
http.server.ThreadingHTTPServer(("0.0.0.0", 80), Handler).serve_forever()
"""


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


class Vpc:
    """A namespace, and members that hang on it by a routed veth each."""

    def __init__(self) -> None:
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        run("ip", "netns", "add", NETNS)

    def plug(self, name: str, number: int) -> Target:
        address, member = f"172.31.0.{number}", f"{NETNS}-{number}"
        run("ip", "netns", "add", member)
        run("ip", "-n", NETNS, "link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", member)
        run("ip", "-n", NETNS, "addr", "add", "172.31.0.1/32", "dev", f"v{number}")
        run("ip", "-n", NETNS, "link", "set", f"v{number}", "up")
        run("ip", "-n", NETNS, "route", "add", address, "dev", f"v{number}")
        run("ip", "-n", member, "addr", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", member, "link", "set", "eth0", "up")
        return Target(instance_id=name, vpc_id="vpc-1", private_ip=address, port=80)

    def serve(self, target: Target) -> None:
        member = f"{NETNS}-{target.private_ip.rsplit('.', 1)[1]}"
        self.servers[target.instance_id] = subprocess.Popen(
            ["ip", "netns", "exec", member, sys.executable, "-c", MEMBER, target.instance_id], stderr=subprocess.DEVNULL
        )

    def vanish(self, target: Target) -> None:
        """As a QEMU that was killed: its tap is gone from one moment to the next."""
        run("ip", "-n", NETNS, "link", "del", f"v{target.private_ip.rsplit('.', 1)[1]}")

    def close(self) -> None:
        for server in self.servers.values():
            server.kill()
            server.wait()
        for name in os.listdir("/run/netns"):
            if name.startswith(NETNS):
                run("ip", "netns", "del", name)


class Clients:
    """Four clients with keep-alive that ask all the time. `failures` has what a person would have seen go wrong."""

    def __init__(self, address: str, port: int = 8080, path: str = "/", *, each: int = 5, pause_s: float = 0.01) -> None:
        """`each`: so many requests on one connection."""
        self.answers: Counter[str] = Counter()
        self._each, self._pause_s = each, pause_s
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._where = address, port, path
        self._threads = [threading.Thread(target=self._ask_all_the_time, args=(i,)) for i in range(4)]

    def _ask_all_the_time(self, number: int) -> None:
        address, port, path = self._where
        connection = http.client.HTTPConnection(address, port, timeout=10)
        for turn in itertools.count():
            if self._stop.is_set():
                return
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                body = response.read().decode()
                if response.status == 200:
                    self.answers[body] += 1
                else:
                    self.failures.append(f"{response.status} {body[:60]}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            if turn % self._each == self._each - 1:
                connection.close()
            self._stop.wait(self._pause_s)

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, condition: Callable[[Counter[str]], bool]) -> None:
        """Until the answers from now on fulfil the condition."""
        before = Counter(self.answers)
        wait(lambda: condition(self.answers - before), "the clients' answers")


def wait(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


@pytest.fixture
def vpc() -> Iterator[Vpc]:
    made = Vpc()
    yield made
    made.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: that one is closed to HAProxy's user.
    path = Path(f"/tmp/ui-haproxy-{os.getpid()}")
    path.mkdir(mode=0o755)
    yield path / "balancer"
    driver = HaproxyBalancer(real_world(), folder=path / "balancer", netns_of=lambda _: NETNS)
    asyncio.run(driver.remove_all())
    shutil.rmtree(path)


def new_driver(folder: Path) -> HaproxyBalancer:
    return HaproxyBalancer(real_world(), folder=folder, netns_of=lambda _: NETNS)


def plan(*targets: Target, id: str = "lb-1", number: int = 1, drain_s: float = 5.0, port: int = 8080) -> BalancerPlan:
    return BalancerPlan(
        id=id, name=id, address=f"127.66.{NUMBER}.{number}", port=port, check=CHECK, drain_s=drain_s, targets=targets
    )


def pids(folder: Path) -> list[int]:
    found = subprocess.run(["pgrep", "-f", f"haproxy -db -f {folder}"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


class Host:
    """The driver in the hands of an agent: `sweep` is what an agent does again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self.driver = new_driver(folder)

    def ensure(self, *plans: BalancerPlan) -> None:
        self.loop.run_until_complete(self.driver.ensure(plans))

    def observe(self) -> list[BalancerReport]:
        return self.loop.run_until_complete(self.driver.observe())

    def states(self, id: str = "lb-1") -> dict[str, TargetState]:
        (report,) = (report for report in self.observe() if report.id == id)
        return {health.instance_id: health.state for health in report.health}

    def wait_for(self, **wanted: TargetState) -> None:
        wait(lambda: self.states() == wanted, f"{wanted}")

    def die_and_come_back(self) -> None:
        self.driver = new_driver(self.folder)


@pytest.fixture
def host(folder: Path) -> Iterator[Host]:
    made = Host(folder)
    yield made
    made.loop.close()


def test_a_member_takes_traffic_only_after_it_answered(vpc: Vpc, host: Host) -> None:
    a, b = vpc.plug("a", 11), vpc.plug("b", 12)
    vpc.serve(a)
    host.ensure(plan(a))
    host.wait_for(a=TargetState.HEALTHY)
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
    a, b = vpc.plug("a", 11), vpc.plug("b", 12)
    vpc.serve(a)
    vpc.serve(b)
    host.ensure(plan(a, b))
    host.wait_for(a=TargetState.HEALTHY, b=TargetState.HEALTHY)
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


def gone(host: Host, target: Target) -> bool:
    host.observe()
    return target.private_ip.encode() not in host.folder.joinpath("members.json").read_bytes()


def test_a_member_that_stays_busy_is_cut_off_when_its_time_is_over(vpc: Vpc, host: Host) -> None:
    a = vpc.plug("a", 11)
    vpc.serve(a)
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
    a, b = vpc.plug("a", 11), vpc.plug("b", 12)
    vpc.serve(a)
    vpc.serve(b)
    host.ensure(plan(a, b))
    host.wait_for(a=TargetState.HEALTHY, b=TargetState.HEALTHY)
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
    a, b = vpc.plug("a", 11), vpc.plug("b", 12)
    vpc.serve(a)
    vpc.serve(b)
    host.ensure(plan(a))
    host.wait_for(a=TargetState.HEALTHY)
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


def test_another_balancer_comes_and_goes_without_a_refused_request(vpc: Vpc, host: Host) -> None:
    a, b = vpc.plug("a", 11), vpc.plug("b", 12)
    vpc.serve(a)
    vpc.serve(b)
    host.ensure(plan(a))
    host.wait_for(a=TargetState.HEALTHY)
    second = plan(b, id="lb-2", number=2)
    with Clients(plan().address) as clients:
        clients.wait_for(lambda answers: answers["a"] > 20)
        host.ensure(plan(a), second)
        wait(lambda: host.states("lb-2") == {"b": TargetState.HEALTHY}, "the second balancer")
        assert host.states() == {"a": TargetState.HEALTHY}
        with Clients(second.address) as others:
            others.wait_for(lambda answers: answers["b"] > 20)
        host.ensure(plan(a))
        wait(lambda: len(pids(host.folder)) == 1, "the old processes to finish", 80)
        clients.wait_for(lambda answers: answers["a"] > 20)
    assert clients.failures == []
    with pytest.raises(OSError, match="refused"):
        ask(second.address)


def test_who_comes_anew_with_each_request_loses_none_to_a_reload(vpc: Vpc, host: Host) -> None:
    """What the old process has taken when it is told to stop needs a connection to the member yet."""
    a, b = vpc.plug("a", 11), vpc.plug("b", 12)
    vpc.serve(a)
    vpc.serve(b)
    host.ensure(plan(a))
    host.wait_for(a=TargetState.HEALTHY)
    second = plan(b, id="lb-2", number=2)
    with Clients(plan().address, each=1, pause_s=0.0) as clients:
        for _ in range(10):
            host.ensure(plan(a), second)
            clients.wait_for(lambda answers: answers["a"] > 10)
            host.ensure(plan(a))
            clients.wait_for(lambda answers: answers["a"] > 10)
    assert clients.failures == []


def test_a_new_driver_ends_the_process_that_its_predecessor_was_replacing(vpc: Vpc, host: Host) -> None:
    """Between two processes, both answer at the socket."""
    a = vpc.plug("a", 11)
    vpc.serve(a)
    host.ensure(plan(a))
    host.wait_for(a=TargetState.HEALTHY)
    (first,) = pids(host.folder)
    old = Path(f"/proc/{first}/cmdline").read_bytes().decode().split("\0")[:-1]
    second = subprocess.Popen([*old, "-x", str(host.folder / "haproxy.sock")], stderr=subprocess.DEVNULL)
    try:
        wait(lambda: asks(host.folder / "haproxy.sock", 20) == {first, second.pid}, "both to answer")
        host.die_and_come_back()
        host.ensure(plan(a))
        wait(lambda: pids(host.folder) == [second.pid], "the first to end")
        assert host.states() == {"a": TargetState.HEALTHY}
        assert ask(plan().address) == (200, b"a")
    finally:
        second.kill()
        second.wait()


def asks(path: Path, times: int) -> set[int]:
    """Which processes answer at a stats socket."""
    found = set()
    for _ in range(times):
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(path))
            asked.sendall(b"show info\n")
            answer = b"".join(iter(lambda: asked.recv(65536), b""))
        found.add(int(answer.split(b"\nPid: ")[1].split()[0]))
    return found


def test_growth_beyond_the_first_slots(vpc: Vpc, host: Host) -> None:
    """More members than slots: one reload, and everyone serves. Members share one server under 12 addresses."""
    members = [vpc.plug(f"m{number}", number) for number in range(20, 32)]
    for member in members:
        vpc.serve(member)
    host.ensure(plan(*members[:2]))
    host.wait_for(m20=TargetState.HEALTHY, m21=TargetState.HEALTHY)
    with Clients(plan().address) as clients:
        clients.wait_for(lambda answers: len(answers) == 2)
        host.ensure(plan(*members))
        clients.wait_for(lambda answers: len(answers) == 12)
    assert clients.failures == []


def test_a_slot_given_to_another_member_never_reaches_the_old_one(vpc: Vpc, host: Host) -> None:
    a, b = vpc.plug("a", 11), vpc.plug("b", 12)
    vpc.serve(a)
    vpc.serve(b)
    host.ensure(plan(a))
    host.wait_for(a=TargetState.HEALTHY)
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
    a = vpc.plug("a", 11)
    vpc.serve(a)
    host.ensure(plan(a))
    host.wait_for(a=TargetState.HEALTHY)
    (pid,) = pids(host.folder)
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not host.observe()[0].ready, "its death to be noticed")
    host.ensure(plan(a))
    assert ask(plan().address)[1] == b"a", "at once: its member was known to answer"
    assert host.observe()[0].ready


def test_an_address_that_the_dead_haproxy_still_holds_for_a_moment_is_waited_for(vpc: Vpc, host: Host) -> None:
    a = vpc.plug("a", 11)
    vpc.serve(a)
    host.ensure(plan(a))
    host.wait_for(a=TargetState.HEALTHY)
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


def test_a_namespace_made_anew_is_reached(vpc: Vpc, host: Host) -> None:
    a = vpc.plug("a", 11)
    vpc.serve(a)
    host.ensure(plan(a))
    host.wait_for(a=TargetState.HEALTHY)
    vpc.close()
    fresh = Vpc()
    try:
        again = fresh.plug("a", 11)
        fresh.serve(again)
        host.ensure(plan(again))
        host.wait_for(a=TargetState.HEALTHY)
        wait(lambda: ask(plan().address)[1] == b"a", "the member in the new namespace")
    finally:
        fresh.close()
        run("ip", "netns", "add", NETNS)


def test_one_bad_balancer_leaves_the_others_alone(vpc: Vpc, host: Host) -> None:
    a = vpc.plug("a", 11)
    vpc.serve(a)
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
    a = vpc.plug("a", 11)
    vpc.serve(a)
    host.ensure(plan(a))
    host.wait_for(a=TargetState.HEALTHY)
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
    a = vpc.plug("a", 11)
    vpc.serve(a)
    host.ensure(plan(a))
    host.wait_for(a=TargetState.HEALTHY)
    host.loop.run_until_complete(host.driver.remove_all())
    assert pids(host.folder) == []
    assert not host.folder.exists()
    with pytest.raises(OSError, match="refused"):
        ask(plan().address)


def ask(address: str, path: str = "/") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, 8080, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()

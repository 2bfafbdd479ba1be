"""Members that are real HTTP servers in namespaces of their own, clients that ask all the while, and an agent's hand.

Here: what the tests of the real HAProxy share. A "VPC" is a namespace with one routed veth for each member, as the network
driver's taps are; clients write down what a person would have seen.
"""

import asyncio
import http.client
import itertools
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from alto.drivers.balancer.haproxy.balancer import HaproxyBalancer
from alto.kit.world import World, real_world
from alto.model.balancers import BalancerPlan, BalancerReport, HealthCheck, Target, TargetState

REAL = [
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

    def member(self, name: str, number: int) -> Target:
        """One that answers."""
        target = self.plug(name, number)
        self.serve(target)
        return target

    def stop(self, target: Target) -> None:
        server = self.servers.pop(target.instance_id)
        server.kill()
        server.wait()

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

    def __init__(
        self,
        address: str,
        port: int = 8080,
        path: str = "/",
        *,
        each: int = 5,
        pause_s: float = 0.01,
        connection: type[http.client.HTTPConnection] = http.client.HTTPConnection,
    ) -> None:
        """`each`: so many requests on one connection."""
        self._connection = connection
        self.answers: Counter[str] = Counter()
        self._each, self._pause_s = each, pause_s
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._where = address, port, path
        self._threads = [threading.Thread(target=self._ask_all_the_time, args=(i,)) for i in range(4)]

    def _ask_all_the_time(self, number: int) -> None:
        address, port, path = self._where
        connection = self._connection(address, port, timeout=10)
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


class IdleClient:
    """One connection that is kept, and made anew when the other side closed it while nobody asked: as every client does."""

    def __init__(self, address: str, port: int = 8080) -> None:
        self._connection = http.client.HTTPConnection(address, port, timeout=10)

    def ask(self) -> tuple[int, str]:
        if self._connection.sock is not None and select.select([self._connection.sock], [], [], 0)[0]:
            self._connection.close()
        self._connection.request("GET", "/")
        response = self._connection.getresponse()
        return response.status, response.read().decode()


def wait(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def new_driver(folder: Path, world: World | None = None) -> HaproxyBalancer:
    return HaproxyBalancer(world or real_world(), folder=folder, netns_of=lambda _: NETNS)


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

    def serves(self, plan: BalancerPlan) -> None:
        """Alone, and all its targets are healthy."""
        self.ensure(plan)
        self.wait_for(**{target.instance_id: TargetState.HEALTHY for target in plan.targets})

    def die_and_come_back(self) -> None:
        self.driver = new_driver(self.folder)


def gone(host: Host, target: Target) -> bool:
    host.observe()
    return target.private_ip.encode() not in host.folder.joinpath("members.json").read_bytes()


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


def ask(address: str, path: str = "/") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, 8080, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()

"""HAProxy in an instance, told of its members from outside of it.

Goal: what test_haproxy.py demands of a host's own balancer holds of one that is an instance, and it comes back from its own
death as from its driver's. Method: in the place of the instance a namespace beside the members', with a real HAProxy that has
the configuration of its user data; clients ask from inside the VPC all the while.
"""

import asyncio
import base64
import http.client
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from alto.drivers.balancer.haproxy.appliance import ANSWER_S, SWEEP_S, Appliances, user_data_of
from alto.kit.world import inside_netns, real_world
from alto.model.balancers import Appliance, BalancerPlan, BalancerReport, LoadBalancer, Target, TargetState
from tests.drivers.balancer.members import CHECK, NETNS, REAL, Clients, Vpc, run, wait

pytestmark = REAL

PORT, NUMBER = 80, 50
DOWN = {"a": TargetState.INITIAL}


class Inside(http.client.HTTPConnection):
    def connect(self) -> None:
        with inside_netns(NETNS):
            super().connect()


class Front:
    """The instance, and the driver in the hands of an agent."""

    def __init__(self, vpc: Vpc, folder: Path) -> None:
        plugged = vpc.plug("front", NUMBER)
        for setting in ("net.ipv4.ip_forward=1", "net.ipv4.conf.all.proxy_arp=1"):
            run("ip", "netns", "exec", NETNS, "sysctl", "-qw", setting)
        self.appliance = Appliance(instance_id="front", interface_id="eni-1", vpc_id="vpc-1", private_ip=plugged.private_ip)
        self.config = folder / "haproxy.cfg"
        balancer = LoadBalancer(
            id="lb-1", account="1", region="r", name="web", address="127.64.0.4", port=PORT, check=CHECK, created_at=0.0
        )
        script = base64.b64decode(user_data_of(balancer)).decode()
        config, self.service = (part.split("\nEND\n")[0] + "\n" for part in script.split("<<'END'\n")[1:3])
        self.config.write_text(config)
        self.process: subprocess.Popen[bytes] | None = None
        self.neighbours: list[BalancerPlan] = []  # on the same host
        self.questions = 0  # and orders: each is a connection of its own
        self.loop = asyncio.new_event_loop()
        self.die_and_come_back()

    def boot(self) -> None:
        where = ["ip", "netns", "exec", f"{NETNS}-{NUMBER}"]
        self.process = subprocess.Popen([*where, "sh", "-c", self.service.replace("/etc/haproxy.cfg", str(self.config))])
        wait(lambda: self.report().ready, "HAProxy")

    def serves(self, *members: Target) -> None:
        """It has booted, and all of them are healthy."""
        self.boot()
        self.ensure(*members)
        self.wait_for(**{member.instance_id: TargetState.HEALTHY for member in members})

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def die_and_come_back(self, *targets: Target) -> None:
        self.driver = Appliances(real_world(), netns_of=self._netns_of)
        self.ensure(*targets)

    def _netns_of(self, vpc_id: str) -> str:
        self.questions += 1
        return NETNS

    def ensure(self, *targets: Target, drain_s: float = 5.0) -> None:
        plan = BalancerPlan(
            id="lb-1",
            name="web",
            address="127.64.0.4",
            port=PORT,
            check=CHECK,
            drain_s=drain_s,
            targets=targets,
            appliance=self.appliance,
        )
        self.loop.run_until_complete(self.driver.ensure([plan, *self.neighbours]))

    def report(self) -> BalancerReport:
        (report,) = (one for one in self.reports() if one.appliance_id == "front")
        return report

    def reports(self) -> list[BalancerReport]:
        return self.loop.run_until_complete(self.driver.observe())

    def states(self) -> dict[str, TargetState]:
        return {health.instance_id: health.state for health in self.report().health}

    def wait_for(self, **wanted: TargetState) -> None:
        wait(lambda: self.states() == wanted, f"{wanted}")

    def clients(self, path: str = "/") -> Clients:
        return Clients(self.appliance.private_ip, PORT, path, connection=Inside)

    def members(self) -> set[str]:
        return {line.split(" ")[3] for line in self.asked("show servers state lb-1")[2:]}

    def admin_state(self, member: str) -> int:
        """What it was told of that member: 1 is maintenance, 8 drain (SRV_ADMF_FMAINT, SRV_ADMF_FDRAIN)."""
        names, *rows = (line.removeprefix("# ").split(" ") for line in self.asked("show servers state lb-1")[1:])
        return next(int(row[names.index("srv_admin_state")]) for row in rows if row[names.index("srv_name")] == member)

    def sessions(self, member: str) -> int:
        names, *rows = (line.split(",") for line in self.asked("show stat -1 4 -1"))
        return next(int(row[names.index("scur")]) for row in rows if row[names.index("svname")] == member)

    def asked(self, command: str) -> list[str]:
        """As HAProxy itself says, asked beside the driver."""
        with inside_netns(NETNS):
            said = socket.create_connection((self.appliance.private_ip, 8404), timeout=5)
        with said, said.makefile("rw") as talk:
            talk.write(command + "\n")
            talk.flush()
            return [line for line in talk.read().splitlines() if line]


@pytest.fixture
def front(vpc: Vpc) -> Iterator[Front]:
    folder = Path("/tmp") / f"{NETNS}-front"
    folder.mkdir(mode=0o755)
    made = Front(vpc, folder)
    yield made
    made.kill()
    made.loop.close()
    shutil.rmtree(folder)


def test_one_that_boots_is_not_ready_and_no_fault(vpc: Vpc, front: Front) -> None:
    a = vpc.member("a", 11)
    front.ensure(a)
    assert not front.report().ready
    assert front.states() == DOWN
    front.serves(a)


IMPOSTOR = """
import socket, sys, time
names = "be_name srv_name srv_addr srv_port srv_admin_state srv_op_state"
many = 500
door = socket.create_server(("0.0.0.0", 8404))
while True:
    came = door.accept()[0]
    came.settimeout(2)
    try:
        asked = came.recv(1000).decode()
        match sys.argv[1]:
            case "silence": time.sleep(5)
            case "no end":
                while True: came.sendall(b"x" * 65536)
            case "nonsense": came.sendall(b"1\\n# be_name srv_name srv_admin_state\\nlb-1 a many\\n")
            case "another configuration":
                if "servers" in asked: came.sendall(f"1\\n# {names}\\n".encode())
                elif "stat" in asked: came.sendall(b"# pxname,svname,scur,stot,check_desc\\n")
                else: came.sendall(b"No such backend.\\n")
            case "more and more":
                if "servers" in asked:
                    many *= 4
                    rows = "".join(f"lb-1 x{number} 172.31.0.11 80 8 0\\n" for number in range(many))
                    came.sendall(f"1\\n# {names}\\n{rows}".encode())
                elif "stat" in asked:
                    rows = "".join(f"lb-1,x{number},1,0,\\n" for number in range(many))
                    came.sendall(f"# pxname,svname,scur,stot,check_desc\\n{rows}".encode())
            case "a shell":
                if "servers" in asked:
                    rows = "lb-1 a 172.31.0.11 80 8 0\\nlb-1 b 172.31.0.12 80 0 0\\n"
                    came.sendall(f"1\\n# {names}\\n{rows}".encode())
                elif "stat" in asked:
                    rows = f"lb-1,a,{'9' * 4000},0,\\nlb-1,b,0,0,\\x1b[2J" + "A" * 5000
                    came.sendall(f"# pxname,svname,scur,stot,check_desc\\n{rows}".encode())
    except OSError:
        pass
    came.close()
"""


def test_one_look_is_enough_for_what_it_is_told_and_what_it_says(vpc: Vpc, front: Front) -> None:
    """Who answers late, or never, holds its neighbours up once."""
    a = vpc.member("a", 11)
    front.questions = 0
    front.ensure(a)
    assert not front.report().ready
    assert front.questions == 1
    front.serves(a)
    front.questions = 0
    front.ensure(a)
    assert front.report().ready
    assert front.questions == 2
    assert front.report().ready
    assert front.questions == 4, "it is old by now"


def put_impostor(front: Front, number: int, word: str) -> subprocess.Popen[bytes]:
    """In HAProxy's place: an instance is its tenant's, and what answers there may be anything."""
    made = subprocess.Popen(
        ["ip", "netns", "exec", f"{NETNS}-{number}", sys.executable, "-c", IMPOSTOR, word], stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        with inside_netns(NETNS), socket.socket() as door:
            return door.connect_ex((f"172.31.0.{number}", 8404)) == 0

    wait(answers, "the impostor")
    return made


@pytest.mark.parametrize("word", ["silence", "no end", "nonsense", "a shell", "another configuration"])
def test_who_is_no_haproxy_costs_little_and_says_little(vpc: Vpc, front: Front, word: str) -> None:
    a, b = vpc.plug("a", 11), vpc.plug("b", 12)
    front.process = put_impostor(front, NUMBER, word)
    began = time.monotonic()
    front.ensure(msgspec.structs.replace(a, draining=True), b)
    report = front.report()
    assert time.monotonic() - began < 2 * ANSWER_S + SWEEP_S + 2
    assert report.ready is (word == "a shell")
    assert (report.unready_because == "") is report.ready
    assert [health.state for health in report.health] == [TargetState.DRAINING, TargetState.INITIAL]
    for health in report.health:
        assert len(health.reason) <= 80
        assert health.reason.isprintable()


@pytest.mark.parametrize("word", ["silence", "no end", "nonsense", "another configuration"])
def test_who_is_no_haproxy_harms_no_neighbour(vpc: Vpc, front: Front, word: str) -> None:
    a, there = vpc.member("a", 11), vpc.plug("impostor", NUMBER + 1)
    appliance = Appliance(instance_id="impostor", interface_id="eni-2", vpc_id="vpc-1", private_ip=there.private_ip)
    front.neighbours.append(
        BalancerPlan(
            id="lb-2",
            name="bad",
            address="127.64.0.5",
            port=PORT,
            check=CHECK,
            drain_s=5.0,
            targets=(msgspec.structs.replace(a, instance_id="c"),),
            appliance=appliance,
        )
    )
    impostor = put_impostor(front, NUMBER + 1, word)
    front.serves(a)
    bad = next(one for one in front.reports() if one.id == "lb-2")
    assert not bad.ready
    assert bad.unready_because
    vpc.stop(a)
    front.ensure(a)
    front.wait_for(a=TargetState.UNHEALTHY)
    impostor.kill()
    impostor.wait()


def test_an_answer_may_cost_no_more_for_those_that_it_names(vpc: Vpc, front: Front) -> None:
    """Members that nobody put there make no room for more of them."""
    front.process = put_impostor(front, NUMBER, "more and more")
    front.ensure()
    assert front.report().ready, "2,000 may be there from before"
    front.ensure()
    assert front.report().unready_because == "the balancer's answer has no end"


def test_a_member_takes_traffic_only_after_it_answered_and_leaves_without_a_lost_request(vpc: Vpc, front: Front) -> None:
    a, b = vpc.plug("a", 11), vpc.plug("b", 12)
    vpc.serve(a)
    front.serves(a)
    with front.clients() as clients, front.clients("/slow") as slow:
        clients.wait_for(lambda answers: answers["a"] > 20)
        front.ensure(a, b)
        assert front.states()["b"] is TargetState.INITIAL
        clients.wait_for(lambda answers: answers["a"] > 50)
        vpc.serve(b)
        front.wait_for(a=TargetState.HEALTHY, b=TargetState.HEALTHY)
        clients.wait_for(lambda answers: answers["a"] > 20 and answers["b"] > 20)
        slow.wait_for(lambda answers: answers["b"] > 0)  # from here on some are under way at b
        draining = msgspec.structs.replace(b, draining=True)
        front.ensure(a, draining)
        front.wait_for(a=TargetState.HEALTHY, b=TargetState.DRAINING)

        def gone() -> bool:
            front.ensure(a)
            return front.members() == {"a"}

        wait(gone, "b to be forgotten")
        vpc.servers["b"].kill()
        vpc.vanish(b)
        clients.wait_for(lambda answers: answers["a"] > 50 and answers["b"] == 0)
    assert clients.failures == []
    assert slow.failures == []


def test_a_member_that_leaves_finishes_what_it_has(vpc: Vpc, front: Front) -> None:
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    front.serves(b)
    client = Inside(front.appliance.private_ip, PORT, timeout=10)
    client.request("GET", "/slow")
    wait(lambda: front.sessions("b") == 1, "the request to be under way")

    def gone() -> bool:
        front.ensure(a)
        return front.members() == {"a"}

    wait(gone, "b to be forgotten")
    assert client.getresponse().read() == b"b"
    client.close()


def test_a_member_that_is_suddenly_unplanned_drains_before_it_is_cut_off(vpc: Vpc, front: Front) -> None:
    """That it had nothing to do when it was counted says nothing of the next moment."""
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    front.serves(a, b)
    front.ensure(a)
    assert front.admin_state("b") == 8

    def gone() -> bool:
        front.ensure(a)
        return front.members() == {"a"}

    wait(gone, "b to be forgotten")


def test_one_that_was_to_leave_and_stays_takes_traffic_again(vpc: Vpc, front: Front) -> None:
    a = vpc.member("a", 11)
    front.serves(a)
    front.ensure(msgspec.structs.replace(a, draining=True))
    front.wait_for(a=TargetState.DRAINING)
    front.ensure(a)
    front.wait_for(a=TargetState.HEALTHY)


def test_a_member_that_stays_busy_is_cut_off_when_its_time_is_over(vpc: Vpc, front: Front) -> None:
    a = vpc.member("a", 11)
    front.serves(a)
    with front.clients("/slower"):
        wait(lambda: front.sessions("a") > 0, "a request to be under way")
        began = time.monotonic()

        def gone() -> bool:
            front.ensure(drain_s=0.5)
            return front.members() == set()

        wait(gone, "the busy member")
        assert time.monotonic() - began < 4, "a slower request takes 6 s"


def test_another_machine_at_the_same_name_joins_anew(vpc: Vpc, front: Front) -> None:
    """An instance that was stopped keeps its address; should one ever not, no request goes to the old one."""
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    front.serves(a)
    moved = msgspec.structs.replace(b, instance_id="a")

    def there() -> bool:
        front.ensure(moved)
        return front.states() == {"a": TargetState.HEALTHY}

    wait(there, "the member at its new address")
    with front.clients() as clients:
        clients.wait_for(lambda answers: answers["b"] > 20 and answers["a"] == 0)
    assert clients.failures == []


@pytest.mark.parametrize("silently", [False, True], ids=["its tap vanishes", "it falls silent"])
def test_a_killed_member_costs_no_request_that_another_can_answer(vpc: Vpc, front: Front, silently: bool) -> None:
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    front.serves(a, b)
    with front.clients() as clients:
        clients.wait_for(lambda answers: answers["b"] > 20)
        if silently:
            run("ip", "netns", "exec", f"{NETNS}-12", "ip", "link", "set", "eth0", "down")
        else:
            vpc.vanish(b)
        front.wait_for(a=TargetState.HEALTHY, b=TargetState.UNHEALTHY)
        clients.wait_for(lambda answers: answers["a"] > 50 and answers["b"] == 0)
    assert clients.failures == []


def test_a_request_that_a_member_never_acknowledges_goes_to_another(vpc: Vpc, front: Front) -> None:
    """It falls silent between the connection and the request: no refusal and no answer ever comes."""
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    front.serves(a, b)
    silence = "add table ip silent; add chain ip silent in { type filter hook input priority 0; }; "
    silence += "add rule ip silent in tcp flags & psh == psh drop"
    run("ip", "netns", "exec", f"{NETNS}-12", "nft", silence)
    clients = [Inside(front.appliance.private_ip, PORT, timeout=30) for _ in range(4)]
    for client in clients:
        client.request("GET", "/")
    assert [client.getresponse().read() for client in clients] == [b"a"] * 4
    for client in clients:
        client.close()


def test_it_outlives_its_driver(vpc: Vpc, front: Front) -> None:
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    front.serves(a, b)
    with front.clients() as clients:
        clients.wait_for(lambda answers: answers["a"] > 20 and answers["b"] > 20)
        front.die_and_come_back(a, b)
        assert front.states() == {"a": TargetState.HEALTHY, "b": TargetState.HEALTHY}
        vpc.servers["b"].kill()
        front.wait_for(a=TargetState.HEALTHY, b=TargetState.UNHEALTHY)
        front.die_and_come_back(a, b)
        assert front.states()["b"] is TargetState.UNHEALTHY, "a new driver still knows that b did answer once"
    assert clients.failures == []


def test_one_that_begins_anew_is_told_of_its_members_again(vpc: Vpc, front: Front) -> None:
    a = vpc.member("a", 11)
    front.serves(a)
    front.kill()
    wait(lambda: not front.report().ready, "its death to be seen")
    front.ensure(a)
    front.serves(a)

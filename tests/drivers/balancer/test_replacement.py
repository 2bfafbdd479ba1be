"""One HAProxy in another's place: what comes and goes with a new configuration costs nobody a request.

Goal: balancers come and go, slots grow, namespaces are made anew, and the driver may end at any step of it. Method: the real
HAProxy, members in namespaces, and clients that ask all the while; those that come anew, those that stay, the slow, the idle.
"""

import enum
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from alto.kit.world import Pid, RealProcesses, real_world
from alto.model.balancers import TargetState
from tests.drivers.balancer.members import (
    NETNS,
    REAL,
    Clients,
    Host,
    IdleClient,
    Vpc,
    ask,
    asks,
    gone,
    new_driver,
    pids,
    plan,
    run,
    wait,
)

pytestmark = REAL


def test_another_balancer_comes_and_goes_without_a_refused_request(vpc: Vpc, host: Host) -> None:
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    host.serves(plan(a))
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
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    host.serves(plan(a))
    second = plan(b, id="lb-2", number=2)
    with Clients(plan().address, each=1, pause_s=0.0) as clients:
        for _ in range(10):
            host.ensure(plan(a), second)
            clients.wait_for(lambda answers: answers["a"] > 10)
            host.ensure(plan(a))
            clients.wait_for(lambda answers: answers["a"] > 10)
    assert clients.failures == []


def test_many_balancers_are_replaced_as_few_are(vpc: Vpc, host: Host) -> None:
    """What HAProxy says of 400 is more than asyncio reads into one line."""
    many = [plan(id=f"lb-{number}-{port}", number=number, port=port) for number in range(1, 201) for port in (8080, 8081)]
    with capture_logs() as logs:
        host.ensure(*many)
        host.ensure(*many, plan(id="lb-201", number=201))
    assert logs == []
    wait(lambda: len(pids(host.folder)) == 1, "the old process to finish", 80)


def test_a_new_driver_ends_the_process_that_its_predecessor_was_replacing(vpc: Vpc, host: Host) -> None:
    """Between two processes, both answer at the socket."""
    a = vpc.member("a", 11)
    host.serves(plan(a))
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


def test_growth_beyond_the_first_slots(vpc: Vpc, host: Host) -> None:
    """More members than slots: one reload, and everyone serves. Members share one server under 12 addresses."""
    members = [vpc.member(f"m{number}", number) for number in range(20, 32)]
    host.ensure(plan(*members[:2]))
    host.wait_for(m20=TargetState.HEALTHY, m21=TargetState.HEALTHY)
    with Clients(plan().address) as clients:
        clients.wait_for(lambda answers: len(answers) == 2)
        host.ensure(plan(*members))
        clients.wait_for(lambda answers: len(answers) == 12)
    assert clients.failures == []


def test_a_namespace_made_anew_is_reached(vpc: Vpc, host: Host) -> None:
    a = vpc.member("a", 11)
    host.serves(plan(a))
    vpc.close()
    fresh = Vpc()
    try:
        again = fresh.member("a", 11)
        host.ensure(plan(again))
        host.wait_for(a=TargetState.HEALTHY)
        wait(lambda: ask(plan().address)[1] == b"a", "the member in the new namespace")
    finally:
        fresh.close()
        run("ip", "netns", "add", NETNS)


def test_who_idles_meanwhile_has_an_answer_afterwards(vpc: Vpc, host: Host) -> None:
    """The member closed its own side since, so that the answer needs a new connection to it."""
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    host.serves(plan(a))
    second = plan(b, id="lb-2", number=2)
    for plans in ([plan(a), second], [plan(a)]):
        idle = [IdleClient(plan().address) for _ in range(3)]
        assert [client.ask() for client in idle] == [(200, "a")] * 3
        host.ensure(*plans)
        vpc.stop(a)
        host.wait_for(a=TargetState.UNHEALTHY)
        vpc.serve(a)
        host.wait_for(a=TargetState.HEALTHY)
        assert [client.ask() for client in idle] == [(200, "a")] * 3


class Step(enum.Enum):
    """Where the driver ends in the midst of a replacement."""

    MEANT = "written down, and nothing begun"
    BEGUN = "the new process is there, and loads its configuration"
    ANSWERING = "both processes answer, and take connections"
    SHUT = "the old one takes no connections any more"
    TOLD = "the old one is told to stop, and has not ended"


class Ended(BaseException):
    """As of a kill: nobody catches it, and nothing is done any more."""


class Mortal(RealProcesses):
    """Ends whoever drives by it, once, at that step."""

    def __init__(self, step: Step, answers: Callable[[Pid], bool]) -> None:
        super().__init__()
        self.held: Pid | None = None  # loads its configuration, and comes no further
        self._ends_at: Step | None = step
        self._answers = answers

    def _end(self) -> Ended:
        self._ends_at = None
        return Ended()

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        pass_fds: Sequence[int] = (),
        netns: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Pid:
        if self._ends_at is Step.MEANT:
            raise self._end()
        spawned = await super().spawn(argv, log=log, pass_fds=pass_fds, netns=netns, env=env)
        if self._ends_at is Step.ANSWERING:
            wait(lambda: self._answers(spawned), "the new process to answer")
        if self._ends_at is Step.BEGUN:
            self.held = spawned
            os.kill(spawned.pid, signal.SIGSTOP)
        if self._ends_at in (Step.BEGUN, Step.ANSWERING):
            raise self._end()
        return spawned

    def signal(self, pid: Pid, number: int) -> None:
        if self._ends_at is Step.SHUT:
            raise self._end()
        super().signal(pid, number)
        if self._ends_at is Step.TOLD:
            raise self._end()


@pytest.mark.parametrize(("step", "next_one"), [*((step, True) for step in Step), (Step.ANSWERING, False), (Step.SHUT, False)])
def test_a_driver_that_ends_in_the_midst_costs_no_request(vpc: Vpc, host: Host, step: Step, next_one: bool) -> None:
    """Its successor sees to it, or it itself at its next sweep."""
    a, b = vpc.member("a", 11), vpc.member("b", 12)
    host.serves(plan(a))
    second = plan(b, id="lb-2", number=2)
    socket = host.folder / "haproxy.sock"
    real = real_world()
    with (
        Clients(plan().address) as staying,
        Clients(plan().address, each=1, pause_s=0.0) as coming,
        Clients(plan().address, path="/slow") as slow,
    ):
        slow.wait_for(lambda answers: answers["a"] > 0)
        mortal = Mortal(step, lambda new: new.pid in asks(socket, 20))
        host.driver = new_driver(host.folder, replace(real, processes=mortal))
        with pytest.raises(Ended):
            host.ensure(plan(a), second)
        for clients in (staying, coming):
            clients.wait_for(lambda answers: answers["a"] > 20)
        if next_one:
            host.die_and_come_back()
        if mortal.held is not None:
            host.loop.call_later(0.5, os.kill, mortal.held.pid, signal.SIGCONT)
        host.ensure(plan(a), second)
        assert len(asks(socket, 20)) == 1
        wait(lambda: host.states("lb-2") == {"b": TargetState.HEALTHY}, "the second balancer")
        # Whoever takes connections hears of members: nobody is left behind that goes on with those of before.
        host.ensure(plan(a, b), second)
        host.wait_for(a=TargetState.HEALTHY, b=TargetState.HEALTHY)
        host.ensure(plan(b), second)
        wait(lambda: gone(host, a), "the first member's slot")
        coming.wait_for(lambda answers: answers["b"] > 100 and answers["a"] == 0)
        wait(lambda: len(pids(host.folder)) == 1, "the old processes to end")
    assert [clients.failures for clients in (staying, coming, slow)] == [[], [], []]
    assert ask(second.address) == (200, b"b")

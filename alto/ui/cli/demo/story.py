"""The story: a cloud starts, a balanced service of real machines serves, grows, loses a machine, loses its control plane,
shrinks, and everything is gone. Each step says what it does and why it waits, and checks what it claims.

Not here: how things are seen (machine.py), counted (traffic.py) or written down (checks.py). The invariant: the load goes
on from the first healthy member to the end, and whatever happens the cloud is taken away again, unless it is to be kept.
"""

import contextlib
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from alto.ui.cli import daemon
from alto.ui.cli.answers import Audit, Hosts, HostView, Instance, Nothing, Service
from alto.ui.cli.client import Client
from alto.ui.cli.context import Cloud
from alto.ui.cli.demo import traffic
from alto.ui.cli.demo.checks import Checks
from alto.ui.cli.demo.machine import Process, kill, machines, processes, traces
from alto.ui.cli.failures import Failure
from alto.ui.cli.instances import ensure_key, find, find_key, ssh_command
from alto.ui.cli.services import why_not_ready
from alto.ui.cli.waiting import wait_until

SERVICE = "web"
KEY = "demo"
RATE = 20.0  # requests a second
READY_S = 600.0  # emulated machines on a busy computer
NOTICED_S = 60.0
SSH_S = 30.0
HEALTH_CHECK_S = 1.0 * 2 + 1.0  # the balancer's interval, its two strikes, and a second to act
QUIET_S = 5.0  # how long each state is watched
DEAD_S = 5.0  # how long the control plane stays dead
AT_FIRST = 2
GROWN = 4
FAILED_SHARE_MAX = 0.001

# What the story itself keeps in the state folder.
OURS = {"requests.jsonl", "known_hosts", "keys"}


class Story:
    def __init__(self, tell: Callable[[str], None], *, pool: str, keep: bool) -> None:
        self._say = tell
        self.checks = Checks(tell)
        self.events: list[traffic.Event] = []
        self.requests: list[traffic.Request] = []
        self.seconds = 0.0
        self._keep = keep
        self._chapter = 0
        self._load: subprocess.Popen[bytes] | None = None
        self._state = Path(tempfile.mkdtemp(prefix="alto-demo-"))
        # HAProxy and QEMU run as nobody in particular and must pass through.
        self._state.chmod(0o711)
        self._log = self._state / "requests.jsonl"
        self._arguments = ["--listen", f"127.0.0.1:{_free_port()}", "--pool", pool]
        self._cloud: Cloud | None = None
        self._mark = ""  # what every namespace, link, rule and route of this cloud carries in its name
        self._seen: set[str] = set()  # every instance there ever was
        self._died = math.inf, -math.inf  # between these moments a machine did

    def run(self) -> None:
        """Raises: Failure, when a chapter can not go on; the cloud is taken away then too."""
        began = time.monotonic()
        try:
            self._start()
            self._launch()
            self._scale_out()
            self._kill_a_machine()
            self._kill_the_control_plane()
            self._scale_in()
            self._audit()
            self._count()
        finally:
            self._end_load()
            self.requests = traffic.read(self._log)
            if self._keep and self._cloud is not None:
                self._chapter_is("The cloud stays (--keep)")
                self._say(f'   eval "$(alto --state {self._state} env)" makes it yours')
                self._say(f"   alto --state {self._state} down    takes it away")
            else:
                self._down()
                shutil.rmtree(self._state, ignore_errors=True)
            self.seconds = time.monotonic() - began

    # The chapters.

    def _start(self) -> None:
        self._chapter_is("A cloud starts", "alto up")
        self._cloud, seconds = daemon.start(self._state, self._arguments, timeout_s=READY_S)
        self._mark = self._cloud.cloud_id[-6:]
        self._say(f"   {self._cloud.endpoint} answers after {seconds:.1f} s")
        host = self._first_host()
        if host.accelerator != "kvm":
            self._say("   no usable KVM here: machines are emulated, and take a few seconds more to boot")
        self.checks.check(
            "the host is real, not simulated", host.kind == "qemu", f"{host.name}: {host.kind}, {host.accelerator}"
        )

    def _launch(self) -> None:
        self._chapter_is(f"{AT_FIRST} machines behind a balancer", f"alto service create {SERVICE} -n {AT_FIRST} --wait")
        with self._client() as client:
            ensure_key(client, KEY, self._state)
            began = time.monotonic()
            client.post("services", {"name": SERVICE, "desired": AT_FIRST, "key_name": KEY}, Service)
        service = self._wait_ready(AT_FIRST)
        seconds = time.monotonic() - began
        self.checks.check(
            f"{AT_FIRST} machines are healthy behind {service.url}", service.healthy == AT_FIRST, f"{seconds:.1f} s"
        )
        running = self._machines()
        ids = {member.instance_id for member in service.members}
        self.checks.check("each machine is a QEMU process of its own", set(running) == ids, f"pids {_pids(running.values())}")
        self._say(f"   load begins: {RATE:.0f} requests a second, counted by a process of its own")
        self._start_load(service.url)
        self._watch(AT_FIRST)
        with self._client() as client:
            (member,) = find(client, [service.members[0].instance_id])
        self._ssh(member)

    def _ssh(self, instance: Instance) -> None:
        address = instance.public_ip_address or "nowhere"
        self._say(
            "   $ aws ec2 authorize-security-group-ingress --group-name default --protocol tcp --port 22 --cidr 0.0.0.0/0"
        )
        rule = {"GroupName": "default", "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "0.0.0.0/0"}
        with self._client() as client:
            client.ec2("AuthorizeSecurityGroupIngress", Nothing, **rule)
        self._say(f"   $ alto instance ssh {instance.instance_id} uname -sr    # to {address}")
        key = find_key(KEY, self._state)
        command = ["uname -sr; cat /run/instance-id"]
        arguments = ssh_command(instance.instance_id, address, "root", key, self._state, command, batch=True)
        answer: list[str] = []
        seen = ""

        def no_answer_yet() -> str | None:
            """The rule takes a moment to reach the host."""
            nonlocal answer, seen
            done = subprocess.run(arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
            answer = done.stdout.split("\n")
            seen = answer[0] if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no answer"])[-1]
            return None if done.returncode == 0 else seen

        with contextlib.suppress(Failure):  # the check says it
            wait_until(no_answer_yet, what="   ssh", timeout_s=SSH_S, poll_s=0.5)
        self.checks.check("ssh with the cloud's key reaches a machine", instance.instance_id in answer, f"{address}: {seen}")

    def _scale_out(self) -> None:
        self._chapter_is(f"It grows to {GROWN} machines", f"alto service scale {SERVICE} {GROWN} --wait")
        since = self._event(f"scale to {GROWN}")
        self._scale(GROWN)
        self._watch(GROWN)
        self._failures("no request failed while it grew", since)

    def _kill_a_machine(self) -> None:
        running = self._machines()
        victim, process = sorted(running.items())[0]
        self._chapter_is("A machine dies", f"kill -9 {process.pid}    # the QEMU of {victim}")
        since = self._event("kill -9 of a QEMU")
        kill(process)
        self._died = since, time.time()

        def still_trusted() -> str | None:
            healthy = {member.instance_id for member in self._service().members if member.health == "healthy"}
            return "the balancer to notice" if victim in healthy else None

        seconds = wait_until(still_trusted, what="   waiting", timeout_s=NOTICED_S, poll_s=0.1)
        self._say(f"   the balancer's health check dropped it within {seconds:.1f} s; now the service heals")
        service = self._wait_ready(GROWN)
        self.checks.check(
            f"the service healed to {GROWN} healthy machines", service.healthy == GROWN, f"{time.time() - since:.1f} s after"
        )
        after = self._machines()
        others = {id: one for id, one in running.items() if id != victim}
        untouched = all(after.get(id) == one for id, one in others.items())
        self.checks.check("the other machines were left alone", untouched, f"pids {_pids(others.values())}")
        self._watch(GROWN)
        self._failures("no request failed after the health check had spoken", since, allowed_until=since + HEALTH_CHECK_S)

    def _kill_the_control_plane(self) -> None:
        assert self._cloud is not None
        pid = self._cloud.pid
        self._chapter_is("The control plane dies", f"kill -9 {pid}")
        running = self._machines()
        (process,) = [one for one in processes(daemon.CLOUD) if one.pid == pid]
        since = self._event("kill -9 of the control plane")
        kill(process)
        self._say(f"   for {DEAD_S:.0f} s there is no control plane; requests go on, for nothing that serves is its child")
        time.sleep(DEAD_S)
        # Those of the last second may not have come back yet.
        asked = traffic.between(traffic.read(self._log), since, time.time() - 1)
        answered = len(asked) - len(traffic.failures(asked))
        served = bool(asked) and answered == len(asked)
        self.checks.check("every request was served without it", served, f"{answered} of {len(asked)} requests")

        self._chapter_is("It comes back", "alto up")
        self._event("control plane is started again")
        self._cloud, seconds = daemon.start(self._state, self._arguments, timeout_s=READY_S)
        service = self._wait_ready(GROWN)
        self._say(f"   it answers after {seconds:.1f} s, and knows every machine again")
        self.checks.check("no machine was restarted", self._machines() == running, f"pids {_pids(running.values())} as before")
        self.checks.check("the service is as it was", service.healthy == GROWN, f"{service.healthy} of {GROWN} healthy")
        self._watch(GROWN)
        self._failures("no request failed while it was dead, nor when it came back", since)

    def _scale_in(self) -> None:
        self._chapter_is(f"It shrinks to {AT_FIRST} machines", f"alto service scale {SERVICE} {AT_FIRST} --wait")
        since = self._event(f"scale to {AT_FIRST}")
        self._scale(AT_FIRST)
        left = len(self._machines())
        self.checks.check(f"{AT_FIRST} machines are left", left == AT_FIRST, f"{left} QEMUs")
        self._watch(AT_FIRST)
        self._failures("leaving members finished first: no request failed while it shrank", since)

    def _audit(self) -> None:
        self._chapter_is("Is everything as it must be?", "alto audit")
        with self._client() as client:
            found = client.get("audit", Audit)
        wrong = [f"{one.rule} {one.subject}" for one in found.violations] + [f"{host} is silent" for host in found.silent_hosts]
        checked = ", ".join(f"{count} {what}" for what, count in found.checked.items())
        self.checks.check("the audit finds nothing wrong", not wrong, "; ".join(wrong[:3]) or f"checked {checked}")

    def _count(self) -> None:
        self._chapter_is("The count")
        self._end_load()
        requests = traffic.read(self._log)
        torn = traffic.torn(requests, *self._died)
        wrong = [one for one in traffic.failures(requests) if one not in torn]
        self._say(
            f"   {len(requests)} requests to {len(traffic.members(requests))} machines over time; "
            f"half answered within {traffic.percentile(requests, 0.5):.1f} ms, "
            f"99 % within {traffic.percentile(requests, 0.99):.1f} ms"
        )
        share = len(wrong) / len(requests) if requests else 1.0
        seen = f"{len(wrong)} of {len(requests)}"
        if torn:
            seen += f", not counting {len(torn)} in the middle of whose answer the machine died"
        if wrong:
            seen += f"; the first: {wrong[0].wrong}"
        claim = f"over all that happened at most {FAILED_SHARE_MAX:.1%} of requests failed"
        self.checks.check(claim, share <= FAILED_SHARE_MAX, seen)

    def _down(self) -> None:
        self._chapter_is("Everything goes", "alto down --yes")
        try:
            daemon.stop(self._state, keep_data=False, say=lambda _: None)
        except Failure as failure:
            self.checks.check("the cloud goes down", False, failure.why.splitlines()[-1] if failure.why else failure.what)
        left = {name: ", ".join(things) for name, things in traces().of(self._mark).items()} if self._mark else {}
        if alive := [*processes(str(self._state)), *machines(self._seen).values()]:
            left["processes"] = ", ".join(f"{one.pid} {Path(one.words[0]).name}" for one in alive)
        if files := sorted(path.name for path in self._state.iterdir() if path.name not in OURS):
            left["files"] = ", ".join(files)
        seen = "; ".join(f"{name}: {things}" for name, things in left.items())
        self.checks.check("nothing is left", not left, seen or "no process, namespace, link, rule, route, mount or file")

    # What chapters are made of.

    def _chapter_is(self, title: str, command: str = "") -> None:
        self._chapter += 1
        self._say(f"{self._chapter}. {title}" + (f"    $ {command}" if command else ""))

    def _event(self, what: str) -> float:
        self.events.append(traffic.Event(time.time(), what))
        return self.events[-1].at

    def _client(self) -> contextlib.closing[Client]:
        assert self._cloud is not None
        return contextlib.closing(Client(self._cloud))

    def _service(self) -> Service:
        with self._client() as client:
            service = client.get(f"services/{SERVICE}", Service)
        self._seen |= {member.instance_id for member in service.members}
        return service

    def _machines(self) -> dict[str, Process]:
        """The QEMUs of our instances, as the kernel shows them."""
        return machines(self._seen)

    def _first_host(self) -> HostView:
        def none_yet() -> str | None:
            with self._client() as client:
                return None if client.get("hosts", Hosts).hosts else "a trial boot, which tells whether KVM works"

        wait_until(none_yet, what="   waiting", timeout_s=READY_S)
        with self._client() as client:
            return client.get("hosts", Hosts).hosts[0]

    def _scale(self, desired: int) -> None:
        began = time.monotonic()
        with self._client() as client:
            client.post(f"services/{SERVICE}/scale", {"desired": desired}, Service)
        self._wait_ready(desired)
        self._say(f"   {desired} healthy after {time.monotonic() - began:.1f} s")

    def _wait_ready(self, desired: int) -> Service:
        def not_ready() -> str | None:
            service = self._service()
            return why_not_ready(service) if service.desired == desired else f"the wish of {desired} to be known"

        wait_until(not_ready, what="   waiting", timeout_s=READY_S, poll_s=0.25)
        return self._service()

    def _start_load(self, url: str) -> None:
        self._load = subprocess.Popen(
            [sys.executable, "-m", "alto.ui.cli.demo.load", url, str(RATE), str(self._log)],
            stdin=subprocess.DEVNULL,
            env=daemon.environment(),
        )

    def _end_load(self) -> None:
        if self._load is not None:
            time.sleep(0.5)  # what is under way comes back
            self._load.kill()
            self._load.wait()
            self._load = None

    def _watch(self, wanted: int) -> None:
        """Look at the traffic for a while, and at least until `wanted` members have answered in it."""
        since = time.time()

        def not_yet() -> str | None:
            seen = traffic.members(traffic.between(traffic.read(self._log), since))
            if len(seen) < wanted:
                return f"{len(seen)} of {wanted} machines have answered"
            left = since + QUIET_S - time.time()
            return "more requests" if left > 0 else None

        with contextlib.suppress(Failure):  # the check says it
            wait_until(not_yet, what="   watching the traffic", timeout_s=NOTICED_S, poll_s=0.5)
        seen = traffic.between(traffic.read(self._log), since)
        count = len(traffic.members(seen))
        self.checks.check(f"{wanted} machines answer", count == wanted, f"{count} in {len(seen)} requests")

    def _failures(self, claim: str, since: float, *, allowed_until: float = 0.0) -> None:
        """That from `since` on no request failed, those excepted that were sent before `allowed_until`."""
        requests = traffic.between(traffic.read(self._log), since)
        wrong = traffic.failures(requests)
        seen = f"{len(wrong)} of {len(requests)} failed"
        if wrong:
            seen += f"; the first: {wrong[0].wrong}, {wrong[0].at - since:.1f} s after"
        self.checks.check(claim, bool(requests) and all(one.at < allowed_until for one in wrong), seen)


def _pids(running: Iterable[Process]) -> str:
    return ", ".join(str(one.pid) for one in sorted(running))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def as_json(story: Story) -> str:
    """The result for programs."""
    start = story.requests[0].at if story.requests else 0.0
    end = story.requests[-1].at + 0.001 if story.requests else 0.0
    steps = max(1, round(end - start))
    return json.dumps(
        {
            "passed": story.checks.passed,
            "seconds": round(story.seconds, 1),
            "cpus": os.cpu_count(),
            "checks": [check._asdict() for check in story.checks.all],
            "requests": len(story.requests),
            "failures": len(traffic.failures(story.requests)),
            "events": [{"at": round(event.at - start, 1), "what": event.what} for event in story.events],
            "per_second": [step._asdict() for step in traffic.series(story.requests, start, end, steps)],
        }
    )

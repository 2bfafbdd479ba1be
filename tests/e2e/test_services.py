"""A balanced service on real machines. Goal: members come when they answer, leave without a lost request, and are replaced
when they die; the control plane's death is not noticed. Method: the `alto` command, a client that counts, and kill -9."""

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.cloud import Cloud, machines_of, until

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


class Load:
    """One request after another, each on a new connection, until told to end. Failures keep what went wrong."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self.answers = 0
        self.members: set[str] = set()
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            try:
                with urllib.request.urlopen(self._url, timeout=10) as answer:
                    self.members.add(answer.read().decode().split("<title>")[1].split("<")[0])
                    self.answers += 1
            except (OSError, IndexError) as error:
                self.failures.append(repr(error))

    def end(self) -> None:
        self._stop.set()
        self._thread.join(timeout=30)


Begin = Callable[[str], Load]


@pytest.fixture
def load() -> Iterator[Begin]:
    begun: list[Load] = []

    def begin(url: str) -> Load:
        begun.append(Load(url))
        return begun[-1]

    yield begin
    for one in begun:
        one.end()


def show(cloud: Cloud) -> dict[str, Any]:
    done = cloud.alto("service", "show", "web", "-o", "json")
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def healthy(cloud: Cloud) -> set[str]:
    return {member["instance_id"] for member in show(cloud)["members"] if member["health"] == "healthy"}


def test_a_service_scales_heals_and_outlives_its_control_plane(cloud: Cloud, load: Begin) -> None:
    made = cloud.alto("service", "create", "web", "--desired", "2", "--wait", "--timeout", "240", timeout_s=260)
    assert made.returncode == 0, made.stderr
    url = show(cloud)["url"]
    clients = load(url)
    until(lambda: len(clients.members) == 2, "both members answer", timeout_s=30)

    assert cloud.alto("service", "scale", "web", "3").returncode == 0
    until(lambda: len(healthy(cloud)) == 3, "three members are healthy", timeout_s=240)
    until(lambda: len(clients.members) == 3, "the third answers clients", timeout_s=30)
    assert clients.failures == []

    victim = sorted(healthy(cloud))[0]
    os.kill(machines_of(cloud.state)[victim], signal.SIGKILL)
    until(lambda: len(healthy(cloud) - {victim}) == 3, "the dead member is replaced", timeout_s=240)
    assert clients.failures == [], "requests to the dead member were sent to another"

    before = machines_of(cloud.state)
    answers = clients.answers
    cloud.kill()
    until(lambda: clients.answers > answers + 20, "it serves without a control plane", timeout_s=30)
    cloud.up()
    assert machines_of(cloud.state) == before
    until(lambda: len(healthy(cloud)) == 3, "all are known again", timeout_s=60)

    assert cloud.alto("service", "scale", "web", "1").returncode == 0
    until(lambda: len(machines_of(cloud.state)) == 1, "one machine is left", timeout_s=120)
    assert clients.failures == []
    audit = cloud.alto("audit", "-o", "json")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    clients.end()
    assert cloud.alto("service", "delete", "web", "--wait").returncode == 0
    assert machines_of(cloud.state) == {}
    names = {group["GroupName"] for group in cloud.client().describe_security_groups()["SecurityGroups"]}
    assert names == {"default"}

"""A balanced service on real machines. Goal: members come when they answer, leave without a lost request, and are replaced
when they die; the control plane's death is not noticed. Method: the `alto` command, a client that counts, and kill -9."""

import http.client
import json
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.cloud import Cloud, machines_of, until

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


class Load:
    """One request after another, each on a new connection, until told to end. Failures keep what went wrong. An answer whose
    head came and whose body did not is `torn`, and no balancer can mend it: the client has a part of it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self.answers = 0
        self.members: set[str] = set()
        self.failures: list[str] = []
        self.torn = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            try:
                with urllib.request.urlopen(self._url, timeout=10) as answer:
                    self.members.add(answer.read().decode().split("<title>")[1].split("<")[0])
                    self.answers += 1
            except http.client.IncompleteRead:
                self.torn += 1
            except (OSError, IndexError, http.client.HTTPException) as error:
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
    assert clients.torn == 0

    victim = sorted(healthy(cloud))[0]
    os.kill(machines_of(cloud.state)[victim], signal.SIGKILL)
    until(lambda: len(healthy(cloud) - {victim}) == 3, "the dead member is replaced", timeout_s=240)
    assert clients.failures == [], "requests to the dead member were sent to another"
    assert clients.torn <= 1, "of one client it can have died in the middle of one answer"
    torn = clients.torn

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
    assert clients.torn == torn
    audit = cloud.alto("audit", "-o", "json")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    clients.end()
    assert cloud.alto("service", "delete", "web", "--wait").returncode == 0
    assert machines_of(cloud.state) == {}
    names = {group["GroupName"] for group in cloud.client().describe_security_groups()["SecurityGroups"]}
    assert names == {"default"}


def test_a_balancer_that_is_an_instance_keeps_its_address_when_it_is_replaced(cloud: Cloud, load: Begin) -> None:
    made = cloud.alto("service", "create", "web", "--balancer", "instance", "--wait", "--timeout", "300", timeout_s=320)
    assert made.returncode == 0, made.stderr
    shown = show(cloud)
    front, members = shown["balancer"]["instance_id"], set(healthy(cloud))
    assert machines_of(cloud.state).keys() == {front, *members}
    clients = load(shown["url"])
    until(lambda: clients.members == members, "both members answer through it", timeout_s=30)

    ec2 = cloud.client()
    (address,) = ec2.describe_addresses()["Addresses"]
    assert (address["PublicIp"], address["InstanceId"]) == (shown["address"], front)
    with pytest.raises(ClientError, match="OperationNotPermitted"):
        ec2.release_address(AllocationId=address["AllocationId"])
    with socket.socket() as outside:
        outside.settimeout(3)
        assert outside.connect_ex((shown["address"], 8404)) != 0, "only its host tells it of members"

    cloud.kill()
    answers = clients.answers
    until(lambda: clients.answers > answers + 20, "it serves without a control plane", timeout_s=30)
    cloud.up()
    until(lambda: healthy(cloud) == members, "all are known again", timeout_s=60)
    assert cloud.alto("service", "scale", "web", "1", "--wait", timeout_s=120).returncode == 0
    assert (clients.failures, clients.torn) == ([], 0)
    kept = {one["instance_id"] for one in show(cloud)["members"]}

    ec2.reboot_instances(InstanceIds=[front])
    until(lambda: len(clients.failures) + clients.torn > 0, "its reboot", timeout_s=60)
    clients.end()
    again = load(shown["url"])
    until(lambda: again.answers > 20, "it serves again", timeout_s=120)
    again.end()

    os.kill(machines_of(cloud.state)[front], signal.SIGKILL)
    until(lambda: show(cloud)["balancer"]["instance_id"] not in (None, front), "another in its place", timeout_s=60)
    until(lambda: show(cloud)["ready"], "which is told of the members", timeout_s=240)
    last = load(shown["url"])
    until(lambda: last.answers > 20, "the same address leads there", timeout_s=30)
    last.end()
    assert (last.failures, last.torn) == ([], 0)
    assert {one["instance_id"] for one in show(cloud)["members"]} == kept, "no member has to do with its balancer's end"

    audit = cloud.alto("audit", "-o", "json")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert cloud.alto("service", "delete", "web", "--wait", timeout_s=120).returncode == 0
    assert machines_of(cloud.state) == {}
    assert ec2.describe_addresses()["Addresses"] == []
    assert {group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]} == {"default"}

"""A machine that joins. Goal: a guest runs on a host that joined over TLS, and goes on running whoever of server and agent is
killed; a token of another cloud lets nobody in; a host leaves with what is on it. Method: server and agent in two network
namespaces joined by a pair of veths, each started by the command as a person would."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cloud import ROOT, machines_of, open_the_way, until
from tests.terminal import Terminal

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

# Of this run alone: another may be testing beside it.
SERVER, AGENT = f"hosts-server-{os.getpid()}", f"hosts-agent-{os.getpid()}"
ADDRESS = "192.168.77.1"


CALL = """
import boto3, json
client = boto3.client("ec2", endpoint_url="{endpoint}", region_name="{region}", aws_access_key_id="{access_key_id}",
    aws_secret_access_key="{secret_access_key}")
print(json.dumps(client.{action}(**{parameters}), default=str))
"""
# A disk whose first sector says something on the serial line and stops: xor ax,ax; mov ds,ax; cld; mov dx,0x3f8; mov si,0x7c16;
# then lodsb; test al,al; jz; out dx,al until the end; hlt.
SPEAKS = bytes.fromhex("31c08ed8fcbaf803be167cac84c07403eeebf8f4ebfd") + b"from a disk that came over\r\n\0"


class Side:
    """One machine: a namespace, and the folder of what runs there."""

    def __init__(self, namespace: str, state: Path, cache: Path) -> None:
        self.namespace, self.state, self.cache = namespace, state, cache

    def alto(self, *arguments: str, code: int | None = 0) -> str:
        """stdout; `said` is stderr. `code`: what must come; None: whatever comes."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ALTO_"))}
        # Not `ip netns exec`: it also gives a mount namespace of its own, in which another's namespaces are not to be found.
        command = ["nsenter", f"--net=/run/netns/{self.namespace}", sys.executable, "-m", "alto.ui.cli.main", *arguments]
        done = subprocess.run(
            [*command, "--state", str(self.state)],
            env={**clean, "PYTHONPATH": str(ROOT), "ALTO_CACHE": str(self.cache)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        self.said = done.stderr
        self.code = done.returncode
        assert code is None or done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def terminal(self, *arguments: str) -> Terminal:
        command = ["nsenter", f"--net=/run/netns/{self.namespace}", sys.executable, "-m", "alto.ui.cli.main"]
        return Terminal([*command, "--state", str(self.state), *arguments])

    def ec2(self, action: str, **parameters: Any) -> Any:
        """What boto3 is answered by the cloud of this side, from within its namespace."""
        cloud = json.loads((self.state / "cloud.json").read_bytes())
        keys = ("endpoint", "region", "access_key_id", "secret_access_key")
        script = CALL.format(action=action, parameters=parameters, **{key: cloud[key] for key in keys})
        command = ["nsenter", f"--net=/run/netns/{self.namespace}", sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def kill(self, name: str) -> None:
        """The process that wrote `name` when it was ready, as by `kill -9`."""
        os.kill(json.loads((self.state / name).read_bytes())["pid"], signal.SIGKILL)


def clean(server: Side) -> bool:
    found = server.alto("audit", code=None)
    print(found, server.said)  # shown when it never comes true
    return server.code == 0


UP = ("up", "--no-host", "--no-nat", "--listen-hosts", f"{ADDRESS}:8774")


@pytest.fixture
def sides(real_machine: None, image_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    base = tmp_path_factory.mktemp("hosts")
    open_the_way(base)

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    # Two machines share no files; what was built for tests is built for both. Other tests put their own there meanwhile.
    built = [image_cache / "kernels", *image_cache.glob("tiny-*")]
    caches = [base / "server-cache", base / "agent-cache"]
    for cache in caches:
        cache.mkdir(mode=0o711)
        subprocess.run(["cp", "-a", "--reflink=auto", "-t", cache, *built], check=True)
    server, agent = Side(SERVER, base / "server", caches[0]), Side(AGENT, base / "agent", caches[1])
    try:
        for name in (SERVER, AGENT):
            ip("netns", "add", name)
        ip("link", "add", "hosts0", "netns", SERVER, "type", "veth", "peer", "name", "hosts0", "netns", AGENT)
        for name, address in ((SERVER, f"{ADDRESS}/24"), (AGENT, "192.168.77.2/24")):
            ip("-n", name, "addr", "add", address, "dev", "hosts0")
            for device in ("lo", "hosts0"):
                ip("-n", name, "link", "set", device, "up")
        yield server, agent
    except BaseException:
        for side in (server, agent):
            print(side.state.name, (side.state / "alto.log").read_text()[-10_000:])
        raise
    finally:
        try:
            agent.alto("agent", "--down", "--yes")
            server.alto("down", "--yes")
        finally:
            for name in (SERVER, AGENT):
                subprocess.run(["ip", "netns", "delete", name], check=False)


def test_a_machine_joins_serves_outlives_and_leaves(sides: tuple[Side, Side]) -> None:
    server, agent = sides
    server.alto(*UP)
    server.alto("host", "list")
    assert "alto host token create" in server.said  # a cloud with no host says how to add one

    token = server.alto("host", "token", "create", "--name", "attic", "-q").strip()
    agent.alto("agent", "--join", f"https://{ADDRESS}:8774", "--token", token, "--no-nat")
    (host,) = json.loads(server.alto("host", "list", "-o", "json"))
    assert (host["name"], host["state"], host["kind"]) == ("attic", "ready", "qemu")
    assert json.loads(server.alto("host", "show", "attic", "-o", "json"))["underlay"] == "192.168.77.2:4789"

    instance = server.alto("instance", "run", "--wait", "-q").split()[0]
    before = machines_of(agent.state)
    assert list(before) == [instance]

    server.alto("account", "serial-console", "on")
    until(lambda: "login: " in server.alto("instance", "console", instance), "a prompt", timeout_s=120, every_s=1)
    with server.terminal("instance", "console", instance, "-i") as console:
        console.reads("Escape character")
        console.types("\r")
        console.reads("login: ")
        console.types("\x1d")
        console.ends(0)

    for victims in ((server,), (agent,), (server, agent)):
        for victim in victims:
            victim.kill("cloud.json" if victim is server else "agent.json")
        if server in victims:
            server.alto(*UP)
        if agent in victims:
            agent.alto("agent", "--no-nat")
        # The audit asks the host itself: it is heard again, and everything is as it was.
        until(lambda: clean(server), "a clean audit", timeout_s=30, every_s=1.0)
        assert machines_of(agent.state) == before

    # An image that was registered on the server boots on the host, which does not have it.
    raw, path = agent.state.parent / "speaks.raw", server.state.parent / "speaks.qcow2"
    raw.write_bytes((SPEAKS.ljust(510, b"\0") + b"\x55\xaa").ljust(3 << 20, b"\0"))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path], check=True)
    image = server.ec2("register_image", Name="speaks", ImageLocation=f"file://{path}")["ImageId"]
    other = server.alto("instance", "run", "--image", image, "-q").split()[0]
    until(lambda: "came over" in server.alto("instance", "console", other), "the disk speaks", timeout_s=60, every_s=1.0)
    assert [name for name in os.listdir(agent.cache) if name.startswith("shipped-")]
    server.alto("instance", "terminate", other, "--yes", "--wait")

    server.alto("host", "remove", "attic", code=5)
    assert instance in server.said
    server.alto("host", "remove", "attic", "--force")
    until(lambda: server.alto("host", "list", "-q") == "", "the host has left", timeout_s=120, every_s=1.0)
    assert machines_of(agent.state) == {}


def test_the_token_of_another_cloud_is_refused(sides: tuple[Side, Side], tmp_path: Path) -> None:
    server, agent = sides
    other = Side(SERVER, tmp_path / "other", server.cache)
    other.alto("up", "--no-host", "--no-nat", "--listen", "127.0.0.1:8775", "--listen-hosts", f"{ADDRESS}:8776")
    try:
        token = other.alto("host", "token", "create", "-q").strip()
        server.alto(*UP)
        agent.alto("agent", "--join", f"https://{ADDRESS}:8774", "--token", token, "--no-nat", code=1)
        assert "the token is of cloud" in agent.said
        assert server.alto("host", "list", "-q") == other.alto("host", "list", "-q") == ""
    finally:
        other.alto("down", "--yes")

"""`kill -9` at each step of a launch and of a termination, each once, for real. Goal: whichever of server and agent dies, and
whatever it was about to do, the instance runs once it is asked for, is gone once it is given up, and nothing is left over.
Method: server and agent as two processes that count what they do to the world (dying.py); from the first step to the last, one
death each, and a start again as a service manager would; then what this machine, the records and the audit say."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ConnectionError as NotConnected
from botocore.exceptions import HTTPClientError

from tests.e2e.cloud import ROOT, leftovers, machines_of, open_the_way, until
from tests.e2e.dying import Order

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(3600)]

STEPS_MAX = 400
PARTS = 4  # of the steps, each by a cloud of its own
# Halts at once, so that emulating it costs nothing: cli; hlt.
HALTS = b"\xfa\xf4".ljust(510, b"\0") + b"\x55\xaa"


class Daemon:
    """A process that dies when it is told to, and is started again by whoever waits for something."""

    def __init__(self, module: str, state: Path, *arguments: str) -> None:
        self.module, self.state, self.arguments = module, state, arguments
        self.order = Order(state)
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, *more: str) -> list[str]:
        return [sys.executable, "-m", "tests.e2e.dying", self.module, "--state", str(self.state), *self.arguments, *more]

    def start(self, *more: str) -> None:
        self.state.mkdir(mode=0o711, exist_ok=True)
        with open(self.state / "alto.log", "ab") as log:
            self.process = subprocess.Popen(self.run(*more), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def keep(self) -> None:
        """As a service manager does; it must have died by our order, and of nothing else."""
        if self.process is not None and self.process.poll() is not None:
            assert self.order.about() is not None, (self.state / "alto.log").read_text()[-5000:]
            self.start()

    def down(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        done = subprocess.run(self.run("--down"), cwd=ROOT, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr.decode()


class Clouds:
    def __init__(self, base: Path, cache: Path) -> None:
        both = ("--cache", str(cache))
        listen = ("--no-host", "--listen", "127.0.0.1:8773", "--listen-hosts", "127.0.0.1:8774")
        self.server = Daemon("alto.daemons.allinone", base / "server", *both, *listen)
        self.agent = Daemon("alto.daemons.agent", base / "agent", *both, "--no-nat")

    def keep(self) -> None:
        self.server.keep()
        self.agent.keep()

    def up(self) -> None:
        self.server.start()
        until((self.server.state / "cloud.json").exists, "the server is ready", timeout_s=60)
        token = self.alto("host", "token", "create", "-q").strip()
        self.agent.start("--join", "https://127.0.0.1:8774", "--token", token)
        until((self.agent.state / "agent.json").exists, "the agent is ready", timeout_s=120)

    def alto(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "alto.ui.cli.main", *arguments, "--state", str(self.server.state)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.server.state / "cloud.json").read_bytes())
        return facts

    def ec2(self) -> Any:
        return boto3.client(
            "ec2",
            endpoint_url=self.facts["endpoint"],
            region_name=self.facts["region"],
            aws_access_key_id=self.facts["access_key_id"],
            aws_secret_access_key=self.facts["secret_access_key"],
            config=Config(retries={"max_attempts": 1}),
        )

    def clean(self) -> bool:
        command = [sys.executable, "-m", "alto.ui.cli.main", "audit", "--state", str(self.server.state)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.fixture
def clouds(real_machine: None, image_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clouds]:
    base = tmp_path_factory.mktemp("steps")
    open_the_way(base)
    clouds = Clouds(base, image_cache)
    cloud_id = ""
    try:
        clouds.up()
        cloud_id = clouds.facts["cloud_id"]
        yield clouds
    finally:
        clouds.agent.down()
        clouds.server.down()
    assert [left for state in (base / "server", base / "agent") for left in leftovers(state, cloud_id)] == []


def wait_for(clouds: Clouds, condition: Any, what: str) -> None:
    def met() -> bool:
        clouds.keep()
        return bool(condition())

    try:
        until(met, what, timeout_s=120)
    except AssertionError:
        for one in (clouds.server, clouds.agent):
            print(one.state.name, (one.state / "alto.log").read_text()[-10_000:])
        raise


# Each beside the others, where pytest runs several processes.
@pytest.mark.parametrize("part", [pytest.param(part, marks=pytest.mark.xdist_group(f"steps {part}")) for part in range(PARTS)])
def test_a_death_at_any_step_leaves_nothing_half(clouds: Clouds, part: int, tmp_path: Path) -> None:
    raw, path = tmp_path / "halts.raw", tmp_path / "halts.qcow2"
    raw.write_bytes(HALTS.ljust(1 << 20, b"\0"))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path], check=True)
    client = clouds.ec2()

    def ask(call: Any, **parameters: Any) -> Any:
        """As any client: what was not answered is asked again, as it was."""
        answers: list[Any] = []

        def answered() -> bool:
            with suppress(NotConnected, HTTPClientError):
                answers.append(call(**parameters))
            return bool(answers)

        wait_for(clouds, answered, "an answer")
        return answers[0]

    def state(id: str) -> str:
        (found,) = ask(client.describe_instances, InstanceIds=[id])["Reservations"]
        return str(found["Instances"][0]["State"]["Name"])

    image = ask(client.register_image, Name="halts", ImageLocation=f"file://{path}")["ImageId"]

    def die(mortal: Daemon, number: int) -> tuple[str | None, str | None]:
        """What it was about to do when it died, in a launch and in the termination after it; None where it had done all."""
        mortal.order.give(number)
        token = f"{mortal.state.name}-{number}"
        answer = ask(client.run_instances, ImageId=image, InstanceType="m1.tiny", MinCount=1, MaxCount=1, ClientToken=token)
        (id,) = [one["InstanceId"] for one in answer["Instances"]]
        wait_for(clouds, lambda: state(id) == "running", f"launch, {token}: {id} runs")
        launch = mortal.order.take_back()
        wait_for(clouds, lambda: list(machines_of(clouds.agent.state)) == [id], f"launch, {token}: one machine")
        mortal.order.give(number)
        ask(client.terminate_instances, InstanceIds=[id])
        wait_for(clouds, lambda: state(id) == "terminated", f"termination, {token}: {id} is gone")
        wait_for(clouds, lambda: not os.listdir(clouds.agent.state / "host/network/vpcs"), f"{token}: the network is gone")
        assert machines_of(clouds.agent.state) == {}
        return launch, mortal.order.take_back()

    # There are steps to die at: a launch writes, starts and plugs; a server commits.
    for mortal, least in ((clouds.server, 1), (clouds.agent, 8)):
        died: dict[str, list[str]] = {"launch": [], "termination": []}
        for number in range(1 + part, STEPS_MAX, PARTS):
            fell = die(mortal, number)
            for (kind, deaths), about in zip(died.items(), fell, strict=True):
                if about is not None:
                    deaths.append(f"{number}: {about}")
                    print(mortal.state.name, kind, deaths[-1])
            if fell == (None, None):
                break
        assert len(died["launch"]) >= least, died
        assert len(died["termination"]) >= least, died
    wait_for(clouds, clouds.clean, "a clean audit")
    storage = clouds.agent.state / "host/storage"
    assert [name for name in os.listdir(storage) if name.startswith("vol-")] == []
    assert os.listdir(clouds.agent.state / "host/machines") in ([], [".accelerator.json"])
    assert os.listdir(clouds.agent.state / "host/manifests") == []

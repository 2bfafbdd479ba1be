"""The servers that are compared: Alto over simulated hosts, and moto's server. Each in a process of its own on loopback."""

import json
import socket
import sys
import time
from pathlib import Path
from typing import NamedTuple

from alto.daemons.server import TINY_IMAGE_ID
from benchmarks.client import Ec2
from benchmarks.processes import Process

READY_TIMEOUT_S = 60.0


class Cloud(NamedTuple):
    name: str
    process: Process
    endpoint: str
    access_key_id: str
    secret: str
    region: str
    image_id: str
    ready_s: float  # from the start of the process to the first answered request

    def client(self) -> Ec2:
        return Ec2(self.endpoint, self.access_key_id, self.secret, self.region)


def start_alto(folder: Path, *, hosts: int) -> Cloud:
    port = _free_port()
    state = folder / "alto"
    argv = [sys.executable, "-m", "alto.daemons.allinone", "--state", str(state), "--listen", f"127.0.0.1:{port}"]
    process = Process([*argv, "--simulate", str(hosts)], folder / "alto.log")
    identity = state / "cloud.json"
    while not (identity.exists() and _answers(port)):
        _wait_for(process, "alto", folder / "alto.log")
    keys = json.loads(identity.read_bytes())
    cloud = Cloud(
        "alto",
        process,
        keys["endpoint"],
        keys["access_key_id"],
        keys["secret_access_key"],
        keys["region"],
        TINY_IMAGE_ID,
        0.0,
    )
    cloud.client().call("DescribeRegions")
    ready_s = time.monotonic() - process.started_at
    return cloud._replace(ready_s=ready_s)


def start_moto(folder: Path) -> Cloud:
    port = _free_port()
    argv = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    process = Process(argv, folder / "moto.log")
    while not _answers(port):
        _wait_for(process, "moto", folder / "moto.log")
    # An image that moto brings along.
    cloud = Cloud("moto", process, f"http://127.0.0.1:{port}", "AKIAEXAMPLE", "secret", "us-east-1", "ami-12c6146b", 0.0)
    cloud.client().call("DescribeRegions")
    return cloud._replace(ready_s=time.monotonic() - process.started_at)


def _wait_for(process: Process, name: str, log: Path) -> None:
    if not process.alive() or time.monotonic() - process.started_at > READY_TIMEOUT_S:
        process.stop()
        raise SystemExit(f"{name} did not come up:\n{log.read_text()[-2000:]}")
    time.sleep(0.01)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

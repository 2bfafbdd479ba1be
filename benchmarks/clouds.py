"""The servers that are compared: Alto, and moto's server. Each in a process of its own on loopback."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from alto.daemons.server import TINY_IMAGE_ID
from benchmarks.client import Ec2
from benchmarks.processes import Process

READY_TIMEOUT_S = 60.0
ALTO = (sys.executable, "-m", "alto.daemons.allinone")


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
    """Over simulated hosts."""
    return _start_alto(folder, ["--simulate", str(hosts)])


def prepare_images(cache: Path) -> None:
    """What real instances boot from, made ready once. May fetch Debian packages."""
    cache.mkdir(mode=0o711, parents=True, exist_ok=True)
    subprocess.run([*ALTO, "--state", str(cache), "--cache", str(cache), "--prepare"], check=True, timeout=600)


def start_real_alto(folder: Path, cache: Path) -> Cloud:
    """On this machine. `take_down` when done."""
    return _start_alto(folder, ["--cache", str(cache), "--no-nat"])


def take_down(cloud: Cloud, folder: Path, cache: Path) -> None:
    cloud.process.stop()
    subprocess.run(
        [*ALTO, "--state", str(folder / "alto"), "--cache", str(cache), "--no-nat", "--down"], check=True, timeout=120
    )


def _start_alto(folder: Path, arguments: list[str]) -> Cloud:
    port = _free_port()
    state = folder / "alto"
    process = Process([*ALTO, "--state", str(state), "--listen", f"127.0.0.1:{port}", *arguments], folder / "alto.log")
    identity = state / "cloud.json"
    try:
        while not (identity.exists() and _answers(port)):
            _wait_for(process, "alto", folder / "alto.log")
        keys = json.loads(identity.read_bytes())
        secret = keys["secret_access_key"]
        cloud = Cloud("alto", process, keys["endpoint"], keys["access_key_id"], secret, keys["region"], TINY_IMAGE_ID, 0.0)
        cloud.client().call("DescribeRegions")
    except BaseException:
        process.stop()
        raise
    return cloud._replace(ready_s=time.monotonic() - process.started_at)


def start_moto(folder: Path) -> Cloud:
    port = _free_port()
    argv = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    process = Process(argv, folder / "moto.log")
    # An image that moto brings along.
    cloud = Cloud("moto", process, f"http://127.0.0.1:{port}", "AKIAEXAMPLE", "secret", "us-east-1", "ami-12c6146b", 0.0)
    try:
        while not _answers(port):
            _wait_for(process, "moto", folder / "moto.log")
        cloud.client().call("DescribeRegions")
    except BaseException:
        process.stop()
        raise
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

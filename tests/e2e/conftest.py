"""Each test process has a network namespace of its own: no packet of a cloud under test can leave it."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cloud import PROGRAM, Cloud, standing

CLONE_NEWNET = 0x40000000


@pytest.fixture(scope="session")
def own_network(image_cache: Path) -> None:
    """This process is in a new network namespace with nothing but a loopback."""
    if os.geteuid() != 0:
        pytest.skip("needs root: run ./alto-test with sudo")
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        pytest.skip("needs network namespaces, and this kernel refuses them")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@pytest.fixture(scope="session")
def real_machine(own_network: None, missing_tools: list[str]) -> None:
    if missing_tools:
        pytest.skip(f"needs {', '.join(missing_tools)}: ./alto-test installs them")


@pytest.fixture(scope="module")
def cloud(
    request: pytest.FixtureRequest, real_machine: None, image_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    """A module may name another PROGRAM."""
    program = getattr(request.module, "PROGRAM", PROGRAM)
    with standing(
        tmp_path_factory.mktemp("cloud"), port=8773, pool="127.64.0.0/16", cache=image_cache, program=program
    ) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def simulated(own_network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path_factory.mktemp("simulated") / "state", port=8774, pool="127.65.0.0/16", simulate=4)
    try:
        cloud.up()
        yield cloud
    finally:
        cloud.down()

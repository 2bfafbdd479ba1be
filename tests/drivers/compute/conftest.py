"""Rigs as fixtures. Whatever a test leaves running is killed at its end, by process number."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from alto.drivers.compute.driver import BootFiles
from tests.drivers.compute.rigs import FakeRig, QemuRig, Rig, console_guest


@pytest.fixture(scope="session")
def guest() -> BootFiles:
    return console_guest()


@pytest.fixture
def qemu(tmp_path: Path, guest: BootFiles) -> Iterator[QemuRig]:
    rig = QemuRig(tmp_path / "machines", guest)
    yield rig
    for home in sorted(rig.state.glob("i-*")):
        for pid in rig.processes(home.name):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(params=["fake", pytest.param("qemu", marks=pytest.mark.vm)])
def rig(request: pytest.FixtureRequest) -> Rig:
    found: Rig = request.getfixturevalue("qemu") if request.param == "qemu" else FakeRig()
    return found

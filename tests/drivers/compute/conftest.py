"""Rigs as fixtures. Whatever a test leaves running is killed at its end, by process number."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from alto.drivers.compute.driver import BootFiles
from alto.drivers.compute.groups import ControlGroups
from tests.drivers.compute.rigs import ContainerRig, FakeRig, QemuRig, Rig, console_guest, container_guest


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


@pytest.fixture(scope="session")
def root_file_system(tmp_path_factory: pytest.TempPathFactory) -> BootFiles:
    return container_guest(tmp_path_factory.mktemp("container"))


@pytest.fixture
def container(tmp_path: Path, root_file_system: BootFiles) -> Iterator[ContainerRig]:
    rig = ContainerRig(tmp_path / "machines", root_file_system)
    yield rig
    for home in sorted(rig.state.glob("i-*")):
        asyncio.run(rig.driver().destroy(home.name))
    ControlGroups(rig.world, rig.groups).remove_all()


@pytest.fixture(params=["fake", pytest.param("qemu", marks=pytest.mark.vm), pytest.param("container", marks=pytest.mark.net)])
def rig(request: pytest.FixtureRequest) -> Rig:
    found: Rig = FakeRig() if request.param == "fake" else request.getfixturevalue(request.param)
    return found

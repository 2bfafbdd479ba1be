"""A VPC, a folder and a host for the real HAProxy; nothing of them is left."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.balancer.members import Host, Vpc, new_driver


@pytest.fixture
def vpc() -> Iterator[Vpc]:
    made = Vpc()
    yield made
    made.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: that one is closed to HAProxy's user.
    path = Path(f"/tmp/ui-haproxy-{os.getpid()}")
    path.mkdir(mode=0o755)
    yield path / "balancer"
    asyncio.run(new_driver(path / "balancer").remove_all())
    shutil.rmtree(path)


@pytest.fixture
def host(folder: Path) -> Iterator[Host]:
    made = Host(folder)
    yield made
    made.loop.close()

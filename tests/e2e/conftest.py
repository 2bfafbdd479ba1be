"""Each test process has a network namespace of its own: no packet of a cloud under test can leave it."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cloud import PROGRAM, ROOT, Cloud, leftovers

CLONE_NEWNET = 0x40000000
NEEDED = ("qemu-system-x86_64", "qemu-img", "dnsmasq", "nft", "haproxy", "ip", "mke2fs", "ssh")


@pytest.fixture(scope="session")
def missing_tools() -> list[str]:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [tool for tool in NEEDED if shutil.which(tool, path=path) is None]


@pytest.fixture(scope="session")
def image_cache(missing_tools: list[str]) -> Path:
    """The tiny image, built once for all tests on a machine, while there still is a network to get packages from."""
    folder = Path(os.environ.get("ALTO_TEST_CACHE", "/var/tmp/alto-test-images"))
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    if not missing_tools and os.geteuid() == 0:
        command = [sys.executable, "-m", "alto.daemons.allinone", "--state", str(folder), "--cache", str(folder), "--prepare"]
        subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    return folder


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
    """A real cloud on this machine, taken down and looked for leftovers afterwards. A module may name another PROGRAM."""
    # QEMU and HAProxy drop root and must still reach their files.
    base = tmp_path_factory.mktemp("cloud")
    for folder in (base, *base.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    cloud = Cloud(
        base / "state", port=8773, pool="127.64.0.0/16", cache=image_cache, program=getattr(request.module, "PROGRAM", PROGRAM)
    )
    try:
        cloud.up()
        cloud_id = cloud.facts["cloud_id"]
        yield cloud
    except BaseException:
        print(cloud.log())
        raise
    finally:
        cloud.down()
    assert leftovers(base / "state", cloud_id) == []


@pytest.fixture(scope="module")
def simulated(own_network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path_factory.mktemp("simulated") / "state", port=8774, pool="127.65.0.0/16", simulate=4)
    try:
        cloud.up()
        yield cloud
    finally:
        cloud.down()

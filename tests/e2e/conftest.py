"""Each test process has a network namespace of its own: no packet of a cloud under test can leave it."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cloud import Cloud, leftovers

CLONE_NEWNET = 0x40000000
NEEDED = ("qemu-system-x86_64", "qemu-img", "dnsmasq", "nft", "haproxy", "ip", "mke2fs", "ssh")


@pytest.fixture(scope="session")
def own_network() -> None:
    """This process is in a new network namespace with nothing but a loopback."""
    if os.geteuid() != 0:
        pytest.skip("needs root: run ./alto-test with sudo")
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        pytest.skip("needs network namespaces, and this kernel refuses them")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@pytest.fixture(scope="session")
def real_machine(own_network: None) -> None:
    missing = [tool for tool in NEEDED if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: ./alto-test installs them")


@pytest.fixture(scope="session")
def image_cache() -> Path:
    """Images are built once for all tests on a machine; they are named by what they are made of."""
    folder = Path(os.environ.get("ALTO_TEST_CACHE", "/var/tmp/alto-test-images"))
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def cloud(real_machine: None, image_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A real cloud on this machine, taken down and looked for leftovers afterwards."""
    # QEMU and HAProxy drop root and must still reach their files.
    base = tmp_path_factory.mktemp("cloud")
    for folder in (base, *base.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    cloud = Cloud(base / "state", port=8773, pool="127.64.0.0/16", cache=image_cache)
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

"""What holds for every test: one that boots real machines has more time, for emulation on a busy machine is slow, and no
single example of a property is timed, for the same reason. Tests that share a cloud run one after the other, in one process
(`pytest --dist loadgroup`); other files run beside them, each process in namespaces and folders of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parents[1]
MACHINES_S = 600
NEEDED = ("qemu-system-x86_64", "qemu-img", "dnsmasq", "nft", "haproxy", "ip", "mke2fs", "ssh")

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Folders of tests below one of this session's own. Pytest's is shared with all other sessions, each of which closes it to
    everybody but root again, while QEMU, HAProxy and dnsmasq of a running test have to pass it."""
    if config.option.basetemp is None:
        config.option.basetemp = f"{tempfile.gettempdir()}/alto-tests-{os.getpid()}"
        # Kept for a look after a failure.
        config.add_cleanup(lambda: _failed or shutil.rmtree(config.option.basetemp, ignore_errors=True))


_failed: list[int] = []


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus != 0:
        _failed.append(exitstatus)


# First: xdist reads the groups in a hook of the same name.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("vm") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(MACHINES_S))
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


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

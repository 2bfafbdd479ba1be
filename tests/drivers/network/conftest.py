"""What the tests with real namespaces need, or the reason why they cannot run here."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.network.guests import site
from tests.drivers.network.machinery import Cloud

TOOLS = ("ip", "nft", "conntrack", "dnsmasq", "busybox", "curl")


def _missing() -> str | None:
    if os.geteuid() != 0:
        return "needs root"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    name = f"nwt-probe-{os.getpid()}"
    probe = subprocess.run(["ip", "netns", "add", name], capture_output=True)
    if probe.returncode != 0:
        return f"no network namespaces here: {probe.stderr.decode().strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return None


@pytest.fixture(scope="session")
def namespaces() -> None:
    reason = _missing()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """Where also those may pass who are not root, as dnsmasq is not."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


@pytest.fixture
def cloud(namespaces: None, tmp_path: Path) -> Iterator[Cloud]:
    """A cloud on a machine of its own; whatever the test leaves behind is cleared away."""
    with site(f"nwt-host-{os.getpid()}"):
        made = Cloud(tmp_path / "net")
        try:
            yield made
        finally:
            made.close()

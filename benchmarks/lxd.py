"""LXD with one storage pool of folders, one image and no network: the peer that `benchmarks/agent.py` starts containers beside.

It is not among the project's packages: `apt-get install --no-install-recommends lxd lxd-client`, with nothing to start it. The
daemon has namespaces of its own without a way out, because it would ask its vendor for news, and its state in one folder.
"""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

READY_S = 30.0
IMAGE, POOL = "tiny", "folders"
METADATA = "architecture: x86_64\ncreation_date: 1\nproperties:\n  description: the tiny image's root file system\n"


def is_installed() -> bool:
    return shutil.which("lxd") is not None and shutil.which("lxc") is not None


class Lxd:
    """`disk`: an image of a root file system, raw."""

    def __init__(self, folder: Path, disk: Path) -> None:
        self._folder = folder
        self._disk = disk
        self._environment = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LXD_DIR": str(folder / "lxd"), "HOME": str(folder)}
        self._launched: list[str] = []

    def __enter__(self) -> Self:
        (self._folder / "lxd").mkdir(parents=True)
        self._daemon = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "lxd", "--group", "root"],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            end = time.monotonic() + READY_S
            while self._try("query", "/1.0") != 0:
                if time.monotonic() > end or self._daemon.poll() is not None:
                    raise SystemExit("lxd did not come up")
                time.sleep(0.1)
            self._do("storage", "create", POOL, "dir")
            self._do("profile", "device", "add", "default", "root", "disk", "path=/", f"pool={POOL}")
            self._do("image", "import", str(self._archive()), "--alias", IMAGE)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def launch(self, name: str) -> float:
        """Seconds until it runs."""
        began = time.monotonic()
        self._launched.append(name)
        self._do("launch", IMAGE, name)
        return time.monotonic() - began

    def _archive(self) -> Path:
        """LXD's own form of an image, of the root file system that ours have."""
        archive = self._folder / "image.tar"
        with tempfile.TemporaryDirectory(dir=self._folder) as place:
            (Path(place) / "metadata.yaml").write_text(METADATA)
            script = (
                'mkdir "$1/rootfs" && mount -o loop,ro "$2" "$1/rootfs" && tar -C "$1" -cf "$3" metadata.yaml rootfs; '
                'status=$?; umount "$1/rootfs"; exit $status'
            )
            command = ["sh", "-c", script, "sh", place, str(self._disk), str(archive)]
            subprocess.run(["unshare", "--mount", "--propagation", "private", *command], check=True, timeout=60)
        return archive

    def _stop(self) -> None:
        for name in self._launched:
            self._try("delete", "--force", name)
        self._daemon.terminate()
        try:
            self._daemon.wait(30)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()

    def _try(self, *words: str) -> int:
        quiet = subprocess.DEVNULL
        return subprocess.run(
            ["lxc", *words], env=self._environment, stdin=quiet, stdout=quiet, stderr=quiet, timeout=60
        ).returncode

    def _do(self, *words: str) -> None:
        done = subprocess.run(
            ["lxc", *words], env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        if done.returncode != 0:
            raise SystemExit(f"lxc {' '.join(words)}: {done.stderr.strip()[-500:]}")

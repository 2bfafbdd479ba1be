"""Archives of root file systems. Goal: each way of packing gives the same disk, with owners and modes; what is none is refused
with its reason, and nothing of it stays; an archive reaches nothing beside its own tree. Method: archives made by Python, disks
read by debugfs."""

import asyncio
import io
import os
import shutil
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from alto.drivers.image.images import LocalImages
from alto.kit.world import real_world
from alto.model.errors import Impossible

pytestmark = pytest.mark.net  # it mounts, which takes root


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.getuid() != 0:
        pytest.skip("mounting needs root")


def entry(
    name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o755, uid: int = 0
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode, info.uid, info.gid = len(data), kind, link, mode, uid, uid
    return info, data


SYSTEM = [
    entry("./sbin", kind=tarfile.DIRTYPE),
    entry("./sbin/init", kind=tarfile.SYMTYPE, link="/lib/systemd/systemd"),
    entry("./etc", kind=tarfile.DIRTYPE),
    entry("./etc/secret", b"mine", mode=0o4640, uid=1042),
]


def packed(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    plain = path.with_name("plain.tar")
    with tarfile.open(plain, "w") as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    packer = {"gz": "gzip", "tgz": "gzip", "xz": "xz", "zst": "zstd"}.get(path.suffix[1:], "cat")
    if shutil.which(packer) is None:
        pytest.skip(f"there is no {packer} here")
    with plain.open("rb") as source, path.open("wb") as target:
        subprocess.run([packer], check=True, stdin=source, stdout=target)
    return path


def fetched(tmp_path: Path, archive: Path) -> Path:
    boot = asyncio.run(LocalImages(real_world(), tmp_path / "cache").fetch(f"file://{archive}"))
    assert (boot.disk_format, boot.kernel) == ("raw", None)
    assert boot.disk is not None
    return boot.disk


def shown(disk: Path, request: str) -> str:
    return subprocess.run(["/usr/sbin/debugfs", "-R", request, str(disk)], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz", "tar.xz", "tar.zst"])
def test_an_archive_becomes_a_disk(tmp_path: Path, ending: str) -> None:
    disk = fetched(tmp_path, packed(tmp_path / f"root.{ending}", SYSTEM))
    assert shown(disk, "cat /etc/secret") == "mine"
    told = shown(disk, "stat /etc/secret")
    assert "Mode:  04640" in told
    assert "User:  1042" in told
    assert "/lib/systemd/systemd" in shown(disk, "stat /sbin/init")
    assert "Type: directory" in shown(disk, "stat /proc")
    # Sparse: what is not in the archive takes no room.
    assert disk.stat().st_size == 8 << 30
    assert disk.stat().st_blocks * 512 < 64 << 20
    assert sorted(one.name for one in disk.parent.iterdir()) == ["root.raw"]


def test_what_is_no_root_file_system_is_refused(tmp_path: Path) -> None:
    nothing = packed(tmp_path / "nothing.tar", [entry("./etc", kind=tarfile.DIRTYPE)])
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(packed(tmp_path / "whole.tar.gz", SYSTEM).read_bytes()[:-20])
    for archive, why in ((nothing, "no /sbin/init"), (broken, "damaged"), (tmp_path / "absent.tar", "gone")):
        with pytest.raises(Impossible, match=why):
            fetched(tmp_path, archive)
    assert [one.name for one in (tmp_path / "cache").iterdir()] == []


def test_an_archive_stays_within_its_disk(tmp_path: Path) -> None:
    """By a path that leads up, and by a link that leads out and is then written through."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for escape in (
        [entry("../../outside/up", b"x")],
        [entry(f"{outside}/absolute", b"x")],
        [entry("./out", kind=tarfile.SYMTYPE, link=str(outside)), entry("./out/through", b"x")],
    ):
        archive = packed(tmp_path / "escape.tar", [*SYSTEM, *escape])
        with suppress(Impossible):
            fetched(tmp_path, archive)
        assert list(outside.iterdir()) == []

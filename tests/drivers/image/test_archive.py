"""Archives are read back by GNU cpio, or busybox's, which are not ours."""

import subprocess
from pathlib import Path

from alto.drivers.image.archive import Entry, cpio


def test_busybox_unpacks_what_we_pack(tmp_path: Path) -> None:
    """Goal: names, modes, links and odd sizes survive. Method: busybox cpio, which knows nothing of us, unpacks it."""
    contents = {f"d/file{size}": b"x" * size for size in (0, 1, 2, 3, 4, 5, 4097)}
    entries = [Entry("d", 0o751), *(Entry(path, 0o640, data) for path, data in contents.items())]
    entries += [Entry("d/link", target="file3"), Entry("d/runs", 0o755, b"#!/bin/sh\n")]
    subprocess.run(["busybox", "cpio", "-idm"], input=cpio(entries), cwd=tmp_path, check=True, capture_output=True)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {entry.path for entry in entries}
    for path, data in contents.items():
        assert (tmp_path / path).read_bytes() == data
        assert (tmp_path / path).stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o751
    assert (tmp_path / "d/link").readlink() == Path("file3")
    assert (tmp_path / "d/runs").stat().st_mode & 0o111


def test_same_entries_same_bytes() -> None:
    entries = [Entry("a"), Entry("a/b", 0o644, b"c")]
    assert cpio(entries) == cpio(list(entries))
    assert cpio(entries) != cpio([Entry("a"), Entry("a/b", 0o600, b"c")])

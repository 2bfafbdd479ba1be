"""The header check against qemu-img's own files, and against forged ones; our overlays against qemu-img's check."""

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alto.drivers.image.qcow2 import HEADER_BYTES, empty, refusal, virtual_bytes


def qemu_img(*words: str) -> str:
    return subprocess.run(["qemu-img", *words], check=True, capture_output=True, text=True).stdout


def made(path: Path, *options: str, size: str = "3G") -> Path:
    qemu_img("create", "-q", "-f", "qcow2", *options, str(path), size)
    return path


def judged(path: Path) -> str | None:
    return refusal(path.read_bytes()[:HEADER_BYTES], path.stat().st_size)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-o", "compat=0.10"],
        ["-o", "cluster_size=4096"],
        ["-o", "cluster_size=2M"],
        ["-o", "compression_type=zstd"],
        ["-o", "extended_l2=on"],
        ["-o", "lazy_refcounts=on"],
        ["-o", "preallocation=metadata"],
    ],
)
def test_what_qemu_img_makes_is_accepted(tmp_path: Path, options: list[str]) -> None:
    path = made(tmp_path / "a.qcow2", *options)
    assert judged(path) is None
    assert virtual_bytes(path.read_bytes()) == 3 << 30


def test_what_reaches_beyond_itself_is_refused(tmp_path: Path) -> None:
    """Goal: no image names another file. Method: qemu-img makes such images."""
    base = made(tmp_path / "base.qcow2")
    backed = tmp_path / "backed.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(backed))
    assert "backing file" in str(judged(backed))
    outside = made(tmp_path / "outside.qcow2", "-o", f"data_file={tmp_path}/data.raw")
    assert "another file" in str(judged(outside))
    raw_outside = made(tmp_path / "raw.qcow2", "-o", f"data_file={tmp_path}/data2.raw,data_file_raw=on")
    assert "another file" in str(judged(raw_outside))


def test_other_refusals(tmp_path: Path) -> None:
    snapshot = made(tmp_path / "s.qcow2", size="1M")
    qemu_img("snapshot", "-c", "one", str(snapshot))
    assert "snapshots" in str(judged(snapshot))
    # The header's crypt_method says LUKS. qemu-img could make one, but measures the processor for its key derivation, and
    # fails when it measures nothing.
    locked = made(tmp_path / "l.qcow2", size="1M")
    with open(locked, "r+b") as file:
        file.seek(32)
        file.write(struct.pack(">I", 2))
    assert "encrypted" in str(judged(locked))
    for kind in ("raw", "vmdk", "vhdx", "vdi", "qed"):
        other = tmp_path / f"other.{kind}"
        qemu_img("create", "-q", "-f", kind, str(other), "1M")
        assert "not in the qcow2 format" in str(judged(other))


def changed(change: Callable[[bytearray], None]) -> str | None:
    data = bytearray(empty(1 << 30, "/nowhere"))
    struct.pack_into(">QI", data, 8, 0, 0)  # without its backing file it is a plain image
    assert refusal(bytes(data[:HEADER_BYTES]), len(data)) is None
    change(data)
    return refusal(bytes(data[:HEADER_BYTES]), len(data))


@pytest.mark.parametrize(
    ("at", "format", "value"),
    [
        (4, ">I", 4),  # version
        (8, ">Q", 512),  # a backing file
        (20, ">I", 30),  # clusters of 1 GiB
        (20, ">I", 0),
        (24, ">Q", 0),  # no size
        (24, ">Q", 1 << 60),  # more than any volume
        (32, ">I", 1),  # encrypted
        (36, ">I", 0),  # no first table
        (36, ">I", 1 << 31),  # one that takes all memory
        (40, ">Q", 1 << 40),  # one beyond the end
        (40, ">Q", 3),  # one that is not aligned
        (48, ">Q", 1 << 40),  # reference counts beyond the end
        (56, ">I", 1 << 31),
        (60, ">I", 1),  # snapshots
        (72, ">Q", 1 << 1),  # corrupt
        (72, ">Q", 1 << 2),  # data elsewhere
        (72, ">Q", 1 << 40),  # a feature nobody knows
    ],
)
def test_each_field_is_looked_at(at: int, format: str, value: int) -> None:
    assert changed(lambda data: struct.pack_into(format, data, at, value)) is not None


@given(st.binary(max_size=200), st.integers(0, 1 << 40))
def test_no_bytes_break_the_check(data: bytes, size: int) -> None:
    assert refusal(data, size) is not None
    refusal(b"QFI\xfb\0\0\0\3" + data, size)


@pytest.mark.parametrize("size", [512, 64 << 20, (1 << 30) + 512, 8 << 30, 16 << 40])
def test_our_overlay_is_qemu_imgs(tmp_path: Path, size: int) -> None:
    """Goal: QEMU takes our overlay as its own. Method: qemu-img checks it, reads through it and writes into it."""
    base = made(tmp_path / "base.qcow2", size="1M")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 512", str(base)], check=True, capture_output=True)
    path = tmp_path / "top.qcow2"
    path.write_bytes(empty(size, str(base)))
    qemu_img("check", "-f", "qcow2", str(path))
    info = qemu_img("info", "-f", "qcow2", str(path))
    assert f"({size} bytes)" in info or f" {size} B " in info
    assert f"backing file: {base}" in info
    assert "backing file format: qcow2" in info
    if size >= 1 << 20:
        read = subprocess.run(
            ["qemu-io", "-f", "qcow2", "-c", "read -P 7 0 512", "-c", f"write -P 9 {size - 512} 512", str(path)],
            check=True,
            capture_output=True,
            text=True,
        )
        assert "Pattern verification failed" not in read.stdout
        qemu_img("check", "-f", "qcow2", str(path))
    assert refusal(path.read_bytes()[:HEADER_BYTES], path.stat().st_size, may_have_backing=True) is None
    assert "backing" in str(refusal(path.read_bytes()[:HEADER_BYTES], path.stat().st_size))

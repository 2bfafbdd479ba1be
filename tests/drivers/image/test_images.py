"""The image driver: one build for many callers, whole or absent, registered files checked and copied.

Files are real and in a folder of the test's; the tiny image is built from this machine's packages (mark `vm`, it may download).
"""

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from alto.drivers.image.images import LocalImages
from alto.drivers.image.kernel import payload
from alto.kit.world import Finished, RealProcesses, real_world
from alto.model.errors import DriverFault, Impossible
from tests.drivers.compute.rigs import CACHE


class Counting(RealProcesses):
    """The real processes, by name; `broken` ones fail."""

    def __init__(self, broken: str = "") -> None:
        super().__init__()
        self.ran: list[str] = []
        self.broken = broken

    async def run(self, argv, *, stdin=b"", timeout_s=30.0, netns=None):  # type: ignore[no-untyped-def]
        self.ran.append(argv[0])
        if argv[0] == self.broken:
            return Finished(1, b"", b"told to fail")
        return await super().run(argv, stdin=stdin, timeout_s=timeout_s, netns=netns)


def image(path: Path) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "10M"], check=True)
    return path


def test_registered_file_is_copied_once(tmp_path: Path) -> None:
    """Goal: callers share one copy, which the file's owner cannot change. Method: eight callers; then the file is removed."""

    async def main() -> None:
        processes = Counting()
        images = LocalImages(replace(real_world(), processes=processes), tmp_path / "cache")
        path = image(tmp_path / "mine.qcow2")
        content = path.read_bytes()
        boots = await asyncio.gather(*[images.fetch(f"file://{path}") for _ in range(8)])
        assert processes.ran.count("cp") == 1
        assert len({boot.disk for boot in boots}) == 1
        assert boots[0].kernel is None
        path.unlink()
        assert (await images.fetch(f"file://{path}")).disk.read_bytes() == content
        assert [name for name in (tmp_path / "cache").iterdir() if name.name.startswith(".")] == []

    asyncio.run(main())


def test_what_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        images = LocalImages(real_world(), tmp_path / "cache")
        image(tmp_path / "base.qcow2")
        backed = tmp_path / "backed.qcow2"
        base = str(tmp_path / "base.qcow2")
        await real_world().processes.run(["qemu-img", "create", "-f", "qcow2", "-b", base, "-F", "qcow2", str(backed)])
        (tmp_path / "text.qcow2").write_text("no image")
        sources = ["", "huge", "http://example.com/a.qcow2", "file:///etc/passwd", f"file://{tmp_path}/absent.qcow2"]
        sources += [f"file://{backed}", f"file://{tmp_path}/text.qcow2", "json:{}", "nbd://x/y.qcow2"]
        for source in sources:
            with pytest.raises(Impossible) as refusal:
                await images.fetch(source)
            assert str(tmp_path) not in str(refusal.value), "a tenant may read it: paths of this host are not for them"
        assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []

    asyncio.run(main())


@pytest.mark.parametrize("broken", ["cp", "mv", "sync"])
def test_failure_leaves_nothing_and_may_be_tried_again(tmp_path: Path, broken: str) -> None:
    async def main() -> None:
        path = image(tmp_path / "mine.qcow2")
        processes = Counting(broken)
        images = LocalImages(replace(real_world(), processes=processes), tmp_path / "cache")
        with pytest.raises(DriverFault):
            await images.fetch(f"file://{path}")
        assert list((tmp_path / "cache").iterdir()) == []
        processes.broken = ""
        assert (await images.fetch(f"file://{path}")).disk.exists()

    asyncio.run(main())


def test_payload_of_a_made_up_kernel() -> None:
    """Goal: the payload is found by the setup header, not by a search. Method: an image whose setup holds the magic, too."""
    stream = b"\x02\x21\x4c\x18" + b"stream"
    setup = bytearray(5 * 512)
    setup[0x1F1] = 4
    setup[0x202:0x206] = b"HdrS"
    setup[0x300:0x304] = b"\x02\x21\x4c\x18"
    setup[0x248:0x24C] = (100).to_bytes(4, "little")
    setup[0x24C:0x250] = (len(stream) + 4).to_bytes(4, "little")
    assert payload(bytes(setup) + bytes(100) + stream + b"SIZE" + b"rest") == stream
    with pytest.raises(DriverFault):
        payload(bytes(4096))
    with pytest.raises(DriverFault):
        payload(bytes(setup) + bytes(100) + b"\x1f\x8bgzip" + bytes(100))


@pytest.mark.vm
def test_tiny_is_built_once_and_found_again() -> None:
    """Goal: the second fetch, in another process too, costs no build. Method: two drivers over one cache."""

    async def main() -> None:
        first = await LocalImages(real_world(), CACHE).fetch("tiny")
        processes = Counting()
        second = await LocalImages(replace(real_world(), processes=processes), CACHE).fetch("tiny")
        assert first == second
        assert "mke2fs" not in " ".join(processes.ran)
        assert first.kernel is not None
        assert first.kernel.read_bytes()[:4] == b"\x7fELF"
        check = await real_world().processes.run(["qemu-img", "check", "-f", "qcow2", str(first.disk)])
        assert check.returncode == 0

    asyncio.run(main())

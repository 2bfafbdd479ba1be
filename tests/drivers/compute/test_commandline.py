"""The command line is data: what it says of a machine, and what it never says."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from alto.drivers.compute.driver import BootFiles, Tap
from alto.drivers.compute.qemu.commandline import Descriptors, Host, arguments, command, inherited, uid_of, uuid_of
from alto.drivers.volume.driver import Base, Disk
from tests.drivers.compute.machines import machine

TINY = BootFiles(disk=Path("/cache/disk"), kernel=Path("/cache/vmlinux"), initrd=Path("/cache/initrd"), cmdline="quiet")
REGISTERED = BootFiles(disk=Path("/cache/disk"))
FDS = Descriptors(disks=((10, 11),), monitor=12, console=13, console_log=14, kernel=15, initrd=16)
ROOT = Disk(volume_id="vol-1", path=Path("/storage/disk"), size_bytes=1 << 30, base=Base(path=Path("/cache/disk")))
TAP = Tap(interface_id="eni-1", name="tap1", mac="02:00:00:00:00:01", fd=20)
TCG, KVM = Host(accelerator="tcg", tsc_khz=2_500_000), Host(accelerator="kvm", kvm_gid=108)


def after(words: list[str], option: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words) if word == option]


def test_size_is_the_machines() -> None:
    words = arguments(replace(machine(), vcpus=4, memory_mib=8192), TINY, [TAP], [ROOT], FDS, TCG)
    assert after(words, "-smp") == ["4"]
    assert after(words, "-m") == ["8192M"]


def test_chain_is_said_and_not_read() -> None:
    """Goal: no format and no backing file comes from a disk. Method: the chain's own words."""
    (chain,) = after(arguments(machine(), TINY, [TAP], [ROOT], FDS, TCG), "-blockdev")
    root = json.loads(chain)
    assert (root["driver"], root["file"]["filename"], root["file"]["read-only"]) == ("qcow2", "/dev/fdset/1", False)
    image = root["backing"]
    assert (image["driver"], image["read-only"]) == ("qcow2", True)
    assert (image["file"]["filename"], image["file"]["read-only"]) == ("/dev/fdset/2", True)
    assert image["backing"] is None
    words = arguments(machine(), TINY, [TAP], [ROOT], FDS, TCG)
    assert {word.split(",opaque")[0] for word in after(words, "-add-fd")} == {"set=1,fd=10", "set=2,fd=11", "set=3,fd=14"}
    assert not any("unsafe" in word or "/cache" in word or "/storage" in word for word in words)


def test_no_file_of_the_host_is_named() -> None:
    """Goal: the process can be a user that may open nothing."""
    words = arguments(machine(), TINY, [TAP], [ROOT], FDS, TCG)
    paths = {part for word in words for part in word.replace('"', ",").replace("=", ",").split(",") if part.startswith("/")}
    assert paths == {"/dev/fdset/1", "/dev/fdset/2", "/dev/fdset/3", "/proc/self/fd/15", "/proc/self/fd/16"}


def test_confined_before_it_begins() -> None:
    words = command(machine(), TINY, [TAP], [ROOT], FDS, TCG)
    before = words[: words.index("qemu-system-x86_64")]
    assert before[:2] == ["unshare", "--net"]
    assert after(before, "--reuid") == after(before, "--regid") == [str(uid_of(machine().id))]
    assert {"--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"} <= set(before)
    (sandbox,) = after(words, "-sandbox")
    assert sandbox == "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
    with_kvm = command(machine(), TINY, [TAP], [ROOT], FDS, KVM)
    assert after(with_kvm, "--groups") == ["108"]
    assert "--clear-groups" not in with_kvm


def test_accelerators() -> None:
    emulated = arguments(machine(), TINY, [TAP], [ROOT], FDS, TCG)
    assert after(emulated, "-cpu") == ["qemu64"]
    assert "tb-size=64" in after(emulated, "-accel")[0]
    assert "thread=multi" in after(emulated, "-accel")[0]
    assert "tsc_early_khz=2500000" in after(emulated, "-append")[0]
    unsure = arguments(machine(), TINY, [TAP], [ROOT], FDS, Host(accelerator="tcg"))
    assert after(unsure, "-append") == ["quiet"]
    fast = arguments(machine(), TINY, [TAP], [ROOT], FDS, KVM)
    assert (after(fast, "-accel"), after(fast, "-cpu"), after(fast, "-append")) == (["kvm"], ["host"], ["quiet"])


def test_emulated_processors_share_a_thread() -> None:
    """With one thread each, a guest that rewrites its own code ends up running what it has replaced: ADR 18."""
    several = replace(machine(), vcpus=2)
    assert "thread=single" in after(arguments(several, TINY, [TAP], [ROOT], FDS, TCG), "-accel")[0]
    assert after(arguments(several, TINY, [TAP], [ROOT], FDS, KVM), "-accel") == ["kvm"]


def test_registered_image_boots_by_itself() -> None:
    words = arguments(machine(), REGISTERED, [TAP], [ROOT], replace(FDS, kernel=None, initrd=None), TCG)
    assert not {"-kernel", "-initrd", "-append"} & set(words)
    assert after(words, "-cpu") == ["max"]


def test_without_tap_no_card() -> None:
    tapless = replace(TAP, fd=-1)
    assert not any("virtio-net" in word for word in arguments(machine(), TINY, [tapless], [ROOT], FDS, TCG))
    assert sorted(inherited(FDS, [tapless])) == [10, 11, 12, 13, 14, 15, 16]
    assert 20 in inherited(FDS, [TAP])


@given(st.text("0123456789abcdef", min_size=17, max_size=17).map("i-{}".format))
def test_identity(id: str) -> None:
    assert uuid_of(id).startswith("ec2")
    assert [len(part) for part in uuid_of(id).split("-")] == [8, 4, 4, 4, 12]
    assert 1_900_000_000 <= uid_of(id) < 2_100_000_000


def test_identities_differ() -> None:
    ids = [machine(number).id for number in range(1000)]
    assert len({uid_of(id) for id in ids}) == len({uuid_of(id) for id in ids}) == 1000


def test_commas_stay_within_their_value() -> None:
    words = arguments(replace(machine(), instance_type="t3.nano,uuid=evil"), TINY, [TAP], [ROOT], FDS, TCG)
    assert any("product=t3.nano,,uuid=evil," in word for word in after(words, "-smbios"))

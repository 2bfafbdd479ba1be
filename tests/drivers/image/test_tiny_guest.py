"""The tiny image as a guest of real QEMU, over the life of an instance: what it asks for, serves, says and keeps."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from alto.drivers.compute.driver import BootFiles, Tap
from alto.drivers.compute.qemu.blockjobs import DiskTool
from alto.drivers.compute.qemu.compute import QemuCompute
from alto.drivers.image.images import LocalImages
from alto.drivers.volume.driver import Base, Disk
from alto.drivers.volume.files import FileVolumes
from alto.kit.world import real_world
from alto.model.instances import Power
from tests.drivers.compute.machines import machine
from tests.drivers.compute.rigs import CACHE, until
from tests.drivers.image.guest_network import GUEST, MAC, GuestNetwork, guest_network

pytestmark = [pytest.mark.vm, pytest.mark.net, pytest.mark.skipif(os.getuid() != 0, reason="real machines need root")]
ID = machine().id
USER_DATA = "#!/bin/sh\necho run >> /var/runs\necho user data speaks\n"


def ssh(network: GuestNetwork, key: Path, command: str) -> str:
    words = ["ip", "netns", "exec", network.netns, "ssh", "-F", "/dev/null", "-i", str(key), "-o", "BatchMode=yes"]
    words += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    done = subprocess.run([*words, f"root@{GUEST}", command], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_life_of_a_tiny_instance(tmp_path: Path) -> None:
    """Goal: first boot, later boots, power button. Method: boot, log in, stop, start, log in; then what was kept."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text()

    async def main() -> None:
        boot = await LocalImages(real_world(), CACHE).fetch("tiny")
        driver = QemuCompute(real_world(), tmp_path / "machines")
        async with guest_network(tmp_path) as network:
            network.pages = {
                "meta-data/instance-id": ID,
                "meta-data/local-hostname": "ip-10-77-0-5.ec2.internal",
                "meta-data/public-keys/0/openssh-key": public,
                "user-data": USER_DATA,
            }

            async def start(incarnation: int) -> None:
                tap = network.tap()
                await driver.start(machine(incarnation=incarnation, mac=MAC), boot, [tap], await root(tmp_path, boot))
                os.close(tap.fd)

            async def said(text: str, times: int = 1) -> None:
                log = tmp_path / "machines" / ID / "console.log"
                await until(lambda: log.read_text(errors="replace").count(text) >= times, f"the console says '{text}'")

            try:
                await start(1)
                assert (await network.answers(22)).startswith(b"SSH-2.0-dropbear")
                page = (await network.answers(80)).decode()
                assert ID in page
                assert "ip-10-77-0-5.ec2.internal" in page
                await said("user data ended with 0")
                await said("login:")
                console = (await driver.console(ID)).decode()
                assert "user data speaks" in console
                assert f"Alto tiny {ID} {GUEST}" in console
                fingerprint = console.split("Fingerprint: SHA256:")[1].split()[0]
                first = await asyncio.to_thread(
                    ssh, network, key, "hostname; cat /var/runs; echo kept > /root/mine; df -m / | tail -1; sync"
                )
                assert first.splitlines()[:2] == ["ip-10-77-0-5", "run"]
                await until_grown(network, key)
                # What a user changed stays, and what EC2 gives at the first boot only is not asked for again.
                network.pages["meta-data/public-keys/0/openssh-key"] = "another"
                await driver.stop(ID, grace_s=60)
                assert (await driver.observe())[ID].power is Power.OFF
                await said("alto tiny: boot 1")
                await start(2)
                await said("alto tiny: boot 2")
                assert (await network.answers(22)).startswith(b"SSH-2.0-dropbear")
                second = await asyncio.to_thread(
                    ssh, network, key, "cat /var/runs /root/mine /etc/issue; wget -qO- localhost/health"
                )
                assert second.splitlines()[:2] == ["run", "kept"]
                assert fingerprint in second
                assert second.splitlines()[-1] == "ok"
                assert network.asked.count("GET /latest/user-data") == 1
            finally:
                await driver.destroy(ID)
                await driver.close()

    asyncio.run(main())


async def root(folder: Path, boot: BootFiles) -> list[Disk]:
    volumes = FileVolumes(real_world(), folder / "storage", DiskTool(real_world(), folder / "storage" / "work"))
    return [await volumes.create(machine().root.volume_id, 1 << 30, account="1", base=Base(path=boot.disk))]


async def until_grown(network: GuestNetwork, key: Path) -> None:
    """The image's 64 MiB become the gibibyte that was asked for."""
    async with asyncio.timeout(180):
        while int((await asyncio.to_thread(ssh, network, key, "df -m / | tail -1")).split()[1]) < 900:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


def test_boots_without_any_network(tmp_path: Path) -> None:
    """Goal: a guest that nobody answers still comes up and says so. Method: no tap at all."""

    async def main() -> None:
        boot = await LocalImages(real_world(), CACHE).fetch("tiny")
        driver = QemuCompute(real_world(), tmp_path / "machines")
        try:
            await driver.start(machine(), boot, [Tap(interface_id="eni-1", name="", mac=MAC)], await root(tmp_path, boot))
            log = tmp_path / "machines" / ID / "console.log"
            await until(lambda: "login:" in log.read_text(errors="replace"), "the console offers a login")
            assert "no DHCP lease yet" in log.read_text(errors="replace")
        finally:
            await driver.destroy(ID)
            await driver.close()

    asyncio.run(main())

"""Goal: what Terraform says of a network is what packets meet: ways in and out, groups that refer to each other, an interface
and addresses that were asked for, and a change of one rule. Method: terraform/reachable.tf, unmodified provider, real machines;
a second namespace is the world behind this machine's way out, and says whom it sees.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.network.guests import hello, reaches, tcp_server
from tests.e2e.cloud import Cloud, behind, machines_of, ssh, standing, until
from tests.e2e.commands import needs_terraform, terraform_of

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(600),
    needs_terraform,
]

STORE = "10.30.1.10"
WORLD = f"terraform-world-{os.getpid()}"
HERE, BEYOND = "198.51.100.1", "198.51.100.2"
BOOT_S = 240


@pytest.fixture
def cloud(real_machine: None, image_cache: Path, tmp_path: Path) -> Iterator[Cloud]:
    """With a way out, at whose end somebody listens on port 80."""

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    ip("netns", "add", WORLD)
    try:
        ip("link", "add", "wan0", "type", "veth", "peer", "name", "wan1", "netns", WORLD)
        ip("addr", "add", f"{HERE}/24", "dev", "wan0")
        ip("link", "set", "wan0", "up")
        ip("-n", WORLD, "addr", "add", f"{BEYOND}/24", "dev", "wan1")
        ip("-n", WORLD, "link", "set", "wan1", "up")
        ip("route", "add", "default", "via", BEYOND)
        with (
            tcp_server(WORLD, 80, hello),
            standing(tmp_path, beside=("link wan0@",), port=8775, pool="127.66.0.0/16", cache=image_cache, nat=True) as cloud,
        ):
            yield cloud
    finally:
        subprocess.run(["ip", "netns", "delete", WORLD], check=False)


def test_what_terraform_builds_is_what_packets_meet(cloud: Cloud, tmp_path: Path) -> None:
    work, key = tmp_path / "work", tmp_path / "me"
    work.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    known = ("-var", f"public_key={key.with_suffix('.pub').read_text().strip()}")
    everybody = ("-var", "readers=0.0.0.0/0")
    terraform = terraform_of(cloud, "reachable.tf", work)
    terraform("apply", "-auto-approve", *known)
    outputs = json.loads(terraform("output", "-json").stdout)
    door, door_inside, nat = (outputs[name]["value"] for name in ("door", "door_inside", "nat"))

    until(lambda: ssh(key, door, "true").returncode == 0, "ssh to the elastic address", timeout_s=BOOT_S, every_s=0.5)
    until(lambda: behind(key, door, STORE, "echo up") == "up", "ssh to the interface's address", timeout_s=BOOT_S, every_s=0.5)
    page = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {door_inside} 80 | head -n 1"
    assert "200" in behind(key, door, STORE, page), "the door's group lets the store's in"
    assert ssh(key, door, f"nc -w 3 {STORE} 80 </dev/null; echo $?").stdout.strip() == "1", "and the store's only ssh"
    assert reaches(door, 80, timeout=1.0) != "open", "readers come from elsewhere"
    assert behind(key, door, STORE, f"nc -w 3 {BEYOND} 80 </dev/null") == HERE, "out by the NAT gateway"
    flows = subprocess.run(
        ["conntrack", "-L", "-s", nat.replace("127.", "240.", 1), "-d", BEYOND], capture_output=True, text=True, check=True
    )
    assert f"dst={BEYOND}" in flows.stdout, "under the gateway's own address"
    again = terraform("plan", "-detailed-exitcode", *known, ok=False)
    assert again.returncode == 0, f"the second plan is not empty:\n{again.stdout}"

    terraform("apply", "-auto-approve", *known, *everybody)
    until(lambda: reaches(door, 80, timeout=1.0) == "open", "everybody may read", timeout_s=30)
    assert ssh(key, door, "true").returncode == 0

    terraform("destroy", "-auto-approve", *known, *everybody)
    assert machines_of(cloud.state) == {}
    assert len(cloud.client().describe_vpcs()["Vpcs"]) == 1
    assert cloud.client().describe_addresses()["Addresses"] == []

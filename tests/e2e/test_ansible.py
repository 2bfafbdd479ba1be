"""Ansible's amazon.aws collection, unmodified, against simulated hosts. Goal: a playbook makes a VPC with a public and a
private part and a machine in it, a second play changes nothing, and what it takes away is gone.
Method: ansible/network.yml, played as a user plays it; the modules run in this Python, which has boto3."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cloud import Cloud

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

PLAYBOOK = Path(__file__).parent / "ansible" / "network.yml"


def play(cloud: Cloud, home: Path, state: str) -> dict[str, int]:
    """How many tasks were ok, changed, failed...; fails with what Ansible said."""
    environment = {
        **{name: os.environ[name] for name in ("PATH",) if name in os.environ},
        **cloud.environment(),
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_STDOUT_CALLBACK": "json",
    }
    variables = {"state": state, "image": "ami-0a170000000000001", "ansible_python_interpreter": sys.executable}
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "-e", json.dumps(variables), str(PLAYBOOK)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
    said: dict[str, Any] = json.loads(done.stdout)
    counted: dict[str, int] = said["stats"]["localhost"]
    return counted


def test_a_playbook_makes_changes_nothing_again_and_takes_away(simulated: Cloud, tmp_path: Path) -> None:
    if shutil.which("ansible-playbook") is None:
        pytest.skip("needs ansible-playbook: ./alto-test installs it")
    ec2 = simulated.client()
    first = play(simulated, tmp_path, "present")
    assert first["failures"] == 0
    assert first["changed"] == 14
    again = play(simulated, tmp_path, "present")
    assert (again["failures"], again["changed"]) == (0, 0)
    gone = play(simulated, tmp_path, "absent")
    assert gone["failures"] == 0
    assert [vpc["IsDefault"] for vpc in ec2.describe_vpcs()["Vpcs"]] == [True]
    assert ec2.describe_addresses()["Addresses"] == []
    assert ec2.describe_key_pairs()["KeyPairs"] == []
    assert ec2.describe_network_interfaces()["NetworkInterfaces"] == []

"""Ansible's amazon.aws and community.aws collections, unmodified, against simulated hosts. Goal: a playbook makes what it says,
a second play changes nothing, what it takes away is gone, and the dynamic inventory finds the machines in their groups.
Method: the playbooks of ansible/, played as a user plays them; the modules run in this Python, which has boto3."""

import importlib.util
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

PLAYBOOKS = Path(__file__).parent / "ansible"
IMAGE = "ami-0a170000000000001"
# What an inventory plugin needs beside Ansible's own Python: these, with nothing compiled in them.
AWS_LIBRARIES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")

INVENTORY = """
plugin: amazon.aws.aws_ec2
regions: [{region}]
endpoint_url: {endpoint}
filters: {{instance-state-name: [running, stopped], "tag:env": [prod, test]}}
include_filters: [{{"tag:role": extra}}]
exclude_filters: [{{"tag:role": hidden}}]
hostnames: ["tag:Name", private-ip-address]
keyed_groups:
  - {{key: "tags.env | default('none')", prefix: env}}
  - {{key: placement.availability_zone, prefix: az, parent_group: zones}}
  - {{key: state.name, prefix: state}}
groups: {{webs: "'web' in tags.get('role', '')"}}
compose: {{ansible_host: private_ip_address}}
strict: true
"""


def ansible(cloud: Cloud, home: Path, *words: str, **environment: str) -> dict[str, Any]:
    """What a program of Ansible's writes as JSON; fails with what it said."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}: ./alto-test installs it")
    done = subprocess.run(
        words,
        env={"PATH": os.environ["PATH"], **cloud.environment(), "HOME": str(home), "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def play(cloud: Cloud, home: Path, playbook: str, **variables: str) -> int:
    """How many tasks changed something; none failed."""
    given = json.dumps({"image": IMAGE, **variables, "ansible_python_interpreter": sys.executable})
    words = ["ansible-playbook", "-i", "localhost,", "-e", given, str(PLAYBOOKS / playbook)]
    counted = ansible(cloud, home, *words, ANSIBLE_STDOUT_CALLBACK="json")["stats"]["localhost"]
    assert counted["failures"] == 0
    changed: int = counted["changed"]
    return changed


def test_a_playbook_makes_changes_nothing_again_and_takes_away(simulated: Cloud, tmp_path: Path) -> None:
    ec2 = simulated.client()
    assert play(simulated, tmp_path, "network.yml", state="present") == 14
    assert play(simulated, tmp_path, "network.yml", state="present") == 0
    play(simulated, tmp_path, "network.yml", state="absent")
    assert [vpc["IsDefault"] for vpc in ec2.describe_vpcs()["Vpcs"]] == [True]
    assert ec2.describe_addresses()["Addresses"] == []
    assert ec2.describe_key_pairs()["KeyPairs"] == []
    assert ec2.describe_network_interfaces()["NetworkInterfaces"] == []


def test_machines_and_what_they_are_made_from(simulated: Cloud, tmp_path: Path) -> None:
    ec2 = simulated.client()
    assert play(simulated, tmp_path, "machines.yml", state="present", part="01") == 11
    assert play(simulated, tmp_path, "machines.yml", state="present", part="01") == 0
    assert play(simulated, tmp_path, "machines.yml", state="present", part="02") == 1
    named = [{"Name": "tag:Name", "Values": ["farm"]}]
    gone = {
        "image": ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": ["farm"]}])["Images"][0]["ImageId"],
        "options": ec2.describe_dhcp_options(Filters=named)["DhcpOptions"][0]["DhcpOptionsId"],
        "acl": ec2.describe_network_acls(Filters=named)["NetworkAcls"][0]["NetworkAclId"],
    }
    assert play(simulated, tmp_path, "machines.yml", state="absent", **gone) == 10
    assert play(simulated, tmp_path, "machines.yml", state="absent", **gone) == 0
    assert [vpc["IsDefault"] for vpc in ec2.describe_vpcs()["Vpcs"]] == [True]
    assert ec2.describe_volumes()["Volumes"] == []
    assert ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


def test_the_dynamic_inventory_groups_machines(simulated: Cloud, tmp_path: Path) -> None:
    ec2 = simulated.client()
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for name in AWS_LIBRARIES:
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        at = Path(found.origin)
        (libraries / at.name if at.stem == name else libraries / name).symlink_to(at if at.stem == name else at.parent)
    made = {}
    for name, tags in {
        "one": {"env": "prod", "role": "web db"},
        "two": {"env": "test"},
        "aside": {"role": "extra"},
        "hidden": {"env": "prod", "role": "hidden"},
        "other": {"env": "lab"},
    }.items():
        own = [{"Key": key, "Value": value} for key, value in {"Name": name, **tags}.items()]
        (instance,) = ec2.run_instances(
            ImageId=IMAGE,
            InstanceType="t3.nano",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": own}],
        )["Instances"]
        made[name] = instance
    ids = [one["InstanceId"] for one in made.values()]
    ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig={"Delay": 1})
    ec2.stop_instances(InstanceIds=[made["two"]["InstanceId"]])
    ec2.get_waiter("instance_stopped").wait(InstanceIds=[made["two"]["InstanceId"]], WaiterConfig={"Delay": 1})

    config = tmp_path / "mine.aws_ec2.yml"
    config.write_text(INVENTORY.format(region=simulated.facts["region"], endpoint=simulated.facts["endpoint"]))
    words = ["ansible-inventory", "-i", str(config), "--list"]
    said = ansible(simulated, tmp_path, *words, PYTHONPATH=str(libraries), ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="true")
    hosts = said["_meta"]["hostvars"]
    assert sorted(hosts) == ["aside", "one", "two"]
    assert hosts["one"]["ansible_host"] == made["one"]["PrivateIpAddress"]
    assert hosts["one"]["instance_id"] == made["one"]["InstanceId"]
    assert {
        name: sorted(group["hosts"]) for name, group in said.items() if group.get("hosts") and not name.startswith("az_")
    } == {
        "aws_ec2": ["aside", "one", "two"],
        "env_none": ["aside"],
        "env_prod": ["one"],
        "env_test": ["two"],
        "state_running": ["aside", "one"],
        "state_stopped": ["two"],
        "webs": ["one"],
    }
    zone = made["one"]["Placement"]["AvailabilityZone"].replace("-", "_")
    assert f"az_{zone}" in said["zones"]["children"]
    ec2.terminate_instances(InstanceIds=ids)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig={"Delay": 1})

"""The thread from `run-instances` to `ssh`, on real machines. Goal: what EC2's users count on is true of guests, packets and
processes. Method: boto3, aws and ssh against a cloud of this test's own; each wait is for a condition."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cloud import Cloud, machines_of, ssh, until

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

PROGRAM = ("tests.e2e.hurried",)
IMAGE = "ami-0a170000000000001"
# A guest boots in seconds; under emulation on a busy machine, in many.
BOOT_S = 180

USER_DATA = """#!/bin/sh
echo "made by user data on $(hostname)" > /www/made.txt
"""


@pytest.fixture(scope="module")
def key(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "me.pem"
    ec2 = cloud.client()
    path.write_text(ec2.create_key_pair(KeyName="me", KeyType="ed25519")["KeyMaterial"])
    path.chmod(0o600)
    group = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"]
    for port in (22, 80):
        ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=port, ToPort=port, CidrIp="0.0.0.0/0")
    return path


Launch = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def launch(cloud: Cloud, key: Path) -> Iterator[Launch]:
    """Launch and wait until running; terminated afterwards, whatever happened."""
    ec2, ids = cloud.client(), []

    def run(count: int = 1, **more: Any) -> list[dict[str, Any]]:
        wanted = {"ImageId": IMAGE, "InstanceType": "m1.tiny", "KeyName": "me", "MinCount": count, "MaxCount": count, **more}
        made = [one["InstanceId"] for one in ec2.run_instances(**wanted)["Instances"]]
        ids.extend(made)
        ec2.get_waiter("instance_running").wait(InstanceIds=made, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
        found = ec2.describe_instances(InstanceIds=made)["Reservations"]
        return [one for reservation in found for one in reservation["Instances"]]

    yield run
    if ids:
        ec2.terminate_instances(InstanceIds=ids)
        ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def reachable(key: Path, address: str) -> None:
    until(lambda: ssh(key, address, "true").returncode == 0, f"ssh to {address}", timeout_s=BOOT_S, every_s=0.5)


def fetch(url: str, *, timeout_s: float = 2.0) -> str | None:
    """None when nobody answers. Most ask again and again; what was dropped is sent anew after one second, then only after
    three, and who waits for that waits for nothing."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            body: str = answer.read().decode()
            return body
    except (OSError, urllib.error.URLError):
        return None


def test_from_the_aws_command_to_a_shell_in_the_guest(cloud: Cloud, key: Path, launch: Launch) -> None:
    (instance,) = launch(UserData=USER_DATA)
    address = instance["PublicIpAddress"]
    reachable(key, address)

    who = ssh(key, address, "hostname; cat /proc/meminfo | head -n 1; nproc").stdout.split()
    assert who[0] == instance["PrivateDnsName"].split(".")[0]
    assert 90_000 < int(who[2]) <= 128 * 1024  # kB of an m1.tiny, less what the kernel keeps for itself
    assert who[-1] == "1"
    made = until(lambda: fetch(f"http://{address}/made.txt"), "the page that user data made", timeout_s=30)
    assert made.strip() == f"made by user data on {who[0]}"

    # From inside: the metadata service knows this instance, with a token and without.
    script = (
        "T=$(printf 'PUT /latest/api/token HTTP/1.0\\r\\nHost: 169.254.169.254\\r\\n"
        "X-aws-ec2-metadata-token-ttl-seconds: 60\\r\\nContent-Length: 0\\r\\n\\r\\n' | nc -w 5 169.254.169.254 80 | "
        "tail -n 1); "
        "for p in meta-data/instance-id meta-data/public-ipv4 dynamic/instance-identity/document; do "
        'wget -q -O - --header "X-aws-ec2-metadata-token: $T" http://169.254.169.254/latest/$p; echo; done; '
        "wget -q -O - http://169.254.169.254/2007-01-19/meta-data/public-ipv4"
    )
    answers = ssh(key, address, script).stdout
    lines = answers.splitlines()
    assert lines[0] == instance["InstanceId"]
    assert lines[1] == address
    document = json.loads(answers[answers.index("{") : answers.rindex("}") + 1])
    assert document["instanceId"] == instance["InstanceId"]
    assert document["accountId"] == cloud.facts["account"]
    assert lines[-1] == address

    ec2 = cloud.client()
    ec2.get_waiter("instance_status_ok").wait(
        InstanceIds=[instance["InstanceId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    console = ec2.get_console_output(InstanceId=instance["InstanceId"])["Output"]
    assert instance["InstanceId"] in console


def test_security_group_rules_hold_on_packets(cloud: Cloud, key: Path, launch: Launch) -> None:
    (instance,) = launch()
    address = instance["PublicIpAddress"]
    reachable(key, address)
    ec2 = cloud.client()
    group = instance["SecurityGroups"][0]["GroupId"]
    rule = {"GroupId": group, "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "CidrIp": "0.0.0.0/0"}
    assert until(lambda: fetch(f"http://{address}/"), "the guest's page", timeout_s=30)
    ec2.revoke_security_group_ingress(**rule)
    until(lambda: fetch(f"http://{address}/") is None, "port 80 is closed again", timeout_s=30)
    assert ssh(key, address, "true").returncode == 0, "port 22 is still open"
    ec2.authorize_security_group_ingress(**rule)
    until(lambda: fetch(f"http://{address}/"), "port 80 is open again", timeout_s=30)


def test_stop_and_start_keep_the_disk(cloud: Cloud, key: Path, launch: Launch) -> None:
    (instance,) = launch()
    id, address = instance["InstanceId"], instance["PublicIpAddress"]
    reachable(key, address)
    assert ssh(key, address, "echo kept > /root/kept && sync").returncode == 0
    ec2 = cloud.client()
    ec2.stop_instances(InstanceIds=[id])
    ec2.get_waiter("instance_stopped").wait(InstanceIds=[id], WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    assert id not in machines_of(cloud.state)
    ec2.start_instances(InstanceIds=[id])
    ec2.get_waiter("instance_running").wait(InstanceIds=[id], WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    reachable(key, address)
    assert ssh(key, address, "cat /root/kept").stdout == "kept\n"


def test_a_guest_that_powers_off_is_stopped_and_one_that_dies_says_so(cloud: Cloud, key: Path, launch: Launch) -> None:
    quiet, killed = launch(2)
    reachable(key, quiet["PublicIpAddress"])
    ssh(key, quiet["PublicIpAddress"], "poweroff")
    pid = machines_of(cloud.state)[killed["InstanceId"]]
    subprocess.run(["kill", "-9", str(pid)], check=True)

    def state(id: str) -> dict[str, Any]:
        found: dict[str, Any] = cloud.client().describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]
        return found

    for one, code in ((quiet, "Client.InstanceInitiatedShutdown"), (killed, "Server.InternalError")):
        id = one["InstanceId"]
        until(lambda id=id: state(id)["State"]["Name"] == "stopped", f"{id} is stopped", timeout_s=60)
        assert state(id)["StateReason"]["Code"] == code


def test_metadata_follows_its_options_and_a_guest_may_end_itself(cloud: Cloud, key: Path, launch: Launch) -> None:
    """What is changed of a running instance is true inside at once; powering off may be the end, when that was the wish."""
    (instance,) = launch(
        InstanceInitiatedShutdownBehavior="terminate",
        IamInstanceProfile={"Name": "web"},
        UserData="#!/bin/sh\necho it fails\nexit 3\n",
        PrivateDnsNameOptions={"HostnameType": "resource-name", "EnableResourceNameDnsARecord": True},
    )
    id, address, ec2 = instance["InstanceId"], instance["PublicIpAddress"], cloud.client()
    reachable(key, address)

    def inside(path: str) -> str | None:
        """What the metadata service answers; None when it refuses."""
        done = ssh(key, address, f"wget -q -O - http://169.254.169.254/latest/{path}")
        return done.stdout if done.returncode == 0 else None

    assert ssh(key, address, "hostname").stdout.strip() == id, "it is called by its id"
    assert instance["PrivateIpAddress"] in ssh(key, address, f"nslookup {instance['PrivateDnsName']}").stdout
    assert instance["PrivateDnsName"].startswith(f"{id}.")
    assert json.loads(inside("meta-data/iam/info") or "{}")["InstanceProfileArn"] == instance["IamInstanceProfile"]["Arn"]
    assert inside("meta-data/iam/security-credentials/") is None, "no identity service, no credentials"
    ec2.modify_instance_metadata_options(InstanceId=id, HttpTokens="required")
    until(lambda: inside("meta-data/instance-id") is None, "no answer without a token", timeout_s=30)
    ec2.modify_instance_metadata_options(InstanceId=id, HttpTokens="optional")
    until(lambda: inside("meta-data/instance-id") == id, "an answer without a token", timeout_s=30)
    ec2.modify_instance_metadata_options(InstanceId=id, HttpEndpoint="disabled")
    until(lambda: inside("meta-data/instance-id") is None, "no answer at all", timeout_s=30)

    def console() -> str:
        said: str = ec2.get_console_output(InstanceId=id, Latest=True)["Output"]
        return said

    until(lambda: "user data ended" in console(), "the guest says what came of its user data", timeout_s=60)
    assert "it fails" in console()
    assert "alto tiny: user data ended with 3 after" in console()

    ssh(key, address, "poweroff")

    def state() -> dict[str, Any]:
        found: dict[str, Any] = ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]
        return found

    until(lambda: state()["State"]["Name"] == "terminated", f"{id} is terminated", timeout_s=60)
    assert state()["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert id not in machines_of(cloud.state)


def test_a_guest_that_falls_silent_is_impaired_until_it_answers_again(cloud: Cloud, key: Path, launch: Launch) -> None:
    (instance,) = launch()
    id, ec2 = instance["InstanceId"], cloud.client()
    reachable(key, instance["PublicIpAddress"])

    def check() -> dict[str, Any]:
        found: dict[str, Any] = ec2.describe_instance_status(InstanceIds=[id])["InstanceStatuses"][0]
        return found

    until(lambda: check()["InstanceStatus"]["Status"] == "ok", "the guest is well", timeout_s=60)
    # Its network goes away, and comes back once somebody could see that. The address is kept.
    script = "(sleep 1; ip link set eth0 down; sleep 30; ip link set eth0 up) >/dev/null 2>&1 &"
    assert ssh(key, instance["PublicIpAddress"], script).returncode == 0
    until(lambda: check()["InstanceStatus"]["Status"] == "impaired", "it is impaired", timeout_s=60)
    (detail,) = check()["InstanceStatus"]["Details"]
    assert (detail["Name"], detail["Status"]) == ("reachability", "failed")
    assert detail["ImpairedSince"]
    assert check()["SystemStatus"]["Status"] == "ok", "the machine runs all the while"
    until(lambda: check()["InstanceStatus"]["Status"] == "ok", "it is well again", timeout_s=200)


def test_kill_9_of_the_control_plane_leaves_guests_alone(cloud: Cloud, key: Path, launch: Launch) -> None:
    (instance,) = launch()
    id, address = instance["InstanceId"], instance["PublicIpAddress"]
    reachable(key, address)
    before = (machines_of(cloud.state)[id], ssh(key, address, "cat /proc/sys/kernel/random/boot_id").stdout)
    cloud.kill()
    assert ssh(key, address, "cat /proc/sys/kernel/random/boot_id").stdout == before[1], "it serves while nobody watches"
    cloud.up()
    after = (machines_of(cloud.state)[id], ssh(key, address, "cat /proc/sys/kernel/random/boot_id").stdout)
    assert after == before
    ec2 = cloud.client()
    assert ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]["State"]["Name"] == "running"
    # Adopted for good: it can be told what to do.
    ec2.terminate_instances(InstanceIds=[id])
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[id], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    assert id not in machines_of(cloud.state)


def test_twenty_launched_by_one_call_all_answer_and_leave_nothing(cloud: Cloud, key: Path, launch: Launch) -> None:
    ec2 = cloud.client()
    instances = launch(20)
    waiting = {one["PublicIpAddress"] for one in instances}
    assert len(waiting) == 20
    deadline = time.monotonic() + 400
    while waiting and time.monotonic() < deadline:
        waiting = {address for address in waiting if fetch(f"http://{address}/health") is None}
    assert not waiting, f"{len(waiting)} of 20 never answered"
    ids = [one["InstanceId"] for one in instances]
    ec2.terminate_instances(InstanceIds=ids)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    assert not set(ids) & machines_of(cloud.state).keys()
    assert not set(ids) & {path.name for path in (cloud.state / "host" / "machines").iterdir()}
    gone = {one["PrivateIpAddress"] for one in instances}
    held = {one["PrivateIpAddress"] for one in ec2.describe_network_interfaces()["NetworkInterfaces"]}
    assert not gone & held

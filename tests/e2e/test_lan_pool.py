"""A cloud whose public addresses are the LAN's. Goal: another machine of the LAN reaches instances and services at them, pools
that cannot work are refused before anything is made, and nothing of it stays. Method: the machine and another one, which is a
network namespace, on one wire; HTTP from there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.cloud import PROGRAM, ROOT, Cloud, standing, until
from tests.e2e.test_instances import BOOT_S, IMAGE

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

HERE, OTHER, POOL = "192.168.7.2", "192.168.7.20", "192.168.7.128/25"
SEEN = """#!/bin/sh
hostname > /www/who.txt
"""


class Lan(NamedTuple):
    other: str

    def fetch(self, url: str) -> str:
        """From the other machine; "" when nobody answers."""
        argv = ["ip", "netns", "exec", self.other, "curl", "-s", "-m", "5", url]
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stdout.strip()


@pytest.fixture(scope="module")
def lan(real_machine: None) -> Iterator[Lan]:
    other = f"alto-lan-{os.getpid()}"
    try:
        for line in (
            f"netns add {other}",
            f"link add lan0 type veth peer name lan0 netns {other}",
            f"addr add {HERE}/24 dev lan0",
            "link set lan0 up",
            f"-n {other} addr add {OTHER}/24 dev lan0",
            f"-n {other} link set lan0 up",
        ):
            subprocess.run(["ip", *line.split()], check=True)
        yield Lan(other)
    finally:
        subprocess.run(["ip", "netns", "delete", other], check=True)
        subprocess.run(["ip", "link", "delete", "lan0"], check=False, capture_output=True)


@pytest.fixture(scope="module")
def cloud(lan: Lan, image_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    before = machine()
    with standing(tmp_path_factory.mktemp("lan"), beside=("link lan0@",), port=8776, pool=POOL, cache=image_cache) as cloud:
        yield cloud
    assert machine() == before


def machine() -> list[str]:
    looks = ("-4 addr", "-4 route", "neigh show proxy")
    found = [subprocess.run(["ip", *look.split()], capture_output=True, text=True, check=True).stdout for look in looks]
    return [*found, Path("/proc/sys/net/ipv4/conf/lan0/forwarding").read_text()]


def test_instances_and_services_are_reached_from_the_lan(cloud: Cloud, lan: Lan) -> None:
    ec2 = cloud.client()
    group = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=80, ToPort=80, CidrIp=f"{OTHER}/32")
    (made,) = ec2.run_instances(ImageId=IMAGE, InstanceType="m1.tiny", MinCount=1, MaxCount=1, UserData=SEEN)["Instances"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[made["InstanceId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    (one,) = ec2.describe_instances(InstanceIds=[made["InstanceId"]])["Reservations"][0]["Instances"]
    address, name = one["PublicIpAddress"], one["PrivateDnsName"].split(".")[0]
    assert address.startswith("192.168.7.1")
    until(lambda: lan.fetch(f"http://{address}/who.txt") == name, "its page, on the LAN", timeout_s=BOOT_S, every_s=0.5)
    traced = cloud.alto("net", "trace", OTHER, f"{address}:80", "-o", "json")
    told = json.loads(traced.stdout)
    assert told["arrives"], traced.stdout
    assert f"seen as {OTHER}" in traced.stdout
    # This machine itself is not whom the rule names.
    done = subprocess.run(["curl", "-s", "-m", "2", f"http://{address}/who.txt"], capture_output=True, check=False)
    assert done.returncode == 28

    made_service = cloud.alto("service", "create", "web", "--desired", "1", "--wait", "--timeout", "240", timeout_s=260)
    assert made_service.returncode == 0, made_service.stderr
    service = json.loads(cloud.alto("service", "show", "web", "-o", "json").stdout)["url"]
    assert service.startswith("http://192.168.7.1")
    assert lan.fetch(service)
    # Whoever comes after a death of the server finds all of it.
    cloud.kill()
    assert lan.fetch(f"http://{address}/who.txt") == name
    assert lan.fetch(service)
    cloud.up()
    assert cloud.alto("audit").returncode == 0
    assert lan.fetch(f"http://{address}/who.txt") == name
    assert lan.fetch(service)


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["--pool", "192.168.7.0/25"], 1, f"own address {HERE} (lan0)"),
        (["--pool", "192.168.7.130/25"], 2, "192.168.7.128/25 is"),
        (["--pool", "224.0.0.0/24"], 2, "no instance can be reached"),
        (["--pool", "172.31.0.0/20"], 2, "every default VPC"),
    ],
)
def test_a_pool_that_cannot_work_is_refused_before_anything_is_made(
    lan: Lan, tmp_path: Path, arguments: list[str], code: int, why: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *PROGRAM, "--state", str(tmp_path / "state"), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, why in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "state").exists()


def test_a_cloud_keeps_its_pool(cloud: Cloud) -> None:
    other = [sys.executable, "-m", *PROGRAM, "--state", str(cloud.state), "--pool", "192.168.7.64/26"]
    done = subprocess.run(other, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"are of {POOL}, for as long as it lives" in done.stderr

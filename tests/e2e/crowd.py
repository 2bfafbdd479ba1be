"""Many instances of both kinds in several VPCs with equal ranges at once, and who of them reaches whom.

    sudo python -m tests.e2e.crowd [--containers 50] [--machines 10] [--vpcs 5]

Every instance asks every other one of its VPC, and addresses that only other VPCs have, for its page; the answer is the
instance's id, so that the right neighbour is told from one with the same address elsewhere. Members of "web" let members of
"web" in, members of "closed" nobody; from outside, only ssh comes in. What comes of it is compared with just that.
"""

import argparse
import ctypes
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.cloud import Cloud, ssh, until

MACHINE, CONTAINER = "ami-0a170000000000001", "ami-0a170000000000002"
CIDR, SUBNET, LONELY = "172.31.0.0/16", "172.31.0.0/20", "172.31.8.{}"
USER_DATA = """#!/bin/sh
wget -q -O /www/who.txt http://169.254.169.254/latest/meta-data/instance-id
"""
BOOT_S = 600  # a dozen emulated guests on two busy processors
ASKING = 6  # people with ssh, side by side
OPEN, CLOSED = "web", "closed"
CLONE_NEWNET = 0x40000000


class Member(NamedTuple):
    id: str
    kind: str
    vpc: int
    group: str
    private_ip: str
    public_ip: str


class Vpc(NamedTuple):
    number: int
    subnet: str
    groups: dict[str, str]  # name -> id


def make_vpc(ec2: Any, number: int) -> Vpc:
    """With the ranges of all others, a way to the internet, and two groups."""
    vpc = ec2.create_vpc(CidrBlock=CIDR)["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=SUBNET)["Subnet"]["SubnetId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    table = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"][0]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    groups = {}
    for name in (OPEN, CLOSED):
        id = groups[name] = ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
        ec2.authorize_security_group_ingress(GroupId=id, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")
    web = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{"GroupId": groups[OPEN]}]}
    ec2.authorize_security_group_ingress(GroupId=groups[OPEN], IpPermissions=[web])
    return Vpc(number, subnet, groups)


def launch(ec2: Any, vpc: Vpc, image: str, group: str, count: int, private_ip: str | None = None) -> list[str]:
    nic: dict[str, Any] = {"DeviceIndex": 0, "SubnetId": vpc.subnet, "Groups": [vpc.groups[group]]}
    nic |= {"AssociatePublicIpAddress": True} | ({"PrivateIpAddress": private_ip} if private_ip else {})
    made = ec2.run_instances(
        ImageId=image,
        InstanceType="m1.tiny",
        KeyName="crowd",
        UserData=USER_DATA,
        NetworkInterfaces=[nic],
        MinCount=count,
        MaxCount=count,
    )
    return [one["InstanceId"] for one in made["Instances"]]


def gather(ec2: Any, *, containers: int, machines: int, vpcs: int) -> list[Member]:
    """All of them, running, in equal parts; in each VPC the first container has an address that no other VPC has."""
    where: dict[str, tuple[str, int, str]] = {}
    for number in range(vpcs):
        vpc = make_vpc(ec2, number)
        lonely = launch(ec2, vpc, CONTAINER, OPEN, 1, LONELY.format(100 + number))
        where |= dict.fromkeys(lonely, ("container", number, OPEN))
        for kind, image, total, begun in (("container", CONTAINER, containers, 1), ("qemu", MACHINE, machines, 0)):
            share = total // vpcs + (number < total % vpcs) - begun
            for group, count in ((OPEN, share - share // 2), (CLOSED, share // 2)):
                if count:
                    where |= dict.fromkeys(launch(ec2, vpc, image, group, count), (kind, number, group))
    waiter = ec2.get_waiter("instance_running")
    waiter.wait(InstanceIds=sorted(where), WaiterConfig={"Delay": 1, "MaxAttempts": BOOT_S})
    found = ec2.describe_instances(InstanceIds=sorted(where))["Reservations"]
    rows = [one for reservation in found for one in reservation["Instances"]]
    return [
        Member(one["InstanceId"], *where[one["InstanceId"]], one["PrivateIpAddress"], one["PublicIpAddress"]) for one in rows
    ]


def reachable(key: Path, members: Iterable[Member]) -> None:
    """Each lets us in and has written its page."""

    def ready(one: Member) -> None:
        until(
            lambda: ssh(key, one.public_ip, "cat /www/who.txt").stdout.strip() == one.id,
            f"{one.id} ({one.kind}) in VPC {one.vpc} has its page",
            timeout_s=BOOT_S,
            every_s=1.0,
        )

    with ThreadPoolExecutor(ASKING) as people:
        list(people.map(ready, members))


def expected(one: Member, address: str, members: Iterable[Member]) -> str | None:
    """Whose page `one` gets at `address`."""
    other = next((each for each in members if (each.vpc, each.private_ip) == (one.vpc, address)), None)
    return other.id if other is not None and one.group == other.group == OPEN else None


def seen(key: Path, one: Member, addresses: Iterable[str]) -> dict[str, str | None]:
    """What `one` gets at each address; all asked at once, since what is dropped is silent."""
    asks = "".join(f'(echo "{each} $(timeout 8 wget -q -O - http://{each}/who.txt)") & ' for each in addresses)
    done = ssh(key, one.public_ip, f"{asks} wait", timeout_s=120)
    assert done.returncode == 0, (one, done.stderr)
    return {words[0]: (words[1] if len(words) > 1 else None) for words in map(str.split, done.stdout.splitlines())}


def disagreements(key: Path, members: list[Member]) -> tuple[list[str], Counter[str]]:
    """Where what is differs from what should be, and how many questions had which answer."""
    lonely = [LONELY.format(100 + number) for number in {one.vpc for one in members}]
    wrong: list[str] = []
    counted: Counter[str] = Counter()

    def ask(one: Member) -> None:
        own = [each.private_ip for each in members if each.vpc == one.vpc and each.id != one.id]
        addresses = sorted({*own, *lonely} - {one.private_ip})
        answers = seen(key, one, addresses)
        for address in addresses:
            should = expected(one, address, members)
            counted["answered" if should else "refused" if address in own else "of another VPC"] += 1
            if answers.get(address) != should:
                wrong.append(f"{one} got {answers.get(address)} at {address}, and should {should}")

    with ThreadPoolExecutor(ASKING) as people:
        list(people.map(ask, members))
        for one, is_open in zip(members, people.map(lambda one: opens(one.public_ip, 80), members), strict=True):
            counted["refused from outside"] += 1
            if is_open:
                wrong.append(f"{one} lets the outside in at port 80")
    return wrong, counted


def opens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def play(cloud: Cloud, folder: Path, *, containers: int, machines: int, vpcs: int) -> tuple[list[str], Counter[str]]:
    """The whole of it, with what took how long on stdout; everything is terminated again."""
    ec2, key = cloud.client(), folder / "crowd.pem"
    key.write_text(ec2.create_key_pair(KeyName="crowd", KeyType="ed25519")["KeyMaterial"])
    key.chmod(0o600)
    began = time.monotonic()
    members = gather(ec2, containers=containers, machines=machines, vpcs=vpcs)
    print(f"{len(members)} instances run after {time.monotonic() - began:.1f} s")
    reachable(key, members)
    print(f"all are reached after {time.monotonic() - began:.1f} s")
    began = time.monotonic()
    wrong, counted = disagreements(key, members)
    print(f"who reaches whom took {time.monotonic() - began:.1f} s: {dict(counted)}, {len(wrong)} wrong")
    began = time.monotonic()
    ids = [one.id for one in members]
    ec2.terminate_instances(InstanceIds=ids)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    print(f"all are gone after {time.monotonic() - began:.1f} s")
    return wrong, counted


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.crowd", description=__doc__)
    parser.add_argument("--containers", type=int, default=50)
    parser.add_argument("--machines", type=int, default=10)
    parser.add_argument("--vpcs", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path("/var/tmp/alto-test-images"))
    options = parser.parse_args()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        parser.error("needs root and network namespaces")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory(prefix="alto-crowd.") as name:
        folder = Path(name)
        folder.chmod(0o711)  # QEMU drops root and must still reach its files
        cloud = Cloud(folder / "state", port=8773, pool="127.64.0.0/16", hosts="qemu,container", cache=options.cache)
        try:
            cloud.up()
            wrong, _ = play(cloud, folder, containers=options.containers, machines=options.machines, vpcs=options.vpcs)
        finally:
            cloud.down()
    for sentence in wrong:
        print(sentence)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

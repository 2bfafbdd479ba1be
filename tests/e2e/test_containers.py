"""Containers and virtual machines in one cloud. Goal: what is true of instances is true of both kinds, fifty containers run
side by side, and nothing of them stays. Method: boto3, ssh and `alto` against a cloud with a host of each kind
on this machine."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.cloud import Cloud, ssh, standing, until
from tests.terminal import Terminal

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

CONTAINER, MACHINE = "ami-0a170000000000002", "ami-0a170000000000001"
BOOT_S = 180
MANY = 50


@pytest.fixture(scope="module")
def both(real_machine: None, image_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    if shutil.which("lxc-start") is None:
        pytest.skip("containers need the package lxc: ./alto-test installs it")
    base = tmp_path_factory.mktemp("both")
    with standing(base, port=8775, pool="127.66.0.0/16", hosts="qemu,container", cache=image_cache) as cloud:
        cloud_id = cloud.facts["cloud_id"]
        yield cloud
    groups = [path for path in Path("/sys/fs/cgroup").glob("**/alto-c-*") if cloud_id in path.name]
    assert groups == []


@pytest.fixture(scope="module")
def key(both: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "me.pem"
    ec2 = both.client()
    path.write_text(ec2.create_key_pair(KeyName="me", KeyType="ed25519")["KeyMaterial"])
    path.chmod(0o600)
    group = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")
    return path


def launch(cloud: Cloud, image: str, count: int = 1, **more: Any) -> list[dict[str, Any]]:
    """Running when it returns."""
    ec2 = cloud.client()
    wanted = {"ImageId": image, "InstanceType": "m1.tiny", "KeyName": "me", "MinCount": count, "MaxCount": count, **more}
    ids = [one["InstanceId"] for one in ec2.run_instances(**wanted)["Instances"]]
    ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    found = ec2.describe_instances(InstanceIds=ids)["Reservations"]
    return [one for reservation in found for one in reservation["Instances"]]


def terminate(cloud: Cloud, instances: list[dict[str, Any]]) -> None:
    ec2, ids = cloud.client(), [one["InstanceId"] for one in instances]
    ec2.terminate_instances(InstanceIds=ids)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def says(key: Path, instance: dict[str, Any], command: str) -> str:
    """What `command` prints in the guest, once it listens."""
    address = instance["PublicIpAddress"]

    def answer() -> str:
        done = ssh(key, address, command)
        return done.stdout if done.returncode == 0 else ""

    said: str = until(answer, f"{command!r} at {address}", timeout_s=BOOT_S, every_s=0.5)
    return said


def keepers(cloud: Cloud) -> list[int]:
    """The processes that are containers' lives."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"alto-keeper" in words and any(word.startswith(str(cloud.state).encode()) for word in words):
                found.append(int(entry.name))
    return sorted(found)


def test_both_kinds_are_one_network(both: Cloud, key: Path) -> None:
    """Each kind runs on its own host, says so, is reached at its public address, and reaches the other one."""
    (container,) = launch(both, CONTAINER)
    (machine,) = launch(both, MACHINE)
    assert says(key, container, "cat /proc/1/uid_map").split()[1] != "0"  # its root is nobody on the host
    assert says(key, container, "wget -qO- http://169.254.169.254/latest/meta-data/instance-id") == container["InstanceId"]
    for one, other in ((container, machine), (machine, container)):
        assert "1 packets received" in says(key, one, f"ping -c 1 -W 20 {other['PrivateIpAddress']}")
    listed = both.alto("instance", "list").stdout.splitlines()
    kinds = {row.split("\t")[0]: row.split("\t")[3] for row in listed[1:]}
    assert (kinds[container["InstanceId"]], kinds[machine["InstanceId"]]) == ("container", "qemu")
    terminate(both, [container, machine])
    assert keepers(both) == []


def with_ipv6(cloud: Cloud) -> str:
    """A subnet of the default VPC that has IPv6."""
    ec2 = cloud.client()
    subnet = ec2.describe_subnets()["Subnets"][0]
    if subnet["Ipv6CidrBlockAssociationSet"]:
        return str(subnet["SubnetId"])
    ec2.associate_vpc_cidr_block(VpcId=subnet["VpcId"], AmazonProvidedIpv6CidrBlock=True)
    vpc = ec2.describe_vpcs(VpcIds=[subnet["VpcId"]])["Vpcs"][0]
    its = ip_network(vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"])
    block = next(iter(its.subnets(new_prefix=64)))
    ec2.associate_subnet_cidr_block(SubnetId=subnet["SubnetId"], Ipv6CidrBlock=str(block))
    return str(subnet["SubnetId"])


def test_both_kinds_have_ipv6(both: Cloud, key: Path) -> None:
    """What the API says is what the guest has and what its metadata says; what a group allows passes between guests, nothing
    else does, and nobody is believed to be another."""
    ec2, subnet = both.client(), with_ipv6(both)
    one, other = launch(both, CONTAINER, 2, SubnetId=subnet, Ipv6AddressCount=1)
    (machine,) = launch(both, MACHINE, SubnetId=subnet, Ipv6AddressCount=1)
    for each in (one, other, machine):
        address = each["Ipv6Address"]
        mac = each["NetworkInterfaces"][0]["MacAddress"]
        listed = f"http://169.254.169.254/latest/meta-data/network/interfaces/macs/{mac}/ipv6s"
        assert says(key, each, f"wget -qO- {listed}") == address
        until(
            lambda each=each, address=address: f" {address}/128 " in says(key, each, "ip -6 addr show dev eth0"),  # type: ignore[misc]
            f"the guest has {address}",
            timeout_s=BOOT_S,
        )
    web = "wget -qO- http://[{}]/health || echo silence"
    for sender, receiver in ((one, other), (one, machine), (machine, other)):
        assert says(key, sender, "timeout 20 " + web.format(receiver["Ipv6Address"])) == "ok\n"

    def heard() -> int:
        """Echo requests that came to `other`."""
        return int(says(key, other, "cat /proc/net/snmp6 | grep '^Icmp6InEchos '").split()[1])

    before, forged = heard(), str(ip_address(one["Ipv6Address"]) + 1)
    says(key, one, f"ip -6 addr add {forged}/128 dev eth0; ping6 -c 3 -W 1 -I {forged} {other['Ipv6Address']}; echo done")
    assert heard() == before
    assert "1 packets received" in says(key, one, f"ping6 -c 1 -W 20 -I {one['Ipv6Address']} {other['Ipv6Address']}")
    assert heard() == before + 1
    # A group that lets nothing in but ssh: it is not reached, and reaches others as before.
    closed = ec2.create_security_group(GroupName="closed", Description="ssh alone", VpcId=one["VpcId"])["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=closed, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")
    ec2.modify_instance_attribute(InstanceId=other["InstanceId"], Groups=[closed])
    until(
        lambda: says(key, one, "timeout 2 " + web.format(other["Ipv6Address"])) == "silence\n",
        "the closed group stops what came by IPv6",
        timeout_s=30,
    )
    terminate(both, [one, other, machine])
    ec2.delete_security_group(GroupId=closed)


def curl(address: str, *, wait_s: int = 5) -> str:
    """What /health answers this machine."""
    words = ["curl", "-s", "-6", "-m", str(wait_s), f"http://[{address}]/health"]
    return subprocess.run(words, capture_output=True, text=True, timeout=wait_s + 10, check=False).stdout.strip()


def test_this_machine_reaches_both_kinds_by_ipv6(both: Cloud, key: Path) -> None:
    """With a route to the internet gateway and a rule, `ssh root@fd..` and `curl -6` arrive; without either, nothing does."""
    ec2, subnet = both.client(), with_ipv6(both)
    vpc = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["VpcId"]
    (gateway,) = ec2.describe_internet_gateways(Filters=[{"Name": "attachment.vpc-id", "Values": [vpc]}])["InternetGateways"]
    (table,) = ec2.describe_route_tables(Filters=[{"Name": "association.main", "Values": ["true"]}])["RouteTables"]
    route = {"RouteTableId": table["RouteTableId"], "DestinationIpv6CidrBlock": "::/0"}
    everybody = [
        {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]} for port in (22, 80)
    ]
    (container,) = launch(both, CONTAINER, SubnetId=subnet, Ipv6AddressCount=1)
    (machine,) = launch(both, MACHINE, SubnetId=subnet, Ipv6AddressCount=1)
    group = container["SecurityGroups"][0]["GroupId"]
    addresses = [one["Ipv6Address"] for one in (container, machine)]
    for one, address in zip((container, machine), addresses, strict=True):
        until(
            lambda one=one, address=address: f" {address}/128 " in says(key, one, "ip -6 addr show dev eth0"),  # type: ignore[misc]
            f"the guest has {address}",
            timeout_s=BOOT_S,
        )
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=everybody)
    assert [curl(address, wait_s=2) for address in addresses] == ["", ""]
    ec2.create_route(**route, GatewayId=gateway["InternetGatewayId"])
    for address in addresses:
        until(lambda address=address: curl(address) == "ok", f"{address} is reached", timeout_s=60)  # type: ignore[misc]
        done = ssh(key, address, "echo $SSH_CONNECTION")
        assert done.stdout.split()[0] == "fd00:ec2::252", done
        traced = both.alto("net", "trace", "internet", f"[{address}]:22")
        assert traced.returncode == 0, traced
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=everybody[1:])
    until(lambda: curl(addresses[0], wait_s=2) == "", "the group closes", timeout_s=60)
    assert ssh(key, addresses[0], "echo open").stdout == "open\n"
    ec2.delete_route(**route)
    until(lambda: ssh(key, addresses[0], "echo open").stdout == "", "the route is gone", timeout_s=60)
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=everybody[:1])
    terminate(both, [container, machine])
    routes = subprocess.run(["ip", "-6", "route"], capture_output=True, text=True, check=True).stdout
    assert not [address for address in addresses if address in routes]


def test_container_outlives_its_agent(both: Cloud, key: Path) -> None:
    """kill -9 of everything of ours: the container runs on, its successor knows it, and reboots, stops and starts it."""
    (container,) = launch(both, CONTAINER)
    ec2, id = both.client(), [container["InstanceId"]]
    says(key, container, "echo kept >/root/kept; sync; echo done")
    life = keepers(both)
    both.kill()
    assert says(key, container, "cat /root/kept") == "kept\n"
    both.up()
    ec2.get_waiter("instance_running").wait(InstanceIds=id, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    assert keepers(both) == life
    ec2.reboot_instances(InstanceIds=id)
    until(lambda: says(key, container, "cat /var/lib/alto/boots") == "2\n", "a second boot", timeout_s=60, every_s=0.5)
    assert says(key, container, "cat /root/kept") == "kept\n"
    ec2.stop_instances(InstanceIds=id)
    ec2.get_waiter("instance_stopped").wait(InstanceIds=id, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    assert keepers(both) == []
    ec2.start_instances(InstanceIds=id)
    ec2.get_waiter("instance_running").wait(InstanceIds=id, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    (after,) = ec2.describe_instances(InstanceIds=id)["Reservations"][0]["Instances"]
    assert says(key, after, "cat /root/kept") == "kept\n"
    terminate(both, [container])


@pytest.mark.parametrize("image", [CONTAINER, MACHINE], ids=["container", "qemu"])
def test_somebody_logs_in_at_the_serial_console(both: Cloud, key: Path, image: str) -> None:
    """With the password that user data has set, as at EC2's; before and after everything of ours died, and nothing that was
    said is lost to those who read it later."""
    (one,) = launch(both, image, UserData="#!/bin/sh\nprintf 'open-sesame\\nopen-sesame\\n' | passwd root\n")
    id = one["InstanceId"]
    both.client().enable_serial_console_access()
    # Its prompt comes after its user data, which has set the password.
    until(lambda: "login: " in both.alto("instance", "console", id).stdout, "a prompt", timeout_s=BOOT_S, every_s=1)
    command = [sys.executable, "-m", "alto.ui.cli.main", "--state", str(both.state), "instance", "console", "-i", id]
    with Terminal(command) as first:
        first.reads("Escape character")
        first.types("\r")
        first.reads("login: ")
        first.types("root\r")
        first.reads("Password: ")
        time.sleep(1)  # as a person does: busybox asks first, and stops its echo then
        first.types("open-sesame\r")
        first.reads("# ")
        first.types("echo $((21*2)); cat /proc/uptime | wc -l\r")
        first.reads("\n42\n1\n")
        both.kill()
        first.ends(7)
    both.up()
    with Terminal(command) as second:
        second.reads("Escape character")
        second.types("echo $((6*111))\r")
        second.reads("\n666\n")
        second.types("\x1d")
        second.ends(0)
    said = both.client().get_console_output(InstanceId=id, Latest=True)["Output"].replace("\r", "")
    assert "\n42\n" in said
    assert "\n666\n" in said
    assert "open-sesame" not in said
    terminate(both, [one])


def test_an_archive_becomes_a_container(both: Cloud, key: Path, image_cache: Path, tmp_path: Path) -> None:
    """Of the tiny system as `tar` packs it, with a file more that no other image has."""
    (disk, *_) = sorted(image_cache.glob("tiny-container-*/root.raw"), key=lambda path: path.stat().st_mtime, reverse=True)
    archive, more = tmp_path / "mine.tar.xz", tmp_path / "own"
    (more / "etc").mkdir(parents=True)
    (more / "etc" / "made-by").write_text("hand\n")
    script = 'mount -o loop,ro "$1" /mnt && tar --create --xz --file "$2" --directory /mnt . --directory "$3" ./etc/made-by'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", disk, archive, more]
    subprocess.run(command, check=True, timeout=120)
    ec2 = both.client()
    image = ec2.register_image(Name="mine", ImageLocation=f"file://{archive}")["ImageId"]
    (one,) = launch(both, image)
    assert says(key, one, "cat /etc/made-by; df -k / | tail -n 1 | awk '{print ($2 > 7000000)}'") == "hand\n1\n"
    volume = one["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    with pytest.raises(ClientError, match="is a container"):
        ec2.create_snapshot(VolumeId=volume)
    ec2.deregister_image(ImageId=image)
    terminate(both, [one])


def test_fifty_containers(both: Cloud, key: Path) -> None:
    """All of them are there and answer, and none of them when they are terminated."""
    many = launch(both, CONTAINER, MANY)
    assert len(keepers(both)) == MANY
    names = {says(key, one, "hostname").strip() for one in many}
    assert len(names) == MANY
    terminate(both, many)
    assert keepers(both) == []

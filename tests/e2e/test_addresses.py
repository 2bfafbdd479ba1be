"""Elastic addresses and further interfaces of running guests, on real machines and packets.

Goal: an address leads where the API says, and only there; an interface comes to a running guest and leaves it; and both are
whole whenever the server dies. Method: boto3, ssh and HTTP against a cloud whose server can be told to die before any step
(dying.py); each wait is for a condition.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.e2e.cloud import Cloud, ssh, until
from tests.e2e.dying import Order
from tests.e2e.test_instances import BOOT_S, IMAGE, fetch

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

PROGRAM = ("tests.e2e.dying", "alto.daemons.allinone")
USER_DATA = """#!/bin/sh
hostname > /www/who.txt
"""
# Of one act, with room for what the server does beside it.
STEPS_MAX = 100


class Guest(NamedTuple):
    id: str
    name: str  # its host name, which its page says
    interface: str
    private_ip: str
    subnet: str


class Lab(NamedTuple):
    cloud: Cloud
    key: Path
    one: Guest
    two: Guest


@pytest.fixture(scope="module")
def lab(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two guests that answer, with ports 22 and 80 open to all."""
    ec2 = cloud.client()
    key = tmp_path_factory.mktemp("key") / "me.pem"
    key.write_text(ec2.create_key_pair(KeyName="me", KeyType="ed25519")["KeyMaterial"])
    key.chmod(0o600)
    group = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"]
    for port in (22, 80):
        ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=port, ToPort=port, CidrIp="0.0.0.0/0")
    launch = {"ImageId": IMAGE, "InstanceType": "m1.tiny", "KeyName": "me", "UserData": USER_DATA}
    made = [one["InstanceId"] for one in ec2.run_instances(**launch, MinCount=2, MaxCount=2)["Instances"]]
    ec2.get_waiter("instance_running").wait(InstanceIds=made, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    guests = []
    for one in ec2.describe_instances(InstanceIds=made)["Reservations"][0]["Instances"]:
        address, name = one["PublicIpAddress"], one["PrivateDnsName"].split(".")[0]
        until(lambda at=address, who=name: said(at) == who, f"the page of {name}", timeout_s=BOOT_S, every_s=0.5)
        interface = one["NetworkInterfaces"][0]["NetworkInterfaceId"]
        guests.append(Guest(one["InstanceId"], name, interface, one["PrivateIpAddress"], one["SubnetId"]))
    yield Lab(cloud, key, guests[0], guests[1])
    ec2.terminate_instances(InstanceIds=made)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=made, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    sound(cloud)


def said(address: str, *, timeout_s: float = 2.0) -> str | None:
    page = fetch(f"http://{address}/who.txt", timeout_s=timeout_s)
    return page.strip() if page is not None else None


def is_sound(cloud: Cloud) -> bool:
    """Nothing is wrong in the records nor on the host, which answers."""
    return cloud.alto("audit").returncode == 0


def sound(cloud: Cloud) -> None:
    until(lambda: is_sound(cloud), f"the audit finds nothing: {cloud.alto('audit').stdout}", timeout_s=60)


def public_of(cloud: Cloud, guest: Guest) -> str | None:
    found = cloud.client().describe_instances(InstanceIds=[guest.id])["Reservations"][0]["Instances"][0]
    address: str | None = found.get("PublicIpAddress")
    return address


def leads_to(address: str, guest: Guest) -> None:
    until(lambda: said(address) == guest.name, f"{address} leads to {guest.name}", timeout_s=60)


def test_an_address_leads_to_one_guest_and_then_to_the_other(lab: Lab) -> None:
    ec2 = lab.cloud.client()
    automatic = public_of(lab.cloud, lab.one)
    assert automatic is not None
    made = ec2.allocate_address(Domain="vpc")
    elastic, allocation = made["PublicIp"], made["AllocationId"]
    assert fetch(f"http://{elastic}/who.txt") is None
    ec2.associate_address(AllocationId=allocation, InstanceId=lab.one.id)
    leads_to(elastic, lab.one)
    assert ssh(lab.key, elastic, "hostname").stdout.strip() == lab.one.name
    ask = "wget -q -O - http://169.254.169.254/2007-01-19/meta-data/public-ipv4"
    assert ssh(lab.key, elastic, ask).stdout.strip() == elastic
    assert fetch(f"http://{automatic}/who.txt") is None, "the automatic one gave way"

    ec2.associate_address(AllocationId=allocation, InstanceId=lab.two.id)
    leads_to(elastic, lab.two)
    assert ssh(lab.key, elastic, "hostname").stdout.strip() == lab.two.name
    # No packet goes to the old owner any more, and that has a way in of its own again.
    assert {said(elastic, timeout_s=5) for _ in range(20)} == {lab.two.name}
    back = public_of(lab.cloud, lab.one)
    assert back is not None
    leads_to(back, lab.one)
    ec2.disassociate_address(AssociationId=ec2.describe_addresses(AllocationIds=[allocation])["Addresses"][0]["AssociationId"])
    until(lambda: fetch(f"http://{elastic}/who.txt") is None, f"{elastic} leads nowhere", timeout_s=30)
    ec2.release_address(AllocationId=allocation)
    sound(lab.cloud)


def test_a_second_private_address_has_a_public_one_of_its_own(lab: Lab) -> None:
    ec2 = lab.cloud.client()
    own = public_of(lab.cloud, lab.one)
    assert own is not None
    asked = ec2.assign_private_ip_addresses(NetworkInterfaceId=lab.one.interface, SecondaryPrivateIpAddressCount=1)
    private = asked["AssignedPrivateIpAddresses"][0]["PrivateIpAddress"]
    made = ec2.allocate_address(Domain="vpc")
    to = {"AllocationId": made["AllocationId"], "NetworkInterfaceId": lab.one.interface, "PrivateIpAddress": private}
    ec2.associate_address(**to)
    leads_to(own, lab.one)
    assert ssh(lab.key, own, f"ip addr add {private}/32 dev eth0").returncode == 0
    leads_to(made["PublicIp"], lab.one)
    macs = "http://169.254.169.254/2007-01-19/meta-data/network/interfaces/macs"
    listed = ssh(lab.key, own, f"wget -q -O - {macs}/$(cat /sys/class/net/eth0/address)/public-ipv4s").stdout.split()
    assert listed == [own, made["PublicIp"]]
    ec2.unassign_private_ip_addresses(NetworkInterfaceId=lab.one.interface, PrivateIpAddresses=[private])
    until(lambda: fetch(f"http://{made['PublicIp']}/who.txt") is None, "it went with its private one", timeout_s=30)
    ec2.release_address(AllocationId=made["AllocationId"])
    assert ssh(lab.key, own, f"ip addr del {private}/32 dev eth0").returncode == 0
    leads_to(own, lab.one)


def status_of(cloud: Cloud, interface: str) -> str:
    found = cloud.client().describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"][0]
    status: str = found["Attachment"]["Status"] if "Attachment" in found else found["Status"]
    return status


def devices(lab: Lab, guest: Guest) -> set[str]:
    address = public_of(lab.cloud, guest)
    assert address is not None
    return set(ssh(lab.key, address, "ls /sys/class/net").stdout.split())


def attach(lab: Lab, interface: str) -> None:
    lab.cloud.client().attach_network_interface(NetworkInterfaceId=interface, InstanceId=lab.one.id, DeviceIndex=1)


def detach(lab: Lab, interface: str) -> None:
    ec2 = lab.cloud.client()
    found = ec2.describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"][0]
    ec2.detach_network_interface(AttachmentId=found["Attachment"]["AttachmentId"])


def test_an_interface_comes_to_a_running_guest_answers_and_leaves(lab: Lab) -> None:
    ec2 = lab.cloud.client()
    made = ec2.create_network_interface(SubnetId=lab.one.subnet)["NetworkInterface"]
    interface, private = made["NetworkInterfaceId"], made["PrivateIpAddress"]
    attach(lab, interface)
    until(lambda: status_of(lab.cloud, interface) == "attached", "the interface is attached", timeout_s=60)
    until(lambda: "eth1" in devices(lab, lab.one), "the guest sees it", timeout_s=60)
    own, other = public_of(lab.cloud, lab.one), public_of(lab.cloud, lab.two)
    assert own is not None
    assert other is not None
    assert ssh(lab.key, own, "cat /sys/class/net/eth1/address").stdout.strip() == made["MacAddress"]
    # As on EC2, what answers from a second interface has to be told to go out there.
    told = f"ip link set eth1 up && ip addr add {private}/32 dev eth1"
    told += f" && ip route add {lab.two.private_ip}/32 dev eth1 src {private}"
    assert ssh(lab.key, own, told).returncode == 0
    answer = ssh(lab.key, other, f"wget -q -O - http://{private}/who.txt")
    assert answer.stdout.strip() == lab.one.name, answer.stderr
    macs = "http://169.254.169.254/2007-01-19/meta-data/network/interfaces/macs"
    assert f"{made['MacAddress']}/" in ssh(lab.key, own, f"wget -q -O - {macs}/").stdout.split()
    detach(lab, interface)
    until(lambda: status_of(lab.cloud, interface) == "available", "it is free again", timeout_s=60)
    assert "eth1" not in devices(lab, lab.one)
    ec2.delete_network_interface(NetworkInterfaceId=interface)


Act = Callable[[], None]


def killed_at_each_step(lab: Lab, act: Act, settled: Callable[[], bool], undo: Act) -> list[str]:
    """`act` is done again and again, and the server is killed before its first step, then before its second, until one time
    it survives. After each death a new server comes, the client asks once more, and it must settle. The steps, in order."""
    order, steps = Order(lab.cloud.state), list[str]()
    for count in range(1, STEPS_MAX):
        order.give(count)
        # The connection breaks when the server dies: whether it happened is not known to who asked.
        with suppress(BotoCoreError):
            act()

        def over() -> bool:
            with suppress(BotoCoreError):  # it died while it was asked
                return not lab.cloud.alive or settled()
            return False

        until(over, "it settles, or the server is dead", timeout_s=60)
        order.take_back()

        def right() -> bool:
            if not lab.cloud.alive:  # also when it was about to die as the order was taken back
                lab.cloud.up()
                with suppress(ClientError):  # it had happened
                    act()
            return settled() and is_sound(lab.cloud)

        until(right, f"all is right after a death before step {count}: {order.about()}", timeout_s=90)
        about = order.about()
        undo()
        if about is None:
            return steps
        steps.append(about)
    raise AssertionError(f"more than {STEPS_MAX} steps: {steps}")


def test_kill_9_before_each_step_of_an_association(lab: Lab) -> None:
    ec2 = lab.cloud.client()
    made = ec2.allocate_address(Domain="vpc")
    elastic, allocation = made["PublicIp"], made["AllocationId"]

    def lead(guest: Guest) -> None:
        lab.cloud.client().associate_address(AllocationId=allocation, InstanceId=guest.id)

    def back() -> None:
        lead(lab.one)
        leads_to(elastic, lab.one)

    back()
    steps = killed_at_each_step(lab, lambda: lead(lab.two), lambda: said(elastic) == lab.two.name, back)
    print("\n".join(steps))
    assert any("transaction" in one for one in steps)
    assert any("nft" in one for one in steps)
    own = public_of(lab.cloud, lab.two)
    assert own is not None
    leads_to(own, lab.two)
    ec2 = lab.cloud.client()
    ec2.release_address(AllocationId=allocation)


def test_kill_9_before_each_step_of_an_attachment(lab: Lab) -> None:
    ec2 = lab.cloud.client()
    interface = ec2.create_network_interface(SubnetId=lab.one.subnet)["NetworkInterface"]["NetworkInterfaceId"]

    def attached() -> bool:
        return status_of(lab.cloud, interface) == "attached" and "eth1" in devices(lab, lab.one)

    def away() -> None:
        detach(lab, interface)
        until(lambda: status_of(lab.cloud, interface) == "available", "it is free again", timeout_s=90)
        assert "eth1" not in devices(lab, lab.one)

    steps = killed_at_each_step(lab, lambda: attach(lab, interface), attached, away)
    print("\n".join(steps))
    assert any("open_tap" in one for one in steps)
    lab.cloud.client().delete_network_interface(NetworkInterfaceId=interface)


def test_kill_9_before_each_step_of_a_change_of_groups(lab: Lab) -> None:
    ec2 = lab.cloud.client()
    (vpc,) = {one["VpcId"] for one in ec2.describe_subnets(SubnetIds=[lab.two.subnet])["Subnets"]}
    before = ec2.describe_network_interfaces(NetworkInterfaceIds=[lab.two.interface])["NetworkInterfaces"][0]["Groups"]
    made = [ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc) for name in ("closed", "web")]
    closed, web = (one["GroupId"] for one in made)
    ec2.authorize_security_group_ingress(GroupId=web, IpProtocol="tcp", FromPort=80, ToPort=80, CidrIp="0.0.0.0/0")
    address = public_of(lab.cloud, lab.two)
    assert address is not None

    def have(*groups: str) -> None:
        lab.cloud.client().modify_network_interface_attribute(NetworkInterfaceId=lab.two.interface, Groups=list(groups))

    def back() -> None:
        have(closed)
        until(lambda: said(address) is None, "nobody gets in", timeout_s=60)

    back()
    steps = killed_at_each_step(lab, lambda: have(web), lambda: said(address) == lab.two.name, back)
    print("\n".join(steps))
    assert any("transaction" in one for one in steps)
    assert any("nft" in one for one in steps)
    have(*(one["GroupId"] for one in before))
    for group in (closed, web):
        lab.cloud.client().delete_security_group(GroupId=group)

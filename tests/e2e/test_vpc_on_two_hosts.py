"""One VPC on two machines. Goal: guests of one VPC speak with each other wherever they are, as their groups allow, by name and
with big answers; the machine of the server reaches every public address; a VPC with equal ranges is another world. Method: a
server that is a host itself, and an agent that joined, in two network namespaces; real guests, ssh from the server's side; a
balancer with members on both."""

import json
import subprocess
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from alto.kit.world import inside_netns
from tests.e2e.cloud import Cloud, machines_of, ssh, until
from tests.e2e.test_hosts import ADDRESS, SERVER, Side, sides

__all__ = ["sides"]

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

IMAGE = "ami-0a170000000000001"
BOOT_S = 240


def vpc_with_subnet(ec2: Any) -> tuple[str, str]:
    """With the default VPC's ranges, and a way to the internet. Returns the subnet and the group."""
    vpc_id = ec2.create_vpc(CidrBlock="172.31.0.0/16")["Vpc"]["VpcId"]
    subnet_id = ec2.create_subnet(VpcId=vpc_id, CidrBlock="172.31.0.0/20")["Subnet"]["SubnetId"]
    gateway_id = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway_id, VpcId=vpc_id)
    filters = [{"Name": "vpc-id", "Values": [vpc_id]}]
    table_id = ec2.describe_route_tables(Filters=filters)["RouteTables"][0]["RouteTableId"]
    ec2.create_route(RouteTableId=table_id, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway_id)
    return subnet_id, ec2.describe_security_groups(Filters=filters)["SecurityGroups"][0]["GroupId"]


def test_guests_on_two_machines_are_in_one_vpc(sides: tuple[Side, Side], tmp_path: Path) -> None:
    server, agent = sides
    server.alto("up", "--no-nat", "--listen-hosts", f"{ADDRESS}:8774")
    token = server.alto("host", "token", "create", "--name", "attic", "-q").strip()
    agent.alto("agent", "--join", f"https://{ADDRESS}:8774", "--token", token, "--no-nat")
    hosts = {one["name"] == "attic": one["id"] for one in json.loads(server.alto("host", "list", "-o", "json"))}
    with inside_netns(SERVER):
        ec2 = Cloud(server.state, port=8773, pool="").client()
        key = tmp_path / "me.pem"
        key.write_text(ec2.create_key_pair(KeyName="me", KeyType="ed25519")["KeyMaterial"])
        key.chmod(0o600)
        group = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]
        alone = ec2.create_security_group(GroupName="alone", Description="nobody but ssh")["GroupId"]
        subnet_id, other_group = vpc_with_subnet(ec2)
        for id in (group["GroupId"], alone, other_group):
            ec2.authorize_security_group_ingress(GroupId=id, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")

        def launch(there: bool, **more: Any) -> str:
            wanted = {"ImageId": IMAGE, "InstanceType": "m1.tiny", "KeyName": "me", "MinCount": 1, "MaxCount": 1, **more}
            made = ec2.run_instances(Placement={"HostId": hosts[there]}, **wanted)["Instances"][0]
            return str(made["InstanceId"])

        default_subnet = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"][0][
            "SubnetId"
        ]
        ids = [
            launch(False, SubnetId=default_subnet),
            launch(True, SubnetId=default_subnet),
            launch(True, SubnetId=default_subnet, SecurityGroupIds=[alone]),
            launch(
                True,
                NetworkInterfaces=[
                    {
                        "DeviceIndex": 0,
                        "SubnetId": subnet_id,
                        "AssociatePublicIpAddress": True,
                        "Groups": [other_group],
                    }
                ],
            ),
        ]
        ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 240})
        found = {one["Instances"][0]["InstanceId"]: one["Instances"][0] for one in ec2.describe_instances()["Reservations"]}
        here, there, closed, stranger = (found[id] for id in ids)
        for one in (here, there, closed, stranger):
            address = one["PublicIpAddress"]
            until(lambda: ssh(key, address, "true").returncode == 0, f"ssh to {address}", timeout_s=BOOT_S, every_s=0.5)  # noqa: B023

        def asks(one: Any, script: str) -> str:
            done: subprocess.CompletedProcess[str] = ssh(key, one["PublicIpAddress"], script)
            return done.stdout.strip()

        for one, other in ((here, there), (there, here)):
            assert asks(one, f"ping -c 2 -w 5 {other['PrivateIpAddress']} | grep -c ttl=") == "2"
            name = other["PrivateDnsName"]
            assert asks(one, f"nslookup {name} | grep -cF {other['PrivateIpAddress']}") != "0"
        big = asks(here, f"ping -c 2 -w 5 -s 4000 {there['PrivateIpAddress']} | grep -c 4008")
        assert big == "2"
        assert asks(here, f"ping -c 1 -w 2 {closed['PrivateIpAddress']} | grep -c ttl=") == "0"
        assert stranger["PrivateIpAddress"] != there["PrivateIpAddress"]
        assert asks(stranger, f"ping -c 1 -w 2 {there['PrivateIpAddress']} | grep -c ttl=") == "0"
        ec2.terminate_instances(InstanceIds=ids)
        ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def test_a_balancer_reaches_members_on_another_machine(sides: tuple[Side, Side]) -> None:
    """The balancer is on the server's machine, which takes no instances after it; so its second member is on the other."""
    server, agent = sides
    server.alto("up", "--no-nat", "--listen-hosts", f"{ADDRESS}:8774")
    (own,) = server.alto("host", "list", "-q").split()
    server.alto("service", "create", "web", "--desired", "1", "--wait", "--timeout", "240")
    token = server.alto("host", "token", "create", "--name", "attic", "-q").strip()
    agent.alto("agent", "--join", f"https://{ADDRESS}:8774", "--token", token, "--no-nat")
    server.alto("host", "drain", own)
    server.alto("service", "scale", "web", "2")
    url = json.loads(server.alto("service", "show", "web", "-o", "json"))["url"]
    titles: set[str] = set()

    def both() -> bool:
        with inside_netns(SERVER), suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            titles.add(answer.read().decode().split("<title>")[1].split("<")[0])
        return len(titles) == 2

    until(both, "both members answer", timeout_s=BOOT_S, every_s=0.3)
    assert len(machines_of(agent.state)) == 1

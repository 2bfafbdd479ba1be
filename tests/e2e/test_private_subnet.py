"""A VPC as people build it: a public subnet with a NAT gateway, a private one behind it. Goal: a guest of the private subnet
gets out by the gateway and in no other way, nobody gets in by the gateway, and the cloud's API is reached by an endpoint.

Method: the guest is on a machine that joined, the gateway on the server's, and a third namespace is the world; each resource
comes and goes by the API, as Terraform makes it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alto.kit.world import inside_netns
from tests.drivers.network.guests import hello, reaches, tcp_server
from tests.e2e.cloud import Cloud, behind, ssh, until
from tests.e2e.test_hosts import ADDRESS, SERVER, Side, sides

__all__ = ["sides"]

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

IMAGE = "ami-0a170000000000001"
BOOT_S = 240
WORLD = f"hosts-world-{os.getpid()}"
BEYOND = "198.51.100.2"
API = "ec2.us-east-1.amazonaws.com"


@pytest.fixture
def world(sides: tuple[Side, Side]) -> Iterator[str]:
    """What is behind the server's machine's way out; it says who it sees on port 80."""

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    ip("netns", "add", WORLD)
    try:
        ip("link", "add", "wan0", "netns", SERVER, "type", "veth", "peer", "name", "wan1", "netns", WORLD)
        for namespace, device, address in ((SERVER, "wan0", "198.51.100.1"), (WORLD, "wan1", BEYOND)):
            ip("-n", namespace, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", namespace, "link", "set", device, "up")
        ip("-n", SERVER, "route", "add", "default", "via", BEYOND)
        with tcp_server(WORLD, 80, hello):
            yield WORLD
    finally:
        subprocess.run(["ip", "netns", "delete", WORLD], check=False)


def test_a_private_subnet_gets_out_by_its_nat_gateway_alone(sides: tuple[Side, Side], world: str, tmp_path: Path) -> None:
    server, agent = sides
    server.alto("up", "--listen-hosts", f"{ADDRESS}:8774")
    token = server.alto("host", "token", "create", "--name", "attic", "-q").strip()
    agent.alto("agent", "--join", f"https://{ADDRESS}:8774", "--token", token, "--no-nat")
    with inside_netns(SERVER):
        ec2 = Cloud(server.state, port=8773, pool="").client()
        vpc = ec2.create_vpc(CidrBlock="10.50.0.0/16")["Vpc"]["VpcId"]
        public = ec2.create_subnet(VpcId=vpc, CidrBlock="10.50.0.0/24")["Subnet"]["SubnetId"]
        private = ec2.create_subnet(VpcId=vpc, CidrBlock="10.50.1.0/24")["Subnet"]["SubnetId"]
        gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
        tables = {}
        for subnet in (public, private):
            tables[subnet] = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
            ec2.associate_route_table(RouteTableId=tables[subnet], SubnetId=subnet)
        ec2.create_route(RouteTableId=tables[public], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
        group = ec2.create_security_group(GroupName="ssh", Description="ssh", VpcId=vpc)["GroupId"]
        ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")
        key = tmp_path / "me.pem"
        key.write_text(ec2.create_key_pair(KeyName="me", KeyType="ed25519")["KeyMaterial"])
        key.chmod(0o600)
        hosts = {one.split()[0] for one in server.alto("host", "list", "-q").splitlines()}
        away = next(one for one in hosts if server.alto("host", "show", one).find("attic") >= 0)

        def launch(subnet: str, host: str, **more: Any) -> Any:
            nic = {"DeviceIndex": 0, "SubnetId": subnet, "Groups": [group], **more}
            wanted = {"ImageId": IMAGE, "InstanceType": "m1.tiny", "KeyName": "me", "MinCount": 1, "MaxCount": 1}
            id = ec2.run_instances(NetworkInterfaces=[nic], Placement={"HostId": host}, **wanted)["Instances"][0]["InstanceId"]
            ec2.get_waiter("instance_running").wait(InstanceIds=[id], WaiterConfig={"Delay": 1, "MaxAttempts": 240})
            return ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]

        (here,) = hosts - {away}
        bastion = launch(public, here, AssociatePublicIpAddress=True)["PublicIpAddress"]
        inside = launch(private, away)["PrivateIpAddress"]
        until(lambda: ssh(key, bastion, "true").returncode == 0, "ssh to the bastion", timeout_s=BOOT_S, every_s=0.5)
        until(lambda: behind(key, bastion, inside, "echo up") == "up", "ssh through it", timeout_s=BOOT_S, every_s=0.5)
        assert ssh(key, bastion, f"nc -w 3 {BEYOND} 80 </dev/null").stdout == "198.51.100.1"

        def outside() -> str:
            return behind(key, bastion, inside, f"nc -w 3 {BEYOND} 80 </dev/null")

        assert outside() == ""
        reaches_the_api(ec2, vpc, public, group, lambda command: behind(key, bastion, inside, command))
        address = ec2.allocate_address(Domain="vpc")
        nat = ec2.create_nat_gateway(SubnetId=public, AllocationId=address["AllocationId"])["NatGateway"]["NatGatewayId"]
        ec2.get_waiter("nat_gateway_available").wait(NatGatewayIds=[nat], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        ec2.create_route(RouteTableId=tables[private], DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
        eventually(lambda: outside() == "198.51.100.1", "out by the gateway")
        # Under its public address and no other: on the machine that is the address's alias (ADR 0004).
        alias = address["PublicIp"].replace("127.", "240.", 1)
        flows = subprocess.run(
            ["conntrack", "-L", "-s", alias, "-d", BEYOND], capture_output=True, text=True, check=True
        ).stdout
        assert f"dst={BEYOND}" in flows
        for port in (22, 80):
            assert reaches(address["PublicIp"], port, timeout=0.5) != "open"
        ec2.delete_nat_gateway(NatGatewayId=nat)
        eventually(lambda: outside() == "", "the gateway is gone")
        assert behind(key, bastion, inside, "echo up") == "up"


def reaches_the_api(ec2: Any, vpc: str, subnet: str, group: str, in_guest: Callable[[str], str]) -> None:
    """By an interface endpoint: the guest is on a machine that does not know where the API is, and has no way out."""
    ask = f"printf 'GET / HTTP/1.0\\r\\nHost: {API}\\r\\n\\r\\n' | nc -w 5 {API} 80"
    assert in_guest(ask) == ""
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=80, ToPort=80, CidrIp="10.50.1.0/24")
    endpoint = ec2.create_vpc_endpoint(
        VpcId=vpc,
        VpcEndpointType="Interface",
        ServiceName="com.amazonaws.us-east-1.ec2",
        SubnetIds=[subnet],
        SecurityGroupIds=[group],
    )["VpcEndpoint"]["VpcEndpointId"]
    # Who does not sign is told so by the API itself.
    eventually(lambda: "<Code>" in in_guest(ask), "the API's answer in the guest")
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint])
    eventually(lambda: in_guest(ask) == "", "the endpoint is gone")


def eventually(condition: Callable[[], bool], what: str) -> None:
    until(condition, what, timeout_s=60, every_s=0.5)

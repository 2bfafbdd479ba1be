"""Machines that join as hosts of containers, or of both kinds. Goal: a kind of host is the same wherever its machine is: it
joins with a token of its own, is on one network with all others, and is that host again after its agent died. Method: server
and agent in two network namespaces (see test_hosts.py); real containers and a real guest that ping each other."""

import json
from pathlib import Path
from typing import Any

import pytest

from alto.kit.world import inside_netns
from tests.e2e.cloud import Cloud, machines_of, ssh, until
from tests.e2e.test_containers import CONTAINER, MACHINE
from tests.e2e.test_hosts import ADDRESS, AGENT, SERVER, UP, Side, clean, sides

__all__ = ["sides"]

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

DOOR = f"https://{ADDRESS}:8774"
BOOT_S = 240


def hosts_of(server: Side) -> dict[str, dict[str, Any]]:
    """By name, as `alto host show` says."""
    names = [one["name"] for one in json.loads(server.alto("host", "list", "-o", "json"))]
    return {name: json.loads(server.alto("host", "show", name, "-o", "json")) for name in names}


def token(server: Side, name: str) -> str:
    return server.alto("host", "token", "create", "--name", name, "-q").strip()


def open_to_ssh(ec2: Any, path: Path) -> Path:
    path.write_text(ec2.create_key_pair(KeyName="me", KeyType="ed25519")["KeyMaterial"])
    path.chmod(0o600)
    group = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")
    return path


def launch(ec2: Any, image: str, host: str) -> Any:
    wanted = {"ImageId": image, "InstanceType": "m1.tiny", "KeyName": "me", "MinCount": 1, "MaxCount": 1}
    id = ec2.run_instances(Placement={"HostId": host}, **wanted)["Instances"][0]["InstanceId"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[id], WaiterConfig={"Delay": 1, "MaxAttempts": 240})
    return ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]


def test_a_host_of_containers_joins_a_machine_with_both_kinds(sides: tuple[Side, Side], tmp_path: Path) -> None:
    """Three hosts on two machines: two share an address, and all are one network."""
    server, agent = sides
    server.alto("up", "--no-nat", "--hosts", "qemu,container", "--listen-hosts", f"{ADDRESS}:8774")
    agent.alto("agent", "--join", DOOR, "--token", token(server, "attic"), "--hosts", "container", "--no-nat")
    hosts = hosts_of(server)
    kinds = {name == "attic" or one["kind"]: one for name, one in hosts.items()}
    assert sorted(one["kind"] for one in hosts.values()) == ["container", "container", "qemu"]
    assert {one["underlay"] for one in hosts.values()} == {f"{ADDRESS}:4789", f"{ADDRESS}:4790", "192.168.77.2:4789"}
    with inside_netns(SERVER):
        ec2 = Cloud(server.state, port=8773, pool="").client()
        key = open_to_ssh(ec2, tmp_path / "me.pem")
        there = launch(ec2, CONTAINER, kinds[True]["id"])
        here = launch(ec2, CONTAINER, kinds["container"]["id"])
        machine = launch(ec2, MACHINE, kinds["qemu"]["id"])
        for one in (there, here, machine):
            address = one["PublicIpAddress"]
            until(lambda at=address: ssh(key, at, "true").returncode == 0, f"ssh to {address}", timeout_s=BOOT_S, every_s=0.5)
        for one in (there, here, machine):
            for other in (there, here, machine):
                asked = ssh(key, one["PublicIpAddress"], f"ping -c 1 -W 5 {other['PrivateIpAddress']}")
                assert asked.returncode == 0, (one["InstanceId"], other["InstanceId"], asked.stdout)
    assert list(machines_of(server.state)) == [machine["InstanceId"]]
    assert machines_of(agent.state) == {}


def test_one_machine_joins_as_both_kinds(sides: tuple[Side, Side], tmp_path: Path) -> None:
    server, agent = sides
    server.alto(*UP)
    first = token(server, "attic")
    agent.alto("agent", "--join", DOOR, "--token", first, "--hosts", "qemu,container", "--no-nat", code=1)
    assert "Each token lets in one host" in agent.said
    second = token(server, "attic-boxes")
    both = ("--token", first, "--token", second, "--hosts", "qemu,container")
    agent.alto("agent", "--join", DOOR, *both, "--no-nat")
    before = hosts_of(server)
    assert {name: (one["kind"], one["state"]) for name, one in before.items()} == {
        "attic": ("qemu", "ready"),
        "attic-boxes": ("container", "ready"),
    }
    assert {one["underlay"] for one in before.values()} == {"192.168.77.2:4789", "192.168.77.2:4790"}
    # One machine: what each may give out is its part.
    assert len({one["memory_mib"] for one in before.values()}) == 1
    with inside_netns(SERVER):
        ec2 = Cloud(server.state, port=8773, pool="").client()
        key = open_to_ssh(ec2, tmp_path / "me.pem")
        box = launch(ec2, CONTAINER, before["attic-boxes"]["id"])
    agent.kill("agent.json")
    with inside_netns(AGENT):
        until(
            lambda: ssh(key, box["PublicIpAddress"], "true").returncode == 0,
            "the container serves while nobody watches",
            timeout_s=BOOT_S,
            every_s=0.5,
        )
    # Which hosts it is, the machine knows itself.
    agent.alto("agent", "--no-nat")
    until(lambda: clean(server), "a clean audit", timeout_s=60, every_s=1.0)
    after = hosts_of(server)
    assert {name: (one["id"], one["state"]) for name, one in after.items()} == {
        name: (one["id"], "ready") for name, one in before.items()
    }
    assert [one["instance_id"] for one in after["attic-boxes"]["runs"]] == [box["InstanceId"]]

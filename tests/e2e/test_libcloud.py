"""apache-libcloud's EC2 driver, unmodified, against simulated hosts: a client that is not botocore (requests of its own, XML
read by paths of its own). Goal: what its users call works, with signature version 2 (its default) and 4.
Method: a network, a machine in it and what hangs on it are made, looked at through libcloud's own objects, and taken away."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from libcloud.common.exceptions import BaseHTTPError
from libcloud.compute.providers import get_driver
from libcloud.compute.types import NodeState, Provider

from tests.e2e.cloud import Cloud, until

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]


@pytest.fixture(params=["2", "4"], ids=["signature2", "signature4"])
def driver(simulated: Cloud, request: pytest.FixtureRequest) -> Any:
    facts = simulated.facts
    at = urlsplit(facts["endpoint"])
    where = {"region": "us-east-1", "host": at.hostname, "port": at.port, "secure": False}
    made = get_driver(Provider.EC2)
    return made(facts["access_key_id"], facts["secret_access_key"], signature_version=request.param, **where)


def state_of(driver: Any, node: Any) -> Any:
    return next(one.state for one in driver.list_nodes(ex_node_ids=[node.id]))


def test_a_machine_lives_and_dies(driver: Any) -> None:
    image = driver.list_images(ex_owner="all")[0]
    size = next(one for one in driver.list_sizes() if one.id == "t3.micro")
    another = driver.create_key_pair("another")
    key = driver.create_key_pair("libcloud")
    assert driver.get_key_pair("libcloud").fingerprint == key.fingerprint
    assert "PRIVATE KEY" in key.private_key
    group = driver.ex_create_security_group("web", "what the world may see")["group_id"]
    assert driver.ex_authorize_security_group_ingress(group, 80, 80, cidr_ips=["0.0.0.0/0"])
    assert driver.ex_authorize_security_group_egress(group, 443, 443, cidr_ips=["10.0.0.0/8"])
    node = driver.create_node(
        name="web-1", image=image, size=size, ex_keyname="libcloud", ex_security_groups=["web"], ex_metadata={"role": "web"}
    )
    [(running, addresses)] = driver.wait_until_running([node], wait_period=0.2, timeout=30)
    assert addresses == running.public_ips
    assert running.private_ips[0].startswith("172.31.")
    assert running.extra["instance_type"] == "t3.micro"
    assert running.extra["key_name"] == "libcloud"
    assert [one["group_name"] for one in running.extra["groups"]] == ["web"]
    assert driver.ex_describe_tags(node) == {"Name": "web-1", "role": "web"}
    assert driver.ex_create_tags(node, {"colour": "red"})
    assert driver.ex_delete_tags(node, {"role": "web"})
    assert driver.ex_describe_tags(node) == {"Name": "web-1", "colour": "red"}
    assert driver.reboot_node(node)
    assert driver.stop_node(node)
    until(lambda: state_of(driver, node) == NodeState.STOPPED, "the node has stopped", timeout_s=30)
    larger = next(one for one in driver.list_sizes() if one.id == "t3.small")
    assert driver.ex_change_node_size(node, larger)
    assert driver.start_node(node)
    until(lambda: state_of(driver, node) == NodeState.RUNNING, "the node runs again", timeout_s=30)
    assert driver.destroy_node(node)
    until(lambda: state_of(driver, node) == NodeState.TERMINATED, "the node is gone", timeout_s=30)
    assert driver.delete_key_pair(key)
    assert driver.delete_key_pair(another)
    assert driver.ex_delete_security_group_by_id(group)
    with pytest.raises(BaseHTTPError, match="InvalidInstanceID"):
        driver.list_nodes(ex_node_ids=["i-0123456789abcdef0"])


def test_a_network_of_ones_own(driver: Any) -> None:
    network = driver.ex_create_network("10.9.0.0/16", name="shop")
    zone = driver.ex_list_availability_zones()[0].name
    subnet = driver.ex_create_subnet(network.id, "10.9.1.0/24", zone, name="front")
    assert [one.id for one in driver.ex_list_subnets(filters={"vpc-id": network.id})] == [subnet.id]
    gateway = driver.ex_create_internet_gateway(name="door")
    assert driver.ex_attach_internet_gateway(gateway, network)
    table = driver.ex_create_route_table(network, name="public")
    assert driver.ex_associate_route_table(table, subnet).startswith("rtbassoc-")
    assert driver.ex_create_route(table, "0.0.0.0/0", internet_gateway=gateway)
    table = next(one for one in driver.ex_list_route_tables() if one.id == table.id)
    assert {route.cidr: route.gateway_id for route in table.routes} == {"10.9.0.0/16": "local", "0.0.0.0/0": gateway.id}
    interface = driver.ex_create_network_interface(subnet, name="spare", private_ip_address="10.9.1.77")
    assert interface.extra["private_ips"][0]["private_ip"] == "10.9.1.77"
    assert driver.ex_delete_network_interface(interface)
    assert driver.ex_dissociate_route_table(table.subnet_associations[0])
    assert driver.ex_delete_route(table, "0.0.0.0/0")
    assert driver.ex_delete_route_table(table)
    assert driver.ex_detach_internet_gateway(gateway, network)
    assert driver.ex_delete_internet_gateway(gateway)
    assert driver.ex_delete_subnet(subnet)
    assert driver.ex_delete_network(network)
    assert network.id not in [one.id for one in driver.ex_list_networks()]


def test_an_address_moves_between_machines(driver: Any) -> None:
    image = driver.list_images()[0]
    size = next(one for one in driver.list_sizes() if one.id == "t3.nano")
    nodes = [driver.create_node(name=f"a-{n}", image=image, size=size) for n in range(2)]
    driver.wait_until_running(nodes, wait_period=0.2, timeout=30)
    address = driver.ex_allocate_address("vpc")
    for node in nodes:
        assert driver.ex_associate_address_with_node(node, address, domain="vpc")
        assert driver.ex_describe_addresses_for_node(node) == [address.ip]
    address = next(one for one in driver.ex_describe_all_addresses() if one.ip == address.ip)
    assert address.instance_id == nodes[1].id
    assert driver.ex_disassociate_address(address, domain="vpc")
    assert driver.ex_release_address(address, domain="vpc")
    for node in nodes:
        assert driver.destroy_node(node)


def test_a_placement_group(driver: Any) -> None:
    assert driver.ex_create_placement_group("together")
    assert [one.name for one in driver.ex_list_placement_groups()] == ["together"]
    assert driver.ex_delete_placement_group("together")

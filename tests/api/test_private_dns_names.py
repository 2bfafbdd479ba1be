"""Goal: instances are called as their subnet, their launch and ModifyPrivateDnsNameOptions say, and DNS is told the names that
it is to know. Method: whole calls through the gateway; names are written down by hand, from "EC2 instance hostnames"."""

from typing import Any

import pytest

from alto.model.instances import Instance, Machine, Phase
from alto.model.network_plans import Names
from alto.plan.addresses import names_of
from alto.plan.instances import machine_of
from tests.api.cloud import Cloud, Tenant
from tests.api.rows import host, tiny
from tests.api.test_launches import ONE, says

PLAIN = {"HostnameType": "ip-name", "EnableResourceNameDnsARecord": False, "EnableResourceNameDnsAAAARecord": False}


@pytest.fixture(autouse=True)
def room(cloud: Cloud) -> None:
    cloud.put(host(1, vcpus=8, memory_mib=1024), tiny())


@pytest.fixture
def subnet(tenant: Tenant) -> str:
    vpc = tenant("CreateVpc", CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    return str(tenant("CreateSubnet", VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"])


def machine(cloud: Cloud, id: str) -> Machine:
    return machine_of(cloud.store.read(lambda reader: reader.get(Instance, id)))


def launch(tenant: Tenant, **more: Any) -> dict[str, Any]:
    (made,) = tenant("RunInstances", **ONE, **more)["Instances"]
    return dict(made)


def shown(tenant: Tenant, id: str) -> dict[str, Any]:
    return dict(tenant("DescribeInstances", InstanceIds=[id])["Reservations"][0]["Instances"][0])


def stop(tenant: Tenant, id: str) -> None:
    says(tenant.cloud, id, Phase.RUNNING)
    tenant("StopInstances", InstanceIds=[id])
    says(tenant.cloud, id, Phase.STOPPED)


def test_a_subnet_says_how_its_instances_are_called(cloud: Cloud, tenant: Tenant, subnet: str) -> None:
    def options() -> dict[str, Any]:
        return dict(tenant("DescribeSubnets", SubnetIds=[subnet])["Subnets"][0]["PrivateDnsNameOptionsOnLaunch"])

    assert options() == PLAIN
    before = launch(tenant, SubnetId=subnet)
    assert before["PrivateDnsName"] == "ip-10-0-1-4.ec2.internal"
    assert before["PrivateDnsNameOptions"] == PLAIN
    tenant("ModifySubnetAttribute", SubnetId=subnet, PrivateDnsHostnameTypeOnLaunch="resource-name")
    tenant("ModifySubnetAttribute", SubnetId=subnet, EnableResourceNameDnsARecordOnLaunch={"Value": True})
    tenant("ModifySubnetAttribute", SubnetId=subnet, MapPublicIpOnLaunch={"Value": False})
    chosen = {**PLAIN, "HostnameType": "resource-name", "EnableResourceNameDnsARecord": True}
    assert options() == chosen
    after = launch(tenant, SubnetId=subnet)
    assert after["PrivateDnsName"] == f"{after['InstanceId']}.ec2.internal"
    assert after["PrivateDnsNameOptions"] == chosen
    assert machine(cloud, after["InstanceId"]).hostname == f"{after['InstanceId']}.ec2.internal"
    assert shown(tenant, before["InstanceId"])["PrivateDnsNameOptions"] == PLAIN
    prefix = "private-dns-name-options-on-launch."
    for name, value in (("hostname-type", "resource-name"), ("enable-resource-name-dns-a-record", "true")):
        (found,) = tenant("DescribeSubnets", Filters=[{"Name": prefix + name, "Values": [value]}])["Subnets"]
        assert found["SubnetId"] == subnet
    only = {"Name": "private-dns-name-options.hostname-type", "Values": ["resource-name"]}
    ((one,),) = [r["Instances"] for r in tenant("DescribeInstances", Filters=[only])["Reservations"]]
    assert one["InstanceId"] == after["InstanceId"]


def test_a_launch_says_otherwise_than_its_subnet_what_it_says(tenant: Tenant, subnet: str) -> None:
    tenant("ModifySubnetAttribute", SubnetId=subnet, PrivateDnsHostnameTypeOnLaunch="resource-name")
    records = {"EnableResourceNameDnsARecord": True, "EnableResourceNameDnsAAAARecord": True}
    kept = launch(tenant, SubnetId=subnet, PrivateDnsNameOptions=records)
    assert kept["PrivateDnsNameOptions"] == {"HostnameType": "resource-name", **records}
    named = launch(tenant, SubnetId=subnet, PrivateDnsNameOptions={"HostnameType": "ip-name"})
    assert named["PrivateDnsName"].startswith("ip-10-0-1-")
    like_it = tenant("GetLaunchTemplateData", InstanceId=kept["InstanceId"])["LaunchTemplateData"]
    assert like_it["PrivateDnsNameOptions"] == kept["PrivateDnsNameOptions"]
    frankfurt = tenant.in_region("eu-central-1")
    there = launch(frankfurt, PrivateDnsNameOptions={"HostnameType": "resource-name"})
    assert there["PrivateDnsName"] == f"{there['InstanceId']}.eu-central-1.compute.internal"
    wrong = {"HostnameType": "pet-name"}
    assert tenant.refused("RunInstances", **ONE, PrivateDnsNameOptions=wrong) == "InvalidParameterValue"
    assert (
        tenant.refused("ModifySubnetAttribute", SubnetId=subnet, PrivateDnsHostnameTypeOnLaunch="x") == "InvalidParameterValue"
    )


def test_a_name_changes_while_stopped_and_its_records_at_any_time(cloud: Cloud, tenant: Tenant, subnet: str) -> None:
    id = launch(tenant, SubnetId=subnet)["InstanceId"]
    change = "ModifyPrivateDnsNameOptions"
    assert tenant(change, InstanceId=id, EnableResourceNameDnsARecord=True)["Return"] is True
    by_id = {"InstanceId": id, "PrivateDnsHostnameType": "resource-name"}
    assert tenant.refused(change, **by_id) == "IncorrectInstanceState"
    stop(tenant, id)
    tenant(change, **by_id)
    assert shown(tenant, id)["PrivateDnsName"] == f"{id}.ec2.internal"
    assert shown(tenant, id)["PrivateDnsNameOptions"] == {
        **PLAIN,
        "HostnameType": "resource-name",
        "EnableResourceNameDnsARecord": True,
    }
    tenant(change, InstanceId=id, PrivateDnsHostnameType="ip-name", EnableResourceNameDnsARecord=False)
    assert shown(tenant, id)["PrivateDnsNameOptions"] == PLAIN
    assert machine(cloud, id).hostname == "ip-10-0-1-4.ec2.internal"
    assert machine(cloud, id).naming is None
    assert tenant.refused(change, InstanceId=id) == "MissingParameter"
    assert tenant.refused(change, InstanceId="i-00000000000000009", PrivateDnsHostnameType="ip-name") == (
        "InvalidInstanceID.NotFound"
    )
    assert tenant.refused(change, InstanceId=id, PrivateDnsHostnameType="x") == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"HostnameType": "ip-name"}, None),
        ({"EnableResourceNameDnsARecord": True}, Names(v4=("IP.ec2.internal", "ID.ec2.internal"))),
        ({"HostnameType": "resource-name"}, Names(v4=("IP.ec2.internal",))),
        (
            {"HostnameType": "resource-name", "EnableResourceNameDnsARecord": True, "EnableResourceNameDnsAAAARecord": True},
            Names(v4=("ID.ec2.internal", "IP.ec2.internal"), v6=("ID.ec2.internal",)),
        ),
    ],
)
def test_dns_is_told_the_names_that_it_is_to_know(
    cloud: Cloud, tenant: Tenant, subnet: str, options: dict[str, Any], names: Names | None
) -> None:
    id = launch(tenant, SubnetId=subnet, PrivateDnsNameOptions=options)["InstanceId"]
    one = machine(cloud, id)
    told = names_of(one.id, one.nic.private_ip, one.region, one.naming)
    if names is None:
        assert told is None
        return

    def spelt(of: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.replace("ID", id).replace("IP", "ip-10-0-1-4") for name in of)

    assert told == Names(v4=spelt(names.v4), v6=spelt(names.v6))

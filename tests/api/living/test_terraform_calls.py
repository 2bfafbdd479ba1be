"""Goal: Terraform's AWS provider works where it is not on disk to be tried. Method: its calls, in its order, against the whole
control plane with simulated hosts; after each read the fields that the provider reads without asking whether they are there
(`internal/service/ec2` of provider 5: ec2_instance.go, ec2_key_pair.go, vpc_security_group.go).
"""

import asyncio
import base64
import time
from typing import Any

from alto.daemons.server import TINY_IMAGE_ID
from tests.api.cloud import Tenant
from tests.api.living.things import WAIT_S, instance_of

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBW4VDZ0bXv0Q4uyDJ5cX9SrsXHo5z9Hj9Jq0m1Hn3kL me"
USER_DATA = base64.b64encode(b"#!/bin/sh\necho hello\n").decode()


def wait_for(tenant: Tenant, id: str, state: str) -> dict[str, Any]:
    """As the provider's waiters: only the states on the way are taken for progress."""
    deadline = time.monotonic() + WAIT_S
    while True:
        instance = instance_of(tenant, id)
        name = instance["State"]["Name"]
        if name == state:
            return instance
        assert name in {"running": ("pending", "stopped"), "terminated": ("shutting-down", "running", "stopping")}[state]
        assert time.monotonic() < deadline, name
        tenant.cloud.runner.run(asyncio.sleep(0.02))


def read_instance(tenant: Tenant, id: str) -> dict[str, Any]:
    """resourceInstanceRead: everything that a refresh asks. The answer is what the state would hold."""
    instance = instance_of(tenant, id)
    (kind,) = tenant("DescribeInstanceTypes", InstanceTypes=[instance["InstanceType"]])["InstanceTypes"]
    of_template = [
        {"Name": "resource-id", "Values": [id]},
        {"Name": "key", "Values": ["aws:ec2launchtemplate:id"]},
    ]
    assert tenant("DescribeTags", Filters=of_template)["Tags"] == []
    (vpc,) = tenant("DescribeVpcs", VpcIds=[instance["VpcId"]])["Vpcs"]
    volumes = tenant("DescribeVolumes", VolumeIds=[m["Ebs"]["VolumeId"] for m in instance["BlockDeviceMappings"]])
    (root,) = volumes["Volumes"]

    def attribute(name: str, member: str) -> Any:
        return tenant("DescribeInstanceAttribute", InstanceId=id, Attribute=name)[member].get("Value")

    state = {
        "instance_state": instance["State"]["Name"],
        "availability_zone": instance["Placement"]["AvailabilityZone"],
        "placement_group": instance["Placement"]["GroupName"],
        "tenancy": instance["Placement"]["Tenancy"],
        "cpu_core_count": instance["CpuOptions"]["CoreCount"],
        "cpu_threads_per_core": instance["CpuOptions"]["ThreadsPerCore"],
        "hibernation": instance["HibernationOptions"]["Configured"],
        "enclave_options": instance["EnclaveOptions"]["Enabled"],
        "maintenance_options": instance["MaintenanceOptions"]["AutoRecovery"],
        "metadata_options": instance["MetadataOptions"],
        "private_dns_name_options": instance["PrivateDnsNameOptions"],
        "capacity_reservation": instance["CapacityReservationSpecification"]["CapacityReservationPreference"],
        "ami": instance["ImageId"],
        "instance_type": instance["InstanceType"],
        "key_name": instance.get("KeyName"),
        "public_ip": instance.get("PublicIpAddress"),
        "private_ip": instance["PrivateIpAddress"],
        "private_dns": instance["PrivateDnsName"],
        "ebs_optimized": instance["EbsOptimized"],
        "source_dest_check": instance["SourceDestCheck"],
        "monitoring": instance["Monitoring"]["State"] in ("enabled", "pending"),
        "tags": {tag["Key"]: tag["Value"] for tag in instance["Tags"]},
        "groups": sorted(group["GroupId"] for group in instance["SecurityGroups"]),
        "in_default_vpc": vpc["IsDefault"],
        "root_block_device": {
            "device_name": instance["RootDeviceName"],
            "delete_on_termination": instance["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"],
            **{name: root[name] for name in ("VolumeId", "Size", "VolumeType", "Iops", "Throughput", "Encrypted")},
        },
        "shutdown_behavior": attribute("instanceInitiatedShutdownBehavior", "InstanceInitiatedShutdownBehavior"),
        "disable_api_stop": attribute("disableApiStop", "DisableApiStop"),
        "disable_api_termination": attribute("disableApiTermination", "DisableApiTermination"),
        "user_data": attribute("userData", "UserData"),
    }
    primary = [each for each in instance["NetworkInterfaces"] if each["Attachment"]["DeviceIndex"] == 0]
    assert len(primary) == 1
    state["primary_network_interface_id"] = primary[0]["NetworkInterfaceId"]
    state["subnet_id"] = primary[0]["SubnetId"]
    state["associate_public_ip_address"] = "Association" in primary[0]
    state["secondary_private_ips"] = [each for each in primary[0]["PrivateIpAddresses"] if not each["Primary"]]
    state["ipv6_addresses"] = primary[0]["Ipv6Addresses"]
    if kind["BurstablePerformanceSupported"]:
        (credits,) = tenant("DescribeInstanceCreditSpecifications", InstanceIds=[id])["InstanceCreditSpecifications"]
        assert credits["InstanceId"] == id
        state["credit_specification"] = credits["CpuCredits"]
    return state


def create_instance(tenant: Tenant, **more: Any) -> str:
    made = tenant(
        "RunInstances",
        ClientToken="terraform-20261121100000000000000001",
        ImageId=TINY_IMAGE_ID,
        InstanceType="t3.nano",
        KeyName="terraform",
        UserData=USER_DATA,
        MinCount=1,
        MaxCount=1,
        Monitoring={"Enabled": False},
        Placement={"AvailabilityZone": ""},
        DisableApiTermination=False,
        DisableApiStop=False,
        EbsOptimized=False,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}]}],
        **more,
    )
    (instance,) = made["Instances"]
    wait_for(tenant, instance["InstanceId"], "running")
    return str(instance["InstanceId"])


def test_key_pair_and_instance(tenant: Tenant) -> None:
    # aws_key_pair: create, read.
    tenant("ImportKeyPair", KeyName="terraform", PublicKeyMaterial=KEY.encode())
    (pair,) = tenant("DescribeKeyPairs", KeyNames=["terraform"], IncludePublicKey=True)["KeyPairs"]
    assert pair["KeyPairId"].startswith("key-")
    assert pair["KeyType"] == "ed25519"
    assert pair["PublicKey"] == KEY
    assert pair["KeyFingerprint"]

    # aws_instance: create, read, and read again as the second plan does: nothing may differ, least of all what was asked for.
    id = create_instance(tenant)
    state = read_instance(tenant, id)
    assert read_instance(tenant, id) == state
    asked = {
        "instance_state": "running",
        "ami": TINY_IMAGE_ID,
        "instance_type": "t3.nano",
        "key_name": "terraform",
        "user_data": USER_DATA,
        "tags": {"Name": "web"},
        "tenancy": "default",
        "placement_group": "",
        "ebs_optimized": False,
        "monitoring": False,
        "source_dest_check": True,
        "disable_api_stop": False,
        "disable_api_termination": False,
        "shutdown_behavior": "stop",
        "credit_specification": "unlimited",
        "in_default_vpc": True,
        "associate_public_ip_address": True,
        "secondary_private_ips": [],
        "ipv6_addresses": [],
        "hibernation": False,
    }
    assert {name: state[name] for name in asked} == asked

    # A changed and a removed tag.
    tenant("CreateTags", Resources=[id], Tags=[{"Key": "Name", "Value": "app"}, {"Key": "colour", "Value": "blue"}])
    tenant("DeleteTags", Resources=[id], Tags=[{"Key": "Name", "Value": "app"}])
    assert read_instance(tenant, id) == {**state, "tags": {"colour": "blue"}}

    # destroy: the protections are taken away first, whatever they were.
    for protection in ("DisableApiTermination", "DisableApiStop"):
        tenant("ModifyInstanceAttribute", InstanceId=id, **{protection: {"Value": False}})
    tenant("TerminateInstances", InstanceIds=[id])
    wait_for(tenant, id, "terminated")
    tenant("DeleteKeyPair", KeyName="terraform")
    assert tenant.refused("DescribeKeyPairs", KeyNames=["terraform"]) == "InvalidKeyPair.NotFound"


def test_a_change_of_type_stops_and_starts(tenant: Tenant) -> None:
    tenant("ImportKeyPair", KeyName="terraform", PublicKeyMaterial=KEY.encode())
    id = create_instance(tenant)
    before = read_instance(tenant, id)
    tenant("StopInstances", InstanceIds=[id])
    deadline = time.monotonic() + WAIT_S
    while (name := instance_of(tenant, id)["State"]["Name"]) != "stopped":
        assert name in ("running", "stopping")
        assert time.monotonic() < deadline
        tenant.cloud.runner.run(asyncio.sleep(0.02))
    tenant("ModifyInstanceAttribute", InstanceId=id, InstanceType={"Value": "t3.micro"})
    tenant("StartInstances", InstanceIds=[id])
    wait_for(tenant, id, "running")
    after = read_instance(tenant, id)
    assert after["instance_type"] == "t3.micro"
    assert after["private_ip"] == before["private_ip"]
    assert after["root_block_device"] == before["root_block_device"]


def test_security_group_and_rules(tenant: Tenant) -> None:
    # aws_security_group: the rule that lets everything out is taken away, for IPv6 too, which was never there.
    vpc = tenant("DescribeVpcs", Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    id = tenant("CreateSecurityGroup", GroupName="web", Description="Managed by Terraform", VpcId=vpc)["GroupId"]
    (found,) = tenant("DescribeSecurityGroups", GroupIds=[id])["SecurityGroups"]
    assert found["OwnerId"]
    everything = {"IpProtocol": "-1", "FromPort": 0, "ToPort": 0}
    tenant("RevokeSecurityGroupEgress", GroupId=id, IpPermissions=[{**everything, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    version_6 = {**everything, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
    tenant("RevokeSecurityGroupEgress", GroupId=id, IpPermissions=[version_6])
    (found,) = tenant("DescribeSecurityGroups", GroupIds=[id])["SecurityGroups"]
    assert found["IpPermissionsEgress"] == []
    web = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    tenant("AuthorizeSecurityGroupIngress", GroupId=id, IpPermissions=[web])
    tenant("AuthorizeSecurityGroupEgress", GroupId=id, IpPermissions=[version_6])
    (found,) = tenant("DescribeSecurityGroups", GroupIds=[id])["SecurityGroups"]
    assert found["IpPermissions"][0]["FromPort"] == 80
    assert found["IpPermissionsEgress"][0]["Ipv6Ranges"] == [{"CidrIpv6": "::/0"}]

    # aws_vpc_security_group_ingress_rule: read by id right after, changed in place, deleted by id.
    (rule,) = tenant(
        "AuthorizeSecurityGroupIngress",
        GroupId=id,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}],
        TagSpecifications=[{"ResourceType": "security-group-rule", "Tags": [{"Key": "Name", "Value": "ssh"}]}],
    )["SecurityGroupRules"]
    rule_id = rule["SecurityGroupRuleId"]
    (read,) = tenant("DescribeSecurityGroupRules", SecurityGroupRuleIds=[rule_id])["SecurityGroupRules"]
    assert read["GroupId"] == id
    assert read["IsEgress"] is False
    tenant(
        "ModifySecurityGroupRules",
        GroupId=id,
        SecurityGroupRules=[
            {
                "SecurityGroupRuleId": rule_id,
                "SecurityGroupRule": {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIpv4": "10.1.0.0/16"},
            }
        ],
    )
    (read,) = tenant("DescribeSecurityGroupRules", SecurityGroupRuleIds=[rule_id])["SecurityGroupRules"]
    assert (read["CidrIpv4"], read["Tags"]) == ("10.1.0.0/16", [{"Key": "Name", "Value": "ssh"}])
    tenant("RevokeSecurityGroupIngress", GroupId=id, SecurityGroupRuleIds=[rule_id])
    tenant("DeleteSecurityGroup", GroupId=id)
    assert tenant.refused("DescribeSecurityGroups", GroupIds=[id]) == "InvalidGroup.NotFound"


def test_data_sources(tenant: Tenant) -> None:
    images = tenant(
        "DescribeImages",
        Owners=["amazon"],
        IncludeDeprecated=False,
        Filters=[{"Name": "name", "Values": ["alto/tiny-*"]}, {"Name": "state", "Values": ["available"]}],
    )["Images"]
    assert [image["ImageId"] for image in images] == [TINY_IMAGE_ID]
    assert images[0]["CreationDate"]  # most_recent sorts by it
    zones = tenant("DescribeAvailabilityZones", Filters=[{"Name": "state", "Values": ["available"]}])
    assert [zone["ZoneName"] for zone in zones["AvailabilityZones"]] == [f"us-east-1{letter}" for letter in "abcdef"]
    assert all(zone["OptInStatus"] == "opt-in-not-required" for zone in zones["AvailabilityZones"])
    vpc = tenant("DescribeVpcs", Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"][0]
    for attribute in ("enableDnsSupport", "enableDnsHostnames", "enableNetworkAddressUsageMetrics"):
        tenant("DescribeVpcAttribute", VpcId=vpc["VpcId"], Attribute=attribute)
    by_vpc = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    assert len(tenant("DescribeSubnets", Filters=by_vpc)["Subnets"]) == 6
    default = [*by_vpc, {"Name": "group-name", "Values": ["default"]}]
    assert len(tenant("DescribeSecurityGroups", Filters=default)["SecurityGroups"]) == 1
    assert tenant("DescribeRegions", AllRegions=True)["Regions"]

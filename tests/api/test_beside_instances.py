"""Goal: what a launch makes beside the instance is described as EC2 describes it, and tools find it. Method: RunInstances and
then whole calls; what Terraform reads of each after an apply."""

from typing import Any

import pytest

from alto.model.instances import Phase
from tests.api.cloud import Answered, Cloud, Tenant
from tests.api.rows import IMAGE, host, tiny
from tests.api.test_launches import says


@pytest.fixture
def instance(cloud: Cloud, tenant: Tenant) -> dict[str, Any]:
    cloud.put(
        host(1, vcpus=64, memory_mib=64_000),
        tiny(size_gib=2),
    )
    answer = tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1, InstanceType="t3.micro")
    return dict(answer["Instances"][0])


def test_the_root_volume(tenant: Tenant, instance: dict[str, Any]) -> None:
    mapping = instance["BlockDeviceMappings"][0]
    (volume,) = tenant("DescribeVolumes", VolumeIds=[mapping["Ebs"]["VolumeId"]])["Volumes"]
    assert (volume["Size"], volume["State"], volume["VolumeType"]) == (2, "in-use", "gp3")
    assert volume["AvailabilityZone"] == instance["Placement"]["AvailabilityZone"]
    assert volume["Encrypted"] is False
    (attachment,) = volume["Attachments"]
    assert attachment["InstanceId"] == instance["InstanceId"]
    assert attachment["Device"] == mapping["DeviceName"] == instance["RootDeviceName"]
    assert (attachment["State"], attachment["DeleteOnTermination"]) == ("attached", True)
    by_instance = [{"Name": "attachment.instance-id", "Values": [instance["InstanceId"]]}]
    assert len(tenant("DescribeVolumes", Filters=by_instance)["Volumes"]) == 1
    assert tenant("DescribeVolumes", Filters=[{"Name": "status", "Values": ["available"]}])["Volumes"] == []
    assert tenant.refused("DescribeVolumes", VolumeIds=["vol-00000000"]) == "InvalidVolume.NotFound"
    assert tenant.refused("DescribeVolumes", VolumeIds=["vol-x"]) == "InvalidVolumeID.Malformed"
    assert tenant.refused("DescribeVolumes", VolumeIds=["x"]) == "InvalidParameterValue"


def test_the_network_interface(tenant: Tenant, instance: dict[str, Any]) -> None:
    on_instance = instance["NetworkInterfaces"][0]
    id = on_instance["NetworkInterfaceId"]
    (interface,) = tenant("DescribeNetworkInterfaces", NetworkInterfaceIds=[id])["NetworkInterfaces"]
    for member in ("MacAddress", "PrivateIpAddress", "PrivateDnsName", "SubnetId", "VpcId", "Status", "Groups", "OwnerId"):
        assert interface[member] == on_instance[member], member
    assert interface["Association"]["PublicIp"] == instance["PublicIpAddress"]
    attachment = interface["Attachment"]
    assert attachment["InstanceId"] == instance["InstanceId"]
    assert (attachment["DeviceIndex"], attachment["Status"]) == (0, "attached")
    assert attachment["AttachmentId"] == on_instance["Attachment"]["AttachmentId"]
    assert interface["SourceDestCheck"] is True
    for name, value in (
        ("attachment.instance-id", instance["InstanceId"]),
        ("addresses.private-ip-address", instance["PrivateIpAddress"]),
        ("group-name", "default"),
        ("mac-address", interface["MacAddress"]),
        ("association.public-ip", instance["PublicIpAddress"]),
    ):
        found = tenant("DescribeNetworkInterfaces", Filters=[{"Name": name, "Values": [value]}])["NetworkInterfaces"]
        assert [each["NetworkInterfaceId"] for each in found] == [id], name
    assert tenant.refused("DescribeNetworkInterfaces", NetworkInterfaceIds=["eni-00000000"]) == (
        "InvalidNetworkInterfaceID.NotFound"
    )
    assert tenant.refused("DescribeNetworkInterfaces", NetworkInterfaceIds=["x"]) == "InvalidNetworkInterfaceID.NotFound"
    asked = tenant("DescribeNetworkInterfaceAttribute", NetworkInterfaceId=id, Attribute="attachment")
    assert asked["Attachment"]["InstanceId"] == instance["InstanceId"]


def test_a_launch_takes_an_address_of_its_subnet(tenant: Tenant, instance: dict[str, Any]) -> None:
    (subnet,) = tenant("DescribeSubnets", SubnetIds=[instance["SubnetId"]])["Subnets"]
    assert subnet["AvailableIpAddressCount"] == 4090  # 4091 less one


def test_a_launch_takes_room_at_once(cloud: Cloud, tenant: Tenant, instance: dict[str, Any]) -> None:
    # 64 vCPUs less the two of the t3.micro, which no scheduler has placed yet here.
    zones = tenant("DescribeAvailabilityZones", ZoneNames=["verbose"])["AvailabilityZones"]
    (row,) = (zone["State"] for zone in zones if zone["ZoneName"] == "|- m1.tiny")
    assert row.split()[:3] == ["0062", "/", "0064"]


def test_credits(tenant: Tenant, instance: dict[str, Any]) -> None:
    t2 = tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1, InstanceType="t2.micro")["Instances"][0]["InstanceId"]
    m1 = tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    t3 = instance["InstanceId"]
    asked = tenant("DescribeInstanceCreditSpecifications", InstanceIds=[t2, m1, t3])["InstanceCreditSpecifications"]
    assert {each["InstanceId"]: each["CpuCredits"] for each in asked} == {t3: "unlimited", t2: "standard", m1: "standard"}
    unasked = tenant("DescribeInstanceCreditSpecifications")["InstanceCreditSpecifications"]
    assert [each["InstanceId"] for each in unasked] == [t3]  # only those that are unlimited, as the reference says


def test_one_that_was_unlimited_is_still_listed(cloud: Cloud, tenant: Tenant, instance: dict[str, Any]) -> None:
    id = instance["InstanceId"]
    for phase in (Phase.RUNNING, Phase.STOPPED):
        if phase is Phase.STOPPED:
            tenant("StopInstances", InstanceIds=[id])
        says(cloud, id, phase)
    tenant("ModifyInstanceAttribute", InstanceId=id, InstanceType={"Value": "m1.tiny"})
    listed = tenant("DescribeInstanceCreditSpecifications")["InstanceCreditSpecifications"]
    assert listed == [{"InstanceId": id, "CpuCredits": "standard"}]


def test_recovery_is_remembered(tenant: Tenant, instance: dict[str, Any]) -> None:
    id = instance["InstanceId"]
    answer = tenant("ModifyInstanceMaintenanceOptions", InstanceId=id, AutoRecovery="disabled")
    assert (answer["InstanceId"], answer["AutoRecovery"]) == (id, "disabled")
    wanted = [{"Name": "maintenance-options.auto-recovery", "Values": ["disabled"]}]
    shown = tenant("DescribeInstances", Filters=wanted)["Reservations"][0]["Instances"][0]
    assert shown["MaintenanceOptions"]["AutoRecovery"] == "disabled"
    for wrong in ({"AutoRecovery": "always"}, {"RebootMigration": "default"}, {}):
        assert tenant.refused("ModifyInstanceMaintenanceOptions", InstanceId=id, **wrong) in (
            "InvalidParameterValue",
            "UnsupportedOperation",
            "MissingParameter",
        )


def test_the_check_of_source_and_destination_is_reset(tenant: Tenant, instance: dict[str, Any]) -> None:
    id = instance["InstanceId"]
    tenant("ModifyInstanceAttribute", InstanceId=id, SourceDestCheck={"Value": False})
    tenant("ResetInstanceAttribute", InstanceId=id, Attribute="sourceDestCheck")
    assert tenant("DescribeInstanceAttribute", InstanceId=id, Attribute="sourceDestCheck")["SourceDestCheck"] == {"Value": True}
    assert tenant("DescribeNetworkInterfaces")["NetworkInterfaces"][0]["SourceDestCheck"] is True
    tenant("ResetInstanceAttribute", InstanceId=id, Attribute="kernel")
    assert tenant.refusal("ResetInstanceAttribute", InstanceId=id, Attribute="colour") == (
        "InvalidParameterValue: Value (colour) for parameter attribute is invalid. Unknown attribute."
    )


def test_a_serial_console_has_no_picture(tenant: Tenant, instance: dict[str, Any]) -> None:
    assert tenant.refused("GetConsoleScreenshot", InstanceId=instance["InstanceId"]) == "UnsupportedOperation"


def test_a_reported_status_is_checked(cloud: Cloud, tenant: Tenant, instance: dict[str, Any]) -> None:
    report: dict[str, Any] = {
        "Instances": [instance["InstanceId"]],
        "Status": "impaired",
        "ReasonCodes": ["unresponsive"],
    }
    assert tenant.refused("ReportInstanceStatus", **report) == "IncorrectInstanceState", "it is pending"
    says(cloud, instance["InstanceId"], Phase.RUNNING)
    tenant("ReportInstanceStatus", **report)
    for wrong in ({"Status": "sad"}, {"ReasonCodes": ["weather"]}):
        assert tenant.refused("ReportInstanceStatus", **{**report, **wrong}) == "InvalidParameterValue"


def test_credits_are_for_burstable_types(tenant: Tenant, instance: dict[str, Any]) -> None:
    launch = {"ImageId": IMAGE, "MinCount": 1, "MaxCount": 1}
    for type, credits, code in (
        ("m5.large", "unlimited", "InstanceCreditSpecification.NotSupported"),
        ("m5.large", "standard", "InstanceCreditSpecification.NotSupported"),
        ("t3.micro", "endless", "InvalidParameterValue"),
    ):
        wish = {"InstanceType": type, "CreditSpecification": {"CpuCredits": credits}}
        assert tenant.refused("RunInstances", **launch, **wish) == code, wish
    made = tenant("RunInstances", **launch, InstanceType="t3.micro", CreditSpecification={"CpuCredits": "standard"})
    id = made["Instances"][0]["InstanceId"]
    (shown,) = tenant("DescribeInstanceCreditSpecifications", InstanceIds=[id])["InstanceCreditSpecifications"]
    assert shown["CpuCredits"] == "standard"


def test_all_ids_that_nobody_has_are_named(tenant: Tenant, instance: dict[str, Any]) -> None:
    absent = ["i-00000000000000002", "i-00000000000000001"]
    ids = [absent[0], instance["InstanceId"], absent[1]]
    for operation in ("DescribeInstances", "MonitorInstances", "UnmonitorInstances", "StopInstances", "TerminateInstances"):
        with pytest.raises(Answered) as told:
            tenant(operation, InstanceIds=ids)
        assert told.value.code == "InvalidInstanceID.NotFound"
        assert told.value.message == f"The instance IDs '{absent[0]}, {absent[1]}' do not exist", operation
    with pytest.raises(Answered) as one:
        tenant("MonitorInstances", InstanceIds=ids[:2])
    assert one.value.message == f"The instance ID '{absent[0]}' does not exist"
    with pytest.raises(Answered) as images:
        tenant("DescribeImages", ImageIds=["ami-00000000000000002", IMAGE, "ami-00000000000000001"])
    assert images.value.code == "InvalidAMIID.NotFound"
    assert images.value.message == "The image ids '[ami-00000000000000002, ami-00000000000000001]' do not exist"


def test_changing_credits_says_of_each_instance_how_it_went(tenant: Tenant, instance: dict[str, Any]) -> None:
    t3 = instance["InstanceId"]
    m1 = tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    absent = "i-00000000000000000"
    answer = tenant(
        "ModifyInstanceCreditSpecification",
        InstanceCreditSpecifications=[{"InstanceId": id, "CpuCredits": "standard"} for id in (t3, m1, absent)],
    )
    assert answer["SuccessfulInstanceCreditSpecifications"] == [{"InstanceId": t3}]
    failed = {each["InstanceId"]: each["Error"]["Code"] for each in answer["UnsuccessfulInstanceCreditSpecifications"]}
    assert failed == {m1: "InstanceCreditSpecification.NotSupported", absent: "InvalidInstanceID.NotFound"}
    (now,) = tenant("DescribeInstanceCreditSpecifications", InstanceIds=[t3])["InstanceCreditSpecifications"]
    assert now["CpuCredits"] == "standard"
    tenant("TerminateInstances", InstanceIds=[t3])
    wish = [{"InstanceId": t3, "CpuCredits": "unlimited"}]
    (failure,) = tenant("ModifyInstanceCreditSpecification", InstanceCreditSpecifications=wish)[
        "UnsuccessfulInstanceCreditSpecifications"
    ]
    assert (failure["InstanceId"], failure["Error"]["Code"]) == (t3, "IncorrectInstanceState")
    wrong = [{"InstanceId": t3, "CpuCredits": "endless"}]
    assert tenant.refused("ModifyInstanceCreditSpecification", InstanceCreditSpecifications=wrong) == "InvalidCpuCredits"


def test_monitoring_is_switched(tenant: Tenant, instance: dict[str, Any]) -> None:
    id = instance["InstanceId"]

    def state() -> str:
        found: str = tenant("DescribeInstances")["Reservations"][0]["Instances"][0]["Monitoring"]["State"]
        return found

    assert state() == "disabled"
    assert tenant("MonitorInstances", InstanceIds=[id])["InstanceMonitorings"] == [
        {"InstanceId": id, "Monitoring": {"State": "pending"}}
    ]
    assert state() == "enabled"
    assert tenant("UnmonitorInstances", InstanceIds=[id])["InstanceMonitorings"][0]["Monitoring"]["State"] == "disabling"
    assert state() == "disabled"
    assert tenant.refused("MonitorInstances", InstanceIds=[id, "i-00000000000000000"]) == "InvalidInstanceID.NotFound"
    assert state() == "disabled"


def test_no_instance_has_a_password(tenant: Tenant, instance: dict[str, Any]) -> None:
    answer = tenant("GetPasswordData", InstanceId=instance["InstanceId"])
    assert answer["PasswordData"] == ""
    assert answer["InstanceId"] == instance["InstanceId"]


def test_an_instances_public_address_is_no_elastic_one(tenant: Tenant, instance: dict[str, Any]) -> None:
    # libcloud asks this beside every listing of instances.
    filters = [{"Name": "instance-id", "Values": [instance["InstanceId"]]}]
    assert tenant("DescribeAddresses", Filters=filters)["Addresses"] == []
    assert tenant("DescribeAddressesAttribute", Attribute="domain-name")["Addresses"] == []
    assert tenant.refused("DescribeAddresses", PublicIps=[instance["PublicIpAddress"]]) == "InvalidAddress.NotFound"
    absent = ["eipalloc-00000000000000000"]
    assert tenant.refused("DescribeAddresses", AllocationIds=absent) == "InvalidAllocationID.NotFound"


def test_the_check_of_source_and_destination_is_the_primary_interfaces(tenant: Tenant, instance: dict[str, Any]) -> None:
    """Set on the instance, and read from both."""
    for checked in (False, True):
        tenant("ModifyInstanceAttribute", InstanceId=instance["InstanceId"], SourceDestCheck={"Value": checked})
        shown = tenant("DescribeInstances")["Reservations"][0]["Instances"][0]
        assert [shown["SourceDestCheck"], shown["NetworkInterfaces"][0]["SourceDestCheck"]] == [checked, checked]
        assert tenant("DescribeNetworkInterfaces")["NetworkInterfaces"][0]["SourceDestCheck"] is checked


def test_an_interface_has_the_description_it_was_launched_with(tenant: Tenant, instance: dict[str, Any]) -> None:
    wanted = [{"DeviceIndex": 0, "Description": "to the world"}]
    made = tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1, NetworkInterfaces=wanted)["Instances"][0]
    id = made["NetworkInterfaces"][0]["NetworkInterfaceId"]
    (interface,) = tenant("DescribeNetworkInterfaces", NetworkInterfaceIds=[id])["NetworkInterfaces"]
    assert interface["Description"] == "to the world"


@pytest.mark.parametrize(("type", "iops", "throughput"), [("gp3", 3000, 125), ("gp2", 100, None), ("standard", None, None)])
def test_a_root_volume_is_of_the_type_that_was_asked_for(
    tenant: Tenant, instance: dict[str, Any], type: str, iops: int | None, throughput: int | None
) -> None:
    """Terraform compares, and would change it again at each apply."""
    mappings = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 8, "VolumeType": type}}]
    made = tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1, BlockDeviceMappings=mappings)["Instances"][0]
    id = made["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    wanted = [{"Name": "volume-type", "Values": [type]}, {"Name": "size", "Values": ["8"]}]
    (volume,) = tenant("DescribeVolumes", Filters=wanted)["Volumes"]
    assert (volume["VolumeId"], volume["VolumeType"]) == (id, type)
    assert (volume.get("Iops"), volume.get("Throughput")) == (iops, throughput)


@pytest.mark.parametrize("type", ["io2", "fast"])
def test_a_volume_type_that_is_not_here_is_refused(tenant: Tenant, instance: dict[str, Any], type: str) -> None:
    mappings = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeType": type}}]
    launch = {"ImageId": IMAGE, "MinCount": 1, "MaxCount": 1, "BlockDeviceMappings": mappings}
    assert tenant.refused("RunInstances", **launch) == "InvalidParameterValue"

"""Goal: RunInstances and the wishes after it behave as EC2's reference says, refusals included, and a refused request leaves
nothing behind. Method: whole calls through the gateway; no agent runs, so what is launched stays pending until a test says
what its host reports."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from alto.api.ec2.service_calls import ServiceCalls
from alto.api.ec2.shapes import show_instance
from alto.api.wire.models import Models
from alto.model.balancers import AutoScalingGroup, LaunchSpec
from alto.model.images import Image
from alto.model.instances import Instance, Phase, Report
from alto.model.networks import AddressPool, NetworkInterface, PublicAddress
from alto.model.volumes import Volume
from alto.plan.instances import accept, machine_of
from tests.api.cloud import NOW, Cloud, Tenant
from tests.api.rows import IMAGE, host, tiny

ONE = {"ImageId": IMAGE, "InstanceType": "m1.tiny", "MinCount": 1, "MaxCount": 1}


@pytest.fixture(autouse=True)
def room(cloud: Cloud) -> None:
    cloud.put(
        host(1, vcpus=8, memory_mib=1024),
        tiny(),
    )


def launch(tenant: Tenant, **more: Any) -> list[dict[str, Any]]:
    return list(tenant("RunInstances", **{**ONE, **more})["Instances"])


def says(cloud: Cloud, id: str, phase: Phase) -> None:
    """The host reports; the placement is made up here."""
    instance = cloud.store.read(lambda reader: reader.get(Instance, id))
    placed = instance if instance.host_id else replace(instance, host_id="h-1", epoch=1, phase=Phase.PLACED)
    report = Report(instance_id=id, epoch=placed.epoch, incarnation=placed.incarnation, phase=phase, at=NOW)
    after = accept(placed, report)
    assert after is not None
    cloud.put(after)


def state(tenant: Tenant, id: str) -> str:
    found = tenant("DescribeInstances", InstanceIds=[id])["Reservations"]
    return str(found[0]["Instances"][0]["State"]["Name"])


def rows(cloud: Cloud) -> tuple[int, ...]:
    kinds = (Instance, NetworkInterface, Volume, PublicAddress)
    return cloud.store.read(
        lambda reader: (*(len(reader.where(kind)) for kind in kinds), sum(pool.used for pool in reader.where(AddressPool)))
    )


def test_a_launch_answers_pending_with_addresses_and_indexes(tenant: Tenant) -> None:
    instances = launch(tenant, MaxCount=3, MinCount=3)
    assert [one["State"] for one in instances] == [{"Code": 0, "Name": "pending"}] * 3
    assert [one["AmiLaunchIndex"] for one in instances] == [0, 1, 2]
    assert len({one["PrivateIpAddress"] for one in instances} | {one["PublicIpAddress"] for one in instances}) == 6


def test_metadata_options_are_applied_when_the_instance_runs(cloud: Cloud, tenant: Tenant) -> None:
    def said() -> list[str]:
        found = tenant("DescribeInstances", Filters=[{"Name": "metadata-options.state", "Values": ["applied"]}])["Reservations"]
        return [one["MetadataOptions"]["State"] for reservation in found for one in reservation["Instances"]]

    (made,) = launch(tenant)
    assert made["MetadataOptions"]["State"] == "pending"
    assert said() == []
    says(cloud, made["InstanceId"], Phase.RUNNING)
    assert said() == ["applied"]
    changed = tenant("ModifyInstanceMetadataOptions", InstanceId=made["InstanceId"], HttpTokens="required")
    assert changed["InstanceMetadataOptions"]["State"] == "applied"


def test_the_same_token_answers_the_same_and_other_parameters_are_refused(cloud: Cloud, tenant: Tenant) -> None:
    first = launch(tenant, ClientToken="t-1")
    before = rows(cloud)
    says(cloud, first[0]["InstanceId"], Phase.RUNNING)
    again = launch(tenant, ClientToken="t-1")
    assert again[0]["InstanceId"] == first[0]["InstanceId"]
    assert again[0]["State"]["Name"] == "running", "in its present state"
    assert rows(cloud) == before
    assert (
        tenant.refused("RunInstances", **{**ONE, "InstanceType": "t3.nano"}, ClientToken="t-1") == "IdempotentParameterMismatch"
    )
    tenant("TerminateInstances", InstanceIds=[first[0]["InstanceId"]])
    says(cloud, first[0]["InstanceId"], Phase.TERMINATED)
    assert tenant.refused("RunInstances", **ONE, ClientToken="t-1") == "IdempotentInstanceTerminated"
    assert launch(tenant, ClientToken="t-2")[0]["InstanceId"] != first[0]["InstanceId"]


BIG = base64.b64encode(b"x" * (16 * 1024 + 1)).decode()


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "tiny"}, "InvalidAMIID.Malformed"),
        ({"InstanceType": "m9.huge"}, "InvalidParameterValue"),
        ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
        ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
        ({"SecurityGroups": ["nobody"]}, "InvalidGroup.NotFound"),
        ({"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
        ({"Placement": {"AvailabilityZone": "us-east-1q"}}, "InvalidParameterValue"),
        ({"Placement": {"AvailabilityZoneId": "use1-az9"}}, "InvalidParameterValue"),
        ({"Placement": {"AvailabilityZone": "us-east-1a", "AvailabilityZoneId": "use1-az1"}}, "InvalidParameterCombination"),
        ({"Placement": {"Tenancy": "host"}}, "InsufficientHostCapacity"),
        ({"UserData": "not base64!"}, "InvalidUserData.Malformed"),
        ({"UserData": BIG}, "InvalidParameterValue"),
        ({"MinCount": 2}, "InvalidParameterValue"),
        ({"MinCount": 0, "MaxCount": 0}, "InvalidParameterValue"),
        ({"InstanceInitiatedShutdownBehavior": "explode"}, "InvalidParameterValue"),
        ({"PrivateIpAddress": "172.31.0.1"}, "InvalidParameterValue"),
        ({"PrivateIpAddress": "10.0.0.9"}, "InvalidParameterValue"),
        ({"PrivateIpAddress": "172.31.0.9", "MinCount": 2, "MaxCount": 2}, "InvalidParameterCombination"),
        ({"ClientToken": "x" * 65}, "InvalidParameterValue"),
        ({"InstanceType": "t3.2xlarge"}, "InsufficientInstanceCapacity"),
        ({"MinCount": 9, "MaxCount": 9}, "InsufficientInstanceCapacity"),
        ({"HibernationOptions": {"Configured": True}}, "UnsupportedHibernationConfiguration"),
        ({"InstanceMarketOptions": {"MarketType": "spot"}}, "MaxSpotInstanceCountExceeded"),
        ({"InstanceMarketOptions": {"MarketType": "flea"}}, "InvalidParameterValue"),
        ({"CpuOptions": {"CoreCount": 1, "ThreadsPerCore": 2}}, "InvalidParameterValue"),
        ({"CpuOptions": {"CoreCount": 1}}, "InvalidParameterCombination"),
        ({"MaintenanceOptions": {"AutoRecovery": "always"}}, "InvalidParameterValue"),
        ({"CapacityReservationSpecification": {"CapacityReservationPreference": "zz"}}, "InvalidParameterValue"),
        (
            {"CapacityReservationSpecification": {"CapacityReservationPreference": "capacity-reservations-only"}},
            "UnsupportedOperation",
        ),
        (
            {"CapacityReservationSpecification": {"CapacityReservationTarget": {"CapacityReservationId": "cr-0"}}},
            "InvalidCapacityReservationId.NotFound",
        ),
        ({"MetadataOptions": {"HttpProtocolIpv6": "sometimes"}}, "InvalidParameterValue"),
        ({"MetadataOptions": {"HttpPutResponseHopLimit": 65}}, "InvalidParameterValue"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sdf"}]}, "MissingParameter"),
        ({"TagSpecifications": [{"ResourceType": "vpc", "Tags": [{"Key": "a", "Value": "b"}]}]}, "InvalidParameterValue"),
        (
            {"TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "aws:a", "Value": "b"}]}]},
            "InvalidParameterValue",
        ),
    ],
)
def test_what_ec2_refuses_is_refused_with_its_code_and_leaves_nothing(
    cloud: Cloud, tenant: Tenant, more: dict[str, Any], code: str
) -> None:
    tenant("DescribeVpcs")  # the region has begun
    before = rows(cloud)
    assert tenant.refused("RunInstances", **{**ONE, **more}) == code
    assert rows(cloud) == before


def test_a_zone_is_named_or_given_by_its_id(tenant: Tenant) -> None:
    """Both are shown; the ids are those that DescribeAvailabilityZones lists."""
    ids = {one["ZoneName"]: one["ZoneId"] for one in tenant("DescribeAvailabilityZones")["AvailabilityZones"]}
    for where in ({"AvailabilityZone": "us-east-1b"}, {"AvailabilityZoneId": ids["us-east-1b"]}):
        (one,) = launch(tenant, Placement=where)
        placement = one["Placement"]
        assert (placement["AvailabilityZone"], placement["AvailabilityZoneId"]) == ("us-east-1b", ids["us-east-1b"]), where
        (subnet,) = tenant("DescribeSubnets", SubnetIds=[one["SubnetId"]])["Subnets"]
        assert subnet["AvailabilityZoneId"] == ids["us-east-1b"]


def test_options_as_they_are_by_default_are_taken_and_shown(tenant: Tenant) -> None:
    """What tools send without meaning anything by it."""
    options = {
        "CpuOptions": {"CoreCount": 1, "ThreadsPerCore": 1},
        "CapacityReservationSpecification": {"CapacityReservationPreference": "none"},
        "HibernationOptions": {"Configured": False},
        "EnclaveOptions": {"Enabled": False},
        "MetadataOptions": {"HttpProtocolIpv6": "disabled", "HttpTokens": "required"},
        "MaintenanceOptions": {"AutoRecovery": "disabled"},
    }
    shown = launch(tenant, **options)[0]
    preference = "capacity-reservation-specification.capacity-reservation-preference"
    assert tenant("DescribeInstances", Filters=[{"Name": preference, "Values": ["none"]}])["Reservations"]
    for name, members in options.items():
        for member, value in members.items():
            assert shown[name][member] == value, (name, member)


@pytest.mark.parametrize(
    ("beside", "what"),
    [
        ({"SubnetId": "subnet-00000000"}, "subnet ID"),
        ({"SecurityGroupIds": ["sg-00000000"]}, "security groups"),
        ({"SecurityGroups": ["default"]}, "security groups"),
        ({"PrivateIpAddress": "172.31.0.9"}, "private address"),
    ],
)
def test_an_interface_and_what_it_has_itself_are_not_both_given(tenant: Tenant, beside: dict[str, Any], what: str) -> None:
    assert tenant.refusal("RunInstances", **ONE, **beside, NetworkInterfaces=[{"DeviceIndex": 0}]) == (
        f"InvalidParameterCombination: Network interfaces and an instance-level {what} may not be specified on the same request"
    )


def test_without_a_default_subnet_or_vpc_a_launch_must_say_where(tenant: Tenant) -> None:
    """AWS's own words, as people report them."""
    first, *others = tenant("DescribeSubnets")["Subnets"]
    vpc, zone = first["VpcId"], first["AvailabilityZone"]
    tenant("DeleteSubnet", SubnetId=first["SubnetId"])
    assert tenant.refusal("RunInstances", **ONE, Placement={"AvailabilityZone": zone}) == (
        f"InvalidInput: No default subnet for availability zone: '{zone}'."
    )
    for other in others:
        tenant("DeleteSubnet", SubnetId=other["SubnetId"])
    assert tenant.refusal("RunInstances", **ONE) == (
        f"MissingInput: No subnets found for the default VPC '{vpc}'. Please specify a subnet."
    )
    (gateway,) = tenant("DescribeInternetGateways")["InternetGateways"]
    tenant("DetachInternetGateway", InternetGatewayId=gateway["InternetGatewayId"], VpcId=vpc)
    tenant("DeleteVpc", VpcId=vpc)
    assert tenant.refusal("RunInstances", **ONE) == (
        "VPCIdNotSpecified: No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC."
    )


def test_groups_are_named_in_the_default_vpc_only(tenant: Tenant) -> None:
    """A name says which group only where there is no subnet to say which VPC."""
    subnet = tenant("DescribeSubnets")["Subnets"][0]["SubnetId"]
    assert tenant.refusal("RunInstances", **ONE, SubnetId=subnet, SecurityGroups=["default"]) == (
        "InvalidParameterCombination: The parameter groupName cannot be used with the parameter subnet"
    )
    assert [one["GroupName"] for one in launch(tenant, SecurityGroups=["default"])[0]["SecurityGroups"]] == ["default"]


@pytest.mark.parametrize("name", ["/dev/sda1", "/dev/xvda"])
def test_the_root_is_mapped_by_the_names_that_people_know_it_by(tenant: Tenant, name: str) -> None:
    """Images elsewhere call it one or the other; a launch here has one disk, and it is this one."""
    instance = launch(tenant, BlockDeviceMappings=[{"DeviceName": name, "Ebs": {"VolumeSize": 7}}])[0]
    assert [one["DeviceName"] for one in instance["BlockDeviceMappings"]] == [instance["RootDeviceName"]] == ["/dev/sda1"]
    (volume,) = tenant("DescribeVolumes", VolumeIds=[instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]])["Volumes"]
    assert volume["Size"] == 7


def test_an_empty_id_is_nobodys_and_not_everybodys(tenant: Tenant) -> None:
    """A script whose variable is empty must not hear of, nor end, all that there is."""
    launch(tenant)
    malformed = 'InvalidInstanceID.Malformed: Invalid id: "" (expecting "i-...")'
    assert tenant.refusal("DescribeInstances", InstanceIds=[""]) == malformed
    assert tenant.refusal("TerminateInstances", InstanceIds=[""]) == malformed
    assert tenant.refused("DescribeImages", ImageIds=[""]) == "InvalidAMIID.Malformed"
    assert tenant.refused("DescribeVpcs", VpcIds=[""]) == "InvalidVpcID.NotFound"
    assert tenant.refused("DescribeSecurityGroups", GroupNames=[""]) == "InvalidGroup.NotFound"
    assert tenant.refusal("RunInstances", **ONE, SecurityGroupIds=[""]) == (
        "InvalidParameterValue: Value () for parameter groupId is invalid. The value cannot be empty"
    )


def test_a_device_is_mapped_once(tenant: Tenant) -> None:
    empty = {"VolumeSize": 1}
    for first, second in (("/dev/sdf", "/dev/sdf"), ("/dev/sda1", "/dev/xvda")):
        twice = [{"DeviceName": first, "Ebs": empty}, {"DeviceName": second, "Ebs": empty}]
        assert tenant.refusal("RunInstances", **ONE, BlockDeviceMappings=twice) == (
            f"InvalidBlockDeviceMapping: The device '{second}' is used in more than one block-device mapping"
        )


def test_a_device_that_is_left_out_is_said_by_an_empty_text(tenant: Tenant) -> None:
    """The one value that NoDevice has; tools send it on the wire as "NoDevice="."""
    left_out = launch(tenant, BlockDeviceMappings=[{"DeviceName": "/dev/sdb", "NoDevice": ""}])[0]
    assert [one["DeviceName"] for one in left_out["BlockDeviceMappings"]] == ["/dev/sda1"]
    for mapping, refusal in (
        ({"DeviceName": "/dev/sdb", "NoDevice": "yes"}, "InvalidRequest: The request received was invalid"),
        ({"DeviceName": "/dev/sdb"}, "MissingParameter: The request must contain the parameter ebs"),
        (
            {"DeviceName": "/dev/sdb", "Ebs": {"VolumeType": "gp2"}},
            "MissingParameter: The request must contain the parameter size or snapshotId",
        ),
    ):
        assert tenant.refusal("RunInstances", **ONE, BlockDeviceMappings=[mapping]) == refusal


def test_members_of_a_launch_are_listed_by_launch_index(tenant: Tenant) -> None:
    launched = [one["InstanceId"] for one in launch(tenant, MinCount=6, MaxCount=6)]
    (reservation,) = tenant("DescribeInstances")["Reservations"]
    assert [one["InstanceId"] for one in reservation["Instances"]] == launched
    assert [one["AmiLaunchIndex"] for one in reservation["Instances"]] == [0, 1, 2, 3, 4, 5]


def test_a_chosen_address_is_given_once(cloud: Cloud, tenant: Tenant) -> None:
    assert launch(tenant, PrivateIpAddress="172.31.0.9")[0]["PrivateIpAddress"] == "172.31.0.9"
    before = rows(cloud)
    taken = tenant.refusal("RunInstances", **ONE, PrivateIpAddress="172.31.0.9")
    assert taken == "InvalidIPAddress.InUse: Address 172.31.0.9 is in use."
    assert rows(cloud) == before


def test_as_many_are_launched_as_fit_when_fewer_will_do(tenant: Tenant) -> None:
    assert len(launch(tenant, MinCount=2, MaxCount=20)) == 8


def test_every_wish_asks_for_the_state_that_ec2_asks_for(cloud: Cloud, tenant: Tenant) -> None:
    id = launch(tenant)[0]["InstanceId"]
    for action in ("StopInstances", "RebootInstances"):
        assert tenant.refused(action, InstanceIds=[id]) == "IncorrectInstanceState", "it is pending"
    says(cloud, id, Phase.RUNNING)
    change = tenant("StopInstances", InstanceIds=[id])["StoppingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping")
    assert tenant.refused("StartInstances", InstanceIds=[id]) == "IncorrectInstanceState", "it is stopping"
    says(cloud, id, Phase.STOPPED)
    assert state(tenant, id) == "stopped"
    started = tenant("StartInstances", InstanceIds=[id])["StartingInstances"][0]
    assert (started["PreviousState"]["Name"], started["CurrentState"]["Name"]) == ("stopped", "pending")
    tenant("TerminateInstances", InstanceIds=[id])
    assert state(tenant, id) == "shutting-down"
    assert tenant.refused("StartInstances", InstanceIds=[id]) == "IncorrectInstanceState"


def test_all_or_none_of_the_instances_named_are_changed(cloud: Cloud, tenant: Tenant) -> None:
    one, other = (launch(tenant)[0]["InstanceId"] for _ in range(2))
    says(cloud, one, Phase.RUNNING)
    assert tenant.refused("StopInstances", InstanceIds=[one, other]) == "IncorrectInstanceState"
    assert state(tenant, one) == "running"
    unknown = "i-0123456789abcdef0"
    assert tenant.refused("TerminateInstances", InstanceIds=[one, unknown]) == "InvalidInstanceID.NotFound"
    assert state(tenant, one) == "running"


@pytest.mark.parametrize("action", ["StartInstances", "StopInstances", "RebootInstances", "TerminateInstances"])
def test_a_wish_names_its_instances(tenant: Tenant, action: str) -> None:
    assert tenant.refusal(action, InstanceIds=[]) == "InvalidParameterCombination: No instances specified"


def test_a_protected_instance_keeps_those_of_its_zone_from_ending_and_no_others(cloud: Cloud, tenant: Tenant) -> None:
    """As the API reference tells of TerminateInstances over several zones."""
    zones = ("us-east-1a", "us-east-1a", "us-east-1b")
    ids = [launch(tenant, Placement={"AvailabilityZone": zone})[0]["InstanceId"] for zone in zones]
    for id in ids:
        says(cloud, id, Phase.RUNNING)
    tenant("ModifyInstanceAttribute", InstanceId=ids[0], DisableApiTermination={"Value": True})
    assert tenant.refused("TerminateInstances", InstanceIds=ids) == "OperationNotPermitted"
    assert [state(tenant, id) for id in ids] == ["running", "running", "shutting-down"]


def test_why_an_instance_changed_is_told_in_two_ways(cloud: Cloud, tenant: Tenant) -> None:
    def told(id: str) -> tuple[str, dict[str, str] | None]:
        shown = tenant("DescribeInstances", InstanceIds=[id])["Reservations"][0]["Instances"][0]
        return shown["StateTransitionReason"], shown.get("StateReason")

    def found(code: str) -> int:
        return len(tenant("DescribeInstances", Filters=[{"Name": "state-reason-code", "Values": [code]}])["Reservations"])

    id = launch(tenant)[0]["InstanceId"]
    assert told(id) == ("", {"Code": "pending", "Message": "pending"})
    says(cloud, id, Phase.RUNNING)
    assert (told(id), found("")) == (("", None), 1)
    tenant("StopInstances", InstanceIds=[id])
    says(cloud, id, Phase.STOPPED)
    at = datetime.fromtimestamp(NOW, UTC).strftime("%Y-%m-%d %H:%M:%S GMT")
    code = "Client.UserInitiatedShutdown"
    assert told(id) == (f"User initiated ({at})", {"Code": code, "Message": f"{code}: User initiated shutdown"})
    assert (found(code), found("")) == (1, 0)


def test_a_stop_may_do_without_the_guest(cloud: Cloud, tenant: Tenant) -> None:
    """The agent reads it from the machine; a stop under way may be hurried, a start forgets it."""

    def hurried(id: str) -> bool:
        return cloud.store.read(lambda reader: machine_of(reader.get(Instance, id))).skip_os_shutdown

    id = launch(tenant)[0]["InstanceId"]
    says(cloud, id, Phase.RUNNING)
    assert tenant.refused("StopInstances", InstanceIds=[id], Hibernate=True) == "UnsupportedHibernationConfiguration"
    tenant("StopInstances", InstanceIds=[id], Force=True)
    assert hurried(id) is False
    tenant("StopInstances", InstanceIds=[id], SkipOsShutdown=True)
    assert hurried(id) is True
    says(cloud, id, Phase.STOPPED)
    tenant("StartInstances", InstanceIds=[id])
    assert hurried(id) is False


def test_what_was_never_given_to_a_host_is_gone_at_once_with_all_it_held(cloud: Cloud, tenant: Tenant) -> None:
    tenant("DescribeVpcs")
    before = rows(cloud)[1:]
    id = launch(tenant)[0]["InstanceId"]
    change = tenant("TerminateInstances", InstanceIds=[id])["TerminatingInstances"][0]
    assert change["CurrentState"]["Name"] == "terminated"
    assert rows(cloud)[1:] == before


def test_protection_holds_until_it_is_taken_away(cloud: Cloud, tenant: Tenant) -> None:
    id = launch(tenant, DisableApiTermination=True, DisableApiStop=True)[0]["InstanceId"]
    says(cloud, id, Phase.RUNNING)
    assert tenant.refused("TerminateInstances", InstanceIds=[id]) == "OperationNotPermitted"
    assert tenant.refused("StopInstances", InstanceIds=[id]) == "OperationNotPermitted"
    tenant("ModifyInstanceAttribute", InstanceId=id, DisableApiTermination={"Value": False})
    # "Stop protection also protects your instance from accidental termination" (user guide).
    assert tenant.refusal("TerminateInstances", InstanceIds=[id]) == (
        f"OperationNotPermitted: The instance '{id}' may not be terminated. Modify its 'disableApiStop' instance attribute "
        "and try again."
    )
    attribute = tenant("DescribeInstanceAttribute", InstanceId=id, Attribute="disableApiTermination")
    assert attribute["DisableApiTermination"]["Value"] is False
    tenant("ModifyInstanceAttribute", InstanceId=id, DisableApiStop={"Value": False})
    tenant("StopInstances", InstanceIds=[id])
    assert state(tenant, id) == "stopping"
    tenant("TerminateInstances", InstanceIds=[id])


def test_a_group_that_becomes_smaller_does_not_heed_protection(cloud: Cloud, tenant: Tenant) -> None:
    id = launch(tenant, DisableApiTermination=True, DisableApiStop=True)[0]["InstanceId"]
    group = AutoScalingGroup(
        id="asg-1",
        account=tenant.account.id,
        region=tenant.region,
        name="web",
        desired=0,
        launch=LaunchSpec(image_id=IMAGE, instance_type="m1.tiny"),
        created_at=NOW,
    )
    calls = ServiceCalls(cloud.world, cloud.store, cloud.settings, lambda balancer: "")
    cloud.runner.run(calls.terminate(group, [id]))
    assert state(tenant, id) == "terminated"


def test_an_interface_has_a_bounded_number_of_groups(tenant: Tenant) -> None:
    many = [tenant("CreateSecurityGroup", GroupName=f"group {n}", Description="one of many")["GroupId"] for n in range(17)]
    assert tenant.refused("RunInstances", **ONE, SecurityGroupIds=many) == "SecurityGroupsPerInterfaceLimitExceeded"
    id = launch(tenant, SecurityGroupIds=many[:16])[0]["InstanceId"]
    wish = {"InstanceId": id, "Groups": many}
    assert tenant.refused("ModifyInstanceAttribute", **wish) == "SecurityGroupsPerInterfaceLimitExceeded"
    tenant("ModifyInstanceAttribute", InstanceId=id, Groups=many[1:])


def test_user_data_comes_back_as_it_was_given_and_changes_only_while_stopped(cloud: Cloud, tenant: Tenant) -> None:
    text = base64.b64encode(b"#!/bin/sh\necho hello\n").decode()
    id = launch(tenant, UserData=text)[0]["InstanceId"]

    def user_data() -> Any:
        return tenant("DescribeInstanceAttribute", InstanceId=id, Attribute="userData")["UserData"].get("Value")

    assert user_data() == text
    says(cloud, id, Phase.RUNNING)
    new = {"InstanceId": id, "UserData": {"Value": b"#!/bin/sh\ntrue\n"}}
    assert tenant.refused("ModifyInstanceAttribute", **new) == "IncorrectInstanceState"
    tenant("StopInstances", InstanceIds=[id])
    says(cloud, id, Phase.STOPPED)
    tenant("ModifyInstanceAttribute", **new)
    assert base64.b64decode(user_data()) == b"#!/bin/sh\ntrue\n"
    tenant("ModifyInstanceAttribute", InstanceId=id, UserData={"Value": b""})
    assert user_data() is None, "nothing is a value of its own"
    tenant("ModifyInstanceAttribute", InstanceId=id, InstanceType={"Value": "t3.nano"})
    shown = tenant("DescribeInstances", InstanceIds=[id])["Reservations"][0]["Instances"][0]
    assert shown["InstanceType"] == "t3.nano"


def test_optimised_disks_are_chosen_while_stopped(cloud: Cloud, tenant: Tenant) -> None:
    id = launch(tenant)[0]["InstanceId"]
    says(cloud, id, Phase.RUNNING)
    wish = {"InstanceId": id, "EbsOptimized": {"Value": True}}
    assert tenant.refused("ModifyInstanceAttribute", **wish) == "IncorrectInstanceState"
    tenant("StopInstances", InstanceIds=[id])
    says(cloud, id, Phase.STOPPED)
    tenant("ModifyInstanceAttribute", **wish)
    assert tenant("DescribeInstances", InstanceIds=[id])["Reservations"][0]["Instances"][0]["EbsOptimized"] is True
    for value in ("False", "true"):  # the older form; clients that write booleans as Python does are understood
        tenant("ModifyInstanceAttribute", InstanceId=id, Attribute="ebsOptimized", Value=value)
    assert tenant("DescribeInstances", InstanceIds=[id])["Reservations"][0]["Instances"][0]["EbsOptimized"] is True


def test_what_a_system_can_is_said_while_it_is_stopped(cloud: Cloud, tenant: Tenant) -> None:
    """Packer's ena_support and sriov_support."""
    id = launch(tenant)[0]["InstanceId"]

    def said() -> tuple[bool, str | None]:
        shown = tenant("DescribeInstances", InstanceIds=[id])["Reservations"][0]["Instances"][0]
        ena = tenant("DescribeInstanceAttribute", InstanceId=id, Attribute="enaSupport")["EnaSupport"]["Value"]
        sriov = tenant("DescribeInstanceAttribute", InstanceId=id, Attribute="sriovNetSupport")["SriovNetSupport"].get("Value")
        assert (ena, sriov) == (shown["EnaSupport"], shown.get("SriovNetSupport"))
        return ena, sriov

    assert said() == (True, None)
    says(cloud, id, Phase.RUNNING)
    for wish in ({"SriovNetSupport": {"Value": "simple"}}, {"EnaSupport": {"Value": False}}):
        assert tenant.refused("ModifyInstanceAttribute", InstanceId=id, **wish) == "IncorrectInstanceState"
    tenant("StopInstances", InstanceIds=[id])
    says(cloud, id, Phase.STOPPED)
    tenant("ModifyInstanceAttribute", InstanceId=id, SriovNetSupport={"Value": "simple"})
    tenant("ModifyInstanceAttribute", InstanceId=id, EnaSupport={"Value": False})
    assert said() == (False, "simple")
    found = tenant("DescribeInstances", Filters=[{"Name": "ena-support", "Values": ["false"]}])["Reservations"]
    assert [one["Instances"][0]["InstanceId"] for one in found] == [id]
    tenant("ModifyInstanceAttribute", InstanceId=id, Attribute="enaSupport", Value="true")
    assert said() == (True, "simple")
    unknown = {"InstanceId": id, "SriovNetSupport": {"Value": "double"}}
    assert tenant.refused("ModifyInstanceAttribute", **unknown) == "InvalidParameterValue"


def test_a_system_and_its_type_have_the_same_processors(cloud: Cloud, tenant: Tenant) -> None:
    arm = Image(
        id="ami-0a170000000000a64",
        account="0",
        region=None,
        name="arm",
        public=True,
        source="tiny",
        architecture="arm64",
        size_gib=1,
        created_at=NOW,
        boot_mode="uefi",
    )
    cloud.put(arm, host(2, vcpus=4, memory_mib=8192))
    assert tenant.refusal("RunInstances", **{**ONE, "InstanceType": "t4g.small"}).startswith(
        "InvalidParameterValue: The architecture 'arm64' of the specified instance type does not match the architecture "
        "'x86_64' of the specified AMI."
    )
    assert tenant.refused("RunInstances", **{**ONE, "ImageId": arm.id}) == "InvalidParameterValue"
    (one,) = launch(tenant, ImageId=arm.id, InstanceType="t4g.small")
    assert (one["Architecture"], one["BootMode"], one["CurrentInstanceBootMode"]) == ("arm64", "uefi", "uefi")
    (shown,) = tenant("DescribeImages", ImageIds=[arm.id])["Images"]
    (type,) = tenant("DescribeInstanceTypes", InstanceTypes=["t4g.small"])["InstanceTypes"]
    assert [shown["BootMode"]] == type["SupportedBootModes"] == ["uefi"]
    boots = [{"Name": "boot-mode", "Values": ["uefi"]}]
    assert len(tenant("DescribeInstances", Filters=boots)["Reservations"]) == 1
    found = tenant("DescribeInstances", Filters=[{"Name": "architecture", "Values": ["arm64"]}])["Reservations"]
    assert [each["Instances"][0]["InstanceId"] for each in found] == [one["InstanceId"]]


def test_an_instance_store_that_no_type_has_is_mapped_to_nothing(tenant: Tenant) -> None:
    (one,) = launch(tenant, BlockDeviceMappings=[{"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"}])
    assert [each["DeviceName"] for each in one["BlockDeviceMappings"]] == ["/dev/sda1"]
    assert len(tenant("DescribeVolumes")["Volumes"]) == 1
    odd = [{"DeviceName": "/dev/sdb", "VirtualName": "floppy0"}]
    assert tenant.refused("RunInstances", **ONE, BlockDeviceMappings=odd) == "InvalidBlockDeviceMapping"
    # Beside a volume, a name that is none of an instance store says nothing; dask-cloudprovider gives one to each root.
    root = {"DeviceName": "/dev/sda1", "VirtualName": "sda1", "Ebs": {"VolumeSize": 9}}
    (one,) = launch(tenant, BlockDeviceMappings=[root])
    assert [each["DeviceName"] for each in one["BlockDeviceMappings"]] == ["/dev/sda1"]
    assert 9 in [volume["Size"] for volume in tenant("DescribeVolumes")["Volumes"]]
    two = [{**root, "VirtualName": "ephemeral0"}]
    assert tenant.refused("RunInstances", **ONE, BlockDeviceMappings=two) == "InvalidBlockDeviceMapping"


def test_an_instances_addresses_are_said_before_its_interfaces(cloud: Cloud, tenant: Tenant) -> None:
    """As in EC2's answers: boto 2.0 reads nothing behind a list that it does not know; seen with the client itself."""
    (one,) = launch(tenant)
    id = one["InstanceId"]
    members = list(cloud.store.read(lambda reader: show_instance(reader, reader.get(Instance, id))))
    assert {"SubnetId", "VpcId", "PrivateIpAddress", "PublicIpAddress"} < set(members[: members.index("NetworkInterfaces")])


def test_what_no_host_has_is_short_of_capacity(cloud: Cloud, tenant: Tenant) -> None:
    cloud.put(host(2, vcpus=96, memory_mib=1 << 20, kind="qemu"))
    answer = tenant.refusal("RunInstances", **{**ONE, "InstanceType": "g4dn.xlarge"})
    assert answer.startswith("InsufficientInstanceCapacity: no host fits g4dn.xlarge")
    assert "1 host short of memory, 1 host without GPUs" in answer
    assert "without machines of bare metal" in tenant.refusal("RunInstances", **{**ONE, "InstanceType": "m5.metal"})


def test_an_image_that_nobody_registered_is_launched_only_where_the_operator_wants_that(models: Models, tenant: Tenant) -> None:
    unknown = {**ONE, "ImageId": "ami-1234abcd"}
    assert tenant.refused("RunInstances", **unknown) == "InvalidAMIID.NotFound"
    cloud = Cloud(models, any_image=True)
    cloud.put(host(1, vcpus=8, memory_mib=1024))
    somebody = cloud.account("somebody")
    (one,) = somebody("RunInstances", **unknown)["Instances"]
    assert one["ImageId"] == "ami-1234abcd"
    (root,) = somebody("DescribeVolumes")["Volumes"]
    assert root["Size"] == 8
    # It is no image for all that: nothing lists it, and an id of another form is no id.
    assert somebody("DescribeImages")["Images"] == []
    assert somebody.refused("DescribeImages", ImageIds=["ami-1234abcd"]) == "InvalidAMIID.NotFound"
    assert somebody.refused("RunInstances", **{**ONE, "ImageId": "windows"}) == "InvalidAMIID.Malformed"
    # Who gave an image up sees that a launch finds it no more.
    cloud.put(replace(tiny(), id="ami-1234abce", account=somebody.account.id))
    somebody("DeregisterImage", ImageId="ami-1234abce")
    assert somebody.refused("RunInstances", **{**ONE, "ImageId": "ami-1234abce"}) == "InvalidAMIID.Unavailable"
    cloud.close()


def test_a_stopped_instance_keeps_its_processors(cloud: Cloud, tenant: Tenant) -> None:
    cloud.put(host(2, vcpus=96, memory_mib=1 << 20, kind="qemu"))
    (one,) = launch(tenant)
    waiting = cloud.store.read(lambda reader: reader.get(Instance, one["InstanceId"]))
    cloud.put(replace(waiting, host_id="h-2", epoch=1, phase=Phase.STOPPED))
    parameters = {"InstanceId": one["InstanceId"]}
    assert (
        tenant.refused("ModifyInstanceAttribute", **parameters, InstanceType={"Value": "t4g.micro"}) == "InvalidParameterValue"
    )
    assert tenant.refused("ModifyInstanceAttribute", **parameters, InstanceType={"Value": "p3.2xlarge"}) == "Unsupported"
    unknown = tenant.refusal("ModifyInstanceAttribute", **parameters, InstanceType={"Value": "t3.nanos"})
    assert unknown.startswith("InvalidInstanceAttributeValue: Invalid value 't3.nanos' for InstanceType.")
    tenant("ModifyInstanceAttribute", **parameters, InstanceType={"Value": "t3.nano"})

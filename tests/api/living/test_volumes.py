"""Goal: volumes and snapshots are made, attached, grown, copied and deleted as the API reference says, with its codes. Method:
whole calls against a cloud with simulated hosts."""

from typing import Any

import pytest
from msgspec.structs import replace

from alto.daemons.server import TINY_IMAGE_ID
from alto.model.hosts import Host
from alto.model.instances import Instance
from alto.model.volumes import Volume
from alto.plan import volumes
from alto.store.store import Tx
from tests.api.cloud import Tenant
from tests.api.living.cloud import LivingCloud
from tests.api.living.things import ZONE, copied, instance_of, launched, made, state, until, volume


def test_the_life_of_a_volume(tenant: Tenant) -> None:
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "data"}]}]
    first = tenant("CreateVolume", AvailabilityZone=ZONE, Size=10, TagSpecifications=tags)
    id = first["VolumeId"]
    assert (first["State"], first["Size"], first["VolumeType"], first["Iops"]) == ("creating", 10, "gp2", 100)
    assert (first["Encrypted"], first["SnapshotId"], first["Attachments"]) == (False, "", [])
    until(tenant, lambda: state(tenant, id) == "available")
    instance = launched(tenant)
    attached = tenant("AttachVolume", VolumeId=id, InstanceId=instance, Device="/dev/sdh")
    assert (attached["State"], attached["Device"], attached["DeleteOnTermination"]) == ("attaching", "/dev/sdh", False)
    until(tenant, lambda: volume(tenant, id)["Attachments"][0]["State"] == "attached")
    assert state(tenant, id) == "in-use"
    mappings = instance_of(tenant, instance)["BlockDeviceMappings"]
    assert [(each["DeviceName"], each["Ebs"]["Status"]) for each in mappings][1:] == [("/dev/sdh", "attached")]
    by_volume = [{"Name": "block-device-mapping.volume-id", "Values": [id]}]
    assert len(tenant("DescribeInstances", Filters=by_volume)["Reservations"]) == 1
    assert tenant.refused("DeleteVolume", VolumeId=id) == "VolumeInUse"
    detached = tenant("DetachVolume", VolumeId=id)
    assert (detached["State"], detached["InstanceId"]) == ("detaching", instance)
    until(tenant, lambda: state(tenant, id) == "available")
    assert tenant.refused("DetachVolume", VolumeId=id) == "IncorrectState"
    assert len(instance_of(tenant, instance)["BlockDeviceMappings"]) == 1
    tenant("DeleteVolume", VolumeId=id)
    assert tenant.refused("DescribeVolumes", VolumeIds=[id]) == "InvalidVolume.NotFound"
    assert tenant.refused("DeleteVolume", VolumeId=id) == "InvalidVolume.NotFound"
    assert id not in str(tenant("DescribeTags")) + str(tenant("DescribeVolumes"))


def test_without_any_waiting(tenant: Tenant) -> None:
    """Code that was written against a double without time asks for the next step at once."""
    (instance,) = tenant("RunInstances", ImageId=TINY_IMAGE_ID, MinCount=1, MaxCount=1)["Instances"]
    zone = instance["Placement"]["AvailabilityZone"]
    id = tenant("CreateVolume", AvailabilityZone=zone, Size=1)["VolumeId"]
    tenant("AttachVolume", VolumeId=id, InstanceId=instance["InstanceId"], Device="/dev/sdf")
    assert state(tenant, id) == "in-use"
    tenant("DetachVolume", VolumeId=id, InstanceId=instance["InstanceId"], Device="/dev/sdf")
    snapshot = tenant("CreateSnapshot", VolumeId=id)["SnapshotId"]
    second = tenant("CreateVolume", AvailabilityZone=zone, SnapshotId=snapshot)["VolumeId"]
    assert state(tenant, second) == "available"
    for each in (id, second):
        tenant("DeleteVolume", VolumeId=each)
    tenant("DeleteSnapshot", SnapshotId=snapshot)


def test_what_a_volume_may_not_be(tenant: Tenant) -> None:
    def refused(**parameters: Any) -> str:
        return tenant.refused("CreateVolume", **({"AvailabilityZone": ZONE} | parameters))

    assert refused() == "MissingParameter"
    assert tenant.refused("CreateVolume", Size=1) == "MissingParameter"
    assert refused(Size=1, AvailabilityZone="us-east-1z") == "InvalidZone.NotFound"
    assert refused(Size=1, VolumeType="gp9") == "UnknownVolumeType"
    assert refused(Size=0) == refused(Size=1, VolumeType="io1", Iops=100) == "InvalidParameterValue"
    assert refused(Size=10, VolumeType="io1") == "InvalidParameterCombination"
    assert refused(Size=10, VolumeType="gp2", Iops=300) == "InvalidParameterCombination"
    assert refused(Size=10, VolumeType="gp2", Throughput=300) == "InvalidParameterCombination"
    assert refused(Size=10, VolumeType="io1", Iops=600) == "InvalidParameterValue"
    assert refused(Size=10, VolumeType="gp3", Throughput=9999) == "InvalidParameterValue"
    assert refused(Size=10, VolumeType="gp3", Throughput=751) == "InvalidParameterValue"  # 0.25 MiB/s an operation
    assert refused(Size=10, VolumeType="gp3", Iops=4000, Throughput=1001) == "InvalidParameterValue"
    assert refused(Size=1, AvailabilityZoneId="use1-az1") == "InvalidParameterCombination"  # either, "but not both"
    assert refused(Size=1, SnapshotId="snap-00000000000000000") == "InvalidSnapshot.NotFound"
    assert refused(Size=1, SnapshotId="snap-x") == "InvalidSnapshotID.Malformed"
    assert refused(Size=1, SnapshotId="snapshot") == "InvalidParameterValue"
    assert refused(Size=1, KmsKeyId="k") == "InvalidParameterDependency"
    assert refused(Size=1, MultiAttachEnabled=True) == "InvalidParameterCombination"
    assert refused(Size=10, VolumeType="io1", Iops=100, MultiAttachEnabled=True) == "UnsupportedOperation"
    assert refused(Size=1, DryRun=True) == "DryRunOperation"
    assert tenant("DescribeVolumes")["Volumes"] == []
    shown = tenant("CreateVolume", AvailabilityZone=ZONE, Size=10, VolumeType="io1", Iops=500)
    assert (shown["Iops"], shown["VolumeType"]) == (500, "io1")
    gp3 = tenant("CreateVolume", AvailabilityZone=ZONE, Size=10, VolumeType="gp3")
    assert (gp3["Iops"], gp3["Throughput"]) == (3000, 125)
    assert (gp3["OwnerId"], gp3["Operator"]) == (tenant.account.id, {"Managed": False})
    assert gp3["VolumeArn"] == f"arn:aws:ec2:us-east-1:{tenant.account.id}:volume/{gp3['VolumeId']}"
    fast = tenant("CreateVolume", AvailabilityZone=ZONE, Size=10, VolumeType="gp3", Iops=4000, Throughput=1000)
    assert (fast["Iops"], fast["Throughput"]) == (4000, 1000)


def test_a_client_token_makes_one_volume(tenant: Tenant) -> None:
    wish = {"AvailabilityZone": ZONE, "Size": 3, "ClientToken": "again"}
    first, second = tenant("CreateVolume", **wish), tenant("CreateVolume", **wish)
    assert first["VolumeId"] == second["VolumeId"]
    assert tenant.refused("CreateVolume", **(wish | {"Size": 4})) == "IdempotentParameterMismatch"
    assert len(tenant("DescribeVolumes")["Volumes"]) == 1


def test_what_attaching_refuses(tenant: Tenant) -> None:
    id, instance, elsewhere = made(tenant), launched(tenant), launched(tenant, "us-east-1b")

    def refused(**parameters: Any) -> str:
        return tenant.refused("AttachVolume", **({"VolumeId": id, "InstanceId": instance, "Device": "/dev/sdh"} | parameters))

    assert refused(VolumeId="vol-00000000000000000") == "InvalidVolume.NotFound"
    assert refused(InstanceId="i-00000000000000000") == "InvalidInstanceID.NotFound"
    assert refused(InstanceId=elsewhere) == "InvalidVolume.ZoneMismatch"
    assert refused(Device="wardrobe") == refused(Device="/dev/sda1") == refused(Device="/dev/xvda") == "InvalidParameterValue"
    tenant("AttachVolume", VolumeId=id, InstanceId=instance, Device="/dev/sdh")
    assert refused() == refused(Device="/dev/sdi") == "VolumeInUse"
    other = made(tenant)
    taken = tenant.refusal("AttachVolume", VolumeId=other, InstanceId=instance, Device="/dev/sdh")
    assert taken.endswith("Attachment point /dev/sdh is already in use")
    assert tenant.refused("DetachVolume", VolumeId=id, InstanceId=elsewhere) == "InvalidAttachment.NotFound"
    assert tenant.refused("DetachVolume", VolumeId=id, Device="/dev/sdz") == "InvalidAttachment.NotFound"
    (root,) = instance_of(tenant, elsewhere)["BlockDeviceMappings"]
    assert tenant.refused("DetachVolume", VolumeId=root["Ebs"]["VolumeId"]) == "OperationNotPermitted"
    assert tenant.refused("DeleteVolume", VolumeId=root["Ebs"]["VolumeId"]) == "VolumeInUse"


def test_a_volume_that_the_instances_host_does_not_reach_is_refused_with_a_reason(cloud: LivingCloud, tenant: Tenant) -> None:
    """By hosts that are said to be apart; simulated ones share a storage."""
    id, instance = made(tenant), launched(tenant)
    home = cloud.store.read(lambda reader: reader.get(Volume, id)).host_id
    host = cloud.store.read(lambda reader: reader.get(Instance, instance)).host_id
    assert home is not None
    assert host is not None

    def refusal(storage: str) -> str:
        """Where the instance's host has this storage."""

        def change(tx: Tx, storage: str) -> str:
            found = tx.get(Host, host)
            tx.put(replace(found, capabilities=replace(found.capabilities, storage=storage)))
            return found.capabilities.storage

        def apart(tx: Tx) -> str:
            if home == host:
                other = next(one.id for one in tx.where(Host) if one.id != host)
                tx.put(replace(tx.get(Volume, id), host_id=other))
            return change(tx, storage)

        before = cloud.runner.run(cloud.store.write(apart))
        try:
            return tenant.refusal("AttachVolume", VolumeId=id, InstanceId=instance, Device="/dev/sdh")
        finally:
            cloud.runner.run(cloud.store.write(lambda tx: change(tx, before)))

    there = cloud.store.read(lambda reader: next(one.id for one in reader.where(Host) if one.id != host))
    assert refusal("st-of-its-own") == (
        f"IncorrectState: {id} is on the disk of host {there}, and instance '{instance}' is on {host}, which does not reach "
        f"it: volumes stay where they are. Launch an instance there for it (Placement.HostId={there})."
    )
    assert refusal("").startswith(f"UnsupportedOperation: Instance '{instance}' is on a host without storage for volumes")
    assert state(tenant, id) == "available"


def test_a_stopped_instance_gives_up_its_root_and_takes_it_again_or_another(cloud: LivingCloud, tenant: Tenant) -> None:
    instance = launched(tenant)
    (device,) = instance_of(tenant, instance)["BlockDeviceMappings"]
    root = str(device["Ebs"]["VolumeId"])
    assert tenant.refused("DetachVolume", VolumeId=root) == "OperationNotPermitted"  # it runs
    stopped(tenant, instance)
    assert tenant("DetachVolume", VolumeId=root)["State"] == "detaching"
    until(tenant, lambda: state(tenant, root) == "available")
    assert "Attachments" not in volume(tenant, root) or volume(tenant, root)["Attachments"] == []
    shown = instance_of(tenant, instance)
    assert shown["BlockDeviceMappings"] == []
    assert shown["RootDeviceName"] == device["DeviceName"]
    assert tenant.refusal("StartInstances", InstanceIds=[instance]) == (
        f"InvalidParameterValue: Invalid value '{instance}' for instanceId. Instance does not have a volume attached at root "
        f"({device['DeviceName']})"
    )
    assert tenant.refused("CreateImage", InstanceId=instance, Name="rootless") == "IncorrectState"

    # Another system disk, of a snapshot of the first; what has no system is refused.
    snapshot = tenant("CreateSnapshot", VolumeId=root)["SnapshotId"]
    until(tenant, lambda: tenant("DescribeSnapshots", SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "completed")
    other, empty = made(tenant, SnapshotId=snapshot), made(tenant)
    at_root = {"InstanceId": instance, "Device": device["DeviceName"]}
    assert tenant.refused("AttachVolume", VolumeId=empty, **at_root) == "UnsupportedOperation"
    tenant("AttachVolume", VolumeId=other, **at_root)
    until(tenant, lambda: volume(tenant, other)["Attachments"][0]["State"] == "attached")
    assert [each["Ebs"]["VolumeId"] for each in instance_of(tenant, instance)["BlockDeviceMappings"]] == [other]
    assert tenant.refused("AttachVolume", VolumeId=root, **at_root) == "InvalidParameterValue"  # the place is taken
    tenant("StartInstances", InstanceIds=[instance])
    until(tenant, lambda: instance_of(tenant, instance)["State"]["Name"] == "running")

    # It was attached, and not made with the instance, so it stays behind; the first root is nobody's any more.
    tenant("TerminateInstances", InstanceIds=[instance])
    until(tenant, lambda: instance_of(tenant, instance)["State"]["Name"] == "terminated")
    until(tenant, lambda: state(tenant, other) == "available")
    for id in (root, other, empty):
        tenant("DeleteVolume", VolumeId=id)
    until(tenant, lambda: not cloud.store.read(lambda reader: reader.where(Volume, account="")))


def test_the_root_that_an_instance_took_again_goes_with_it_when_that_is_wished(cloud: LivingCloud, tenant: Tenant) -> None:
    before = taken_gib(cloud)
    instance = launched(tenant)
    (device,) = instance_of(tenant, instance)["BlockDeviceMappings"]
    root, name = str(device["Ebs"]["VolumeId"]), str(device["DeviceName"])
    stopped(tenant, instance)
    tenant("DetachVolume", VolumeId=root, InstanceId=instance, Device=name)
    until(tenant, lambda: state(tenant, root) == "available")
    tenant("AttachVolume", VolumeId=root, InstanceId=instance, Device=name)
    until(tenant, lambda: volume(tenant, root)["Attachments"][0]["State"] == "attached")
    ends = [{"DeviceName": name, "Ebs": {"DeleteOnTermination": True}}]
    tenant("ModifyInstanceAttribute", InstanceId=instance, BlockDeviceMappings=ends)
    tenant("TerminateInstances", InstanceIds=[instance])
    until(tenant, lambda: not tenant("DescribeVolumes")["Volumes"])
    until(tenant, lambda: taken_gib(cloud) == before)


def taken_gib(cloud: LivingCloud) -> int:
    return sum(host.disk_gib_used for host in cloud.store.read(lambda reader: reader.where(Host)))


def stopped(tenant: Tenant, instance: str) -> None:
    tenant("StopInstances", InstanceIds=[instance])
    until(tenant, lambda: instance_of(tenant, instance)["State"]["Name"] == "stopped")


def test_a_volume_outlives_its_instance(tenant: Tenant) -> None:
    id, instance = made(tenant), launched(tenant)
    tenant("AttachVolume", VolumeId=id, InstanceId=instance, Device="/dev/sdh")
    tenant("TerminateInstances", InstanceIds=[instance])
    until(tenant, lambda: state(tenant, id) == "available")
    assert [each["VolumeId"] for each in tenant("DescribeVolumes")["Volumes"]] == [id]


def test_a_stopped_instance_is_wired_too(tenant: Tenant) -> None:
    id, instance = made(tenant), launched(tenant)
    tenant("StopInstances", InstanceIds=[instance])
    tenant("AttachVolume", VolumeId=id, InstanceId=instance, Device="/dev/sdh")
    until(tenant, lambda: volume(tenant, id)["Attachments"][0]["State"] == "attached")
    tenant("StartInstances", InstanceIds=[instance])
    until(tenant, lambda: instance_of(tenant, instance)["State"]["Name"] == "running")
    tenant("DetachVolume", VolumeId=id)
    until(tenant, lambda: state(tenant, id) == "available")


def test_a_volume_grows(tenant: Tenant) -> None:
    id, instance = made(tenant), launched(tenant)
    assert tenant.refused("DescribeVolumesModifications", VolumeIds=[id]) == "InvalidVolumeModification.NotFound"
    begun = tenant("ModifyVolume", VolumeId=id, Size=9)["VolumeModification"]
    assert (begun["ModificationState"], begun["OriginalSize"], begun["TargetSize"]) == ("modifying", 8, 9)
    assert (begun["OriginalIops"], begun["TargetIops"], begun["Progress"]) == (100, 100, 0)
    tenant("AttachVolume", VolumeId=id, InstanceId=instance, Device="/dev/sdh")
    for size in (10, 100):
        tenant("ModifyVolume", VolumeId=id, Size=size, VolumeType="gp3")

        def done() -> bool:
            (one,) = tenant("DescribeVolumesModifications", VolumeIds=[id])["VolumesModifications"]
            return bool(one["ModificationState"] == "completed" and one["Progress"] == 100)

        until(tenant, done)
    assert (volume(tenant, id)["Size"], volume(tenant, id)["VolumeType"], state(tenant, id)) == (100, "gp3", "in-use")
    assert tenant.refusal("ModifyVolume", VolumeId=id, Size=50).endswith("New size cannot be smaller than existing size")
    assert tenant.refused("ModifyVolume", VolumeId=id) == "InvalidParameterValue"
    completed = [{"Name": "modification-state", "Values": ["completed"]}]
    assert len(tenant("DescribeVolumesModifications", Filters=completed)["VolumesModifications"]) == 1


def test_another_type_has_what_the_reference_says_it_begins_with(tenant: Tenant) -> None:
    id = made(tenant, Size=60, VolumeType="gp2")
    changed = tenant("ModifyVolume", VolumeId=id, VolumeType="io1")["VolumeModification"]
    assert (changed["OriginalIops"], changed["TargetIops"]) == (180, 3000)
    small = made(tenant, Size=10, VolumeType="gp2")  # of which io1 has 500 at most
    assert tenant.refused("ModifyVolume", VolumeId=small, VolumeType="io1") == "InvalidParameterValue"
    assert tenant.refused("DescribeVolumesModifications", MaxResults=501) == "InvalidParameterValue"


def test_a_volume_grows_whatever_ratio_it_has(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """One from before the ratio counted: its growth is not about it, and what names one of the two numbers is."""
    with monkeypatch.context() as before:
        before.setattr(volumes, "MIB_PER_OPERATION_MAX", 1.0)
        id = made(tenant, Size=10, VolumeType="gp3", Throughput=1000)
    assert tenant.refused("ModifyVolume", VolumeId=id, Size=20, Iops=3001) == "InvalidParameterValue"
    changed = tenant("ModifyVolume", VolumeId=id, Size=20)["VolumeModification"]
    assert (changed["TargetSize"], changed["TargetThroughput"]) == (20, 1000)


def test_a_snapshot_and_what_is_made_of_it(tenant: Tenant, stranger: Tenant) -> None:
    id = made(tenant)
    tags = [{"ResourceType": "snapshot", "Tags": [{"Key": "Name", "Value": "copy"}]}]
    begun = tenant("CreateSnapshot", VolumeId=id, Description="of today", TagSpecifications=tags)
    assert (begun["State"], begun["VolumeId"], begun["VolumeSize"]) == ("pending", id, 8)
    snapshot = begun["SnapshotId"]
    until(tenant, lambda: tenant("DescribeSnapshots", SnapshotIds=[snapshot])["Snapshots"][0]["Progress"] == "100%")
    for name, value in (("description", "of *"), ("volume-id", id), ("status", "completed"), ("tag:Name", "copy")):
        found = tenant("DescribeSnapshots", Filters=[{"Name": name, "Values": [value]}])["Snapshots"]
        assert [each["SnapshotId"] for each in found] == [snapshot], name
    assert tenant("DescribeSnapshots", OwnerIds=["self"])["Snapshots"][0]["OwnerId"] == tenant.account.id
    assert tenant("DescribeSnapshots", OwnerIds=["amazon"])["Snapshots"] == []
    for narrowed in ({"OwnerIds": ["alice"]}, {"RestorableByUserIds": ["amazon"]}):
        assert tenant.refused("DescribeSnapshots", **narrowed) == "InvalidUserID.Malformed"
    tenant("DeleteVolume", VolumeId=id)
    again = made(tenant, SnapshotId=snapshot, Size=9)
    assert (volume(tenant, again)["SnapshotId"], volume(tenant, again)["Size"]) == (snapshot, 9)
    less = tenant.refused("CreateVolume", AvailabilityZone=ZONE, SnapshotId=snapshot, Size=7)
    assert less == "InvalidParameterValue"
    # Nobody else sees it before it is shared.
    assert stranger("DescribeSnapshots")["Snapshots"] == []
    assert stranger.refused("DescribeSnapshots", SnapshotIds=[snapshot]) == "InvalidSnapshot.NotFound"
    share = {"SnapshotId": snapshot, "Attribute": "createVolumePermission"}
    tenant("ModifySnapshotAttribute", **share, OperationType="add", UserIds=[stranger.account.id])
    shown = tenant("DescribeSnapshotAttribute", **share)["CreateVolumePermissions"]
    assert shown == [{"UserId": stranger.account.id}]
    (seen,) = stranger("DescribeSnapshots")["Snapshots"]
    assert seen.get("Tags", []) == []  # what its owner wrote on it is not shared
    told = {"Key": "ec2:SharedTag/for", "Value": "all"}
    tenant("CreateTags", Resources=[snapshot], Tags=[told])
    assert [len(one("DescribeSnapshots")["Snapshots"][0]["Tags"]) for one in (tenant, stranger)] == [2, 1]
    assert stranger("DescribeSnapshots", Filters=[{"Name": "tag:Name", "Values": ["copy"]}])["Snapshots"] == []
    # Nor is what they write on it.
    stranger("CreateTags", Resources=[snapshot], Tags=[{"Key": "Name", "Value": "theirs"}])
    ours, theirs = (one("DescribeSnapshots")["Snapshots"][0]["Tags"] for one in (tenant, stranger))
    assert ours[0] == {"Key": "Name", "Value": "copy"}
    assert theirs == [told, {"Key": "Name", "Value": "theirs"}]
    (found,) = stranger("DescribeSnapshots", Filters=[{"Name": "tag:Name", "Values": ["theirs"]}])["Snapshots"]
    assert found["SnapshotId"] == snapshot
    made(stranger, SnapshotId=snapshot)
    assert stranger.refused("DeleteSnapshot", SnapshotId=snapshot) == "UnauthorizedOperation"
    both = {"Add": [{"UserId": tenant.account.id}], "Remove": [{"UserId": stranger.account.id}]}
    refusal = tenant.refused("ModifySnapshotAttribute", SnapshotId=snapshot, CreateVolumePermission=both)
    assert refusal == "InvalidParameterCombination"
    for item in ({"UserId": "alice"}, {"Group": "friends"}, {"Group": "all", "UserId": "alice"}):
        wrong = {"SnapshotId": snapshot, "CreateVolumePermission": {"Add": [item]}}
        assert tenant.refused("ModifySnapshotAttribute", **wrong) == "InvalidAttributeValue"
    tenant("ResetSnapshotAttribute", **share)
    assert stranger("DescribeSnapshots")["Snapshots"] == stranger("DescribeTags")["Tags"] == []
    tenant("DeleteSnapshot", SnapshotId=snapshot)
    assert tenant.refused("DescribeSnapshots", SnapshotIds=[snapshot]) == "InvalidSnapshot.NotFound"
    assert state(tenant, again) == "available"


def test_snapshots_of_all_volumes_of_an_instance(tenant: Tenant) -> None:
    id, instance = made(tenant), launched(tenant)
    tenant("AttachVolume", VolumeId=id, InstanceId=instance, Device="/dev/sdh")
    tenant("CreateTags", Resources=[id], Tags=[{"Key": "a", "Value": "b"}])
    both = tenant(
        "CreateSnapshots", InstanceSpecification={"InstanceId": instance}, CopyTagsFromSource="volume", Description="two"
    )["Snapshots"]
    assert len(both) == 2
    assert [each["Tags"] for each in both if each["VolumeId"] == id] == [[{"Key": "a", "Value": "b"}]]
    without = {"InstanceId": instance, "ExcludeBootVolume": True}
    one = tenant("CreateSnapshots", InstanceSpecification=without)["Snapshots"]
    assert [each["VolumeId"] for each in one] == [id]
    until(tenant, lambda: all(each["State"] == "completed" for each in tenant("DescribeSnapshots")["Snapshots"]))
    tenant("TerminateInstances", InstanceIds=[instance])
    until(tenant, lambda: instance_of(tenant, instance)["State"]["Name"] == "terminated")
    assert tenant.refused("CreateSnapshots", InstanceSpecification={"InstanceId": instance}) == "IncorrectInstanceState"


def test_a_snapshot_is_copied_into_another_region(tenant: Tenant, stranger: Tenant) -> None:
    snapshot = copied(tenant, made(tenant))
    there = tenant.in_region("eu-central-1")
    copy = there("CopySnapshot", SourceRegion="us-east-1", SourceSnapshotId=snapshot, Description="far")["SnapshotId"]
    until(there, lambda: there("DescribeSnapshots", SnapshotIds=[copy])["Snapshots"][0]["State"] == "completed")
    (shown,) = there("DescribeSnapshots", SnapshotIds=[copy])["Snapshots"]
    assert (shown["VolumeId"], shown["Description"], shown["VolumeSize"]) == ("vol-ffffffff", "far", 8)
    assert shown["TransferType"] == "standard"
    by_transfer = [{"Name": "transfer-type", "Values": ["standard"]}]
    assert [one["SnapshotId"] for one in there("DescribeSnapshots", Filters=by_transfer)["Snapshots"]] == [copy]
    assert tenant("DescribeSnapshots", Filters=by_transfer)["Snapshots"] == []  # made of a volume
    # As boto3 sends each of them: with a URL that it signed for the source's region.
    signed = {"PresignedUrl": "https://ec2.us-east-1.amazonaws.com/?Action=CopySnapshot", "DestinationRegion": "eu-central-1"}
    assert there("CopySnapshot", SourceRegion="us-east-1", SourceSnapshotId=snapshot, **signed)["SnapshotId"] != copy
    absent = {"SourceRegion": "eu-central-1", "SourceSnapshotId": snapshot}
    assert tenant.refused("CopySnapshot", **absent) == "InvalidSnapshot.NotFound"
    assert stranger.refused("CopySnapshot", SourceRegion="us-east-1", SourceSnapshotId=snapshot) == "InvalidSnapshot.NotFound"


def test_whose_input_a_volumes_health_is_about(tenant: Tenant) -> None:
    made(tenant)
    instance = launched(tenant)
    of_it = [{"Name": "attachment-status.instance-id", "Values": [instance]}]
    (root,) = tenant("DescribeVolumeStatus", Filters=of_it)["VolumeStatuses"]
    assert root["VolumeId"] == instance_of(tenant, instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    assert root["AttachmentStatuses"] == [{"InstanceId": instance, "IoPerformance": "not-applicable"}]


def test_what_ec2_says_of_a_volumes_health(tenant: Tenant) -> None:
    id = made(tenant)
    (status,) = tenant("DescribeVolumeStatus", VolumeIds=[id])["VolumeStatuses"]
    assert status["VolumeStatus"]["Status"] == "ok"
    impaired = [{"Name": "volume-status.status", "Values": ["impaired"]}]
    assert tenant("DescribeVolumeStatus", Filters=impaired)["VolumeStatuses"] == []
    tenant("ModifyVolumeAttribute", VolumeId=id, AutoEnableIO={"Value": True})
    assert tenant("DescribeVolumeAttribute", VolumeId=id, Attribute="autoEnableIO")["AutoEnableIO"] == {"Value": True}
    assert tenant("DescribeVolumeAttribute", VolumeId=id, Attribute="productCodes")["ProductCodes"] == []
    assert tenant.refused("DescribeVolumeAttribute", VolumeId=id, Attribute="autoEnableIO", DryRun=True) == "DryRunOperation"
    tenant("EnableVolumeIO", VolumeId=id)


def test_which_volumes_go_with_an_instance_can_be_changed(tenant: Tenant) -> None:
    data, instance = made(tenant), launched(tenant)
    tenant("AttachVolume", VolumeId=data, InstanceId=instance, Device="/dev/sdh")
    (root, _) = instance_of(tenant, instance)["BlockDeviceMappings"]
    for change in (
        [{"DeviceName": root["DeviceName"], "Ebs": {"DeleteOnTermination": False}}],
        [{"DeviceName": "/dev/sdh", "Ebs": {"VolumeId": data}}],  # true, as long as nobody says otherwise
    ):
        tenant("ModifyInstanceAttribute", InstanceId=instance, BlockDeviceMappings=change)
    shown = tenant("DescribeInstanceAttribute", InstanceId=instance, Attribute="blockDeviceMapping")["BlockDeviceMappings"]
    assert [each["Ebs"]["DeleteOnTermination"] for each in shown] == [False, True]
    absent = [{"DeviceName": "/dev/sdz", "Ebs": {"DeleteOnTermination": True}}]
    refused = tenant.refused("ModifyInstanceAttribute", InstanceId=instance, BlockDeviceMappings=absent)
    assert refused == "InvalidInstanceAttributeValue"
    tenant("TerminateInstances", InstanceIds=[instance])
    until(tenant, lambda: state(tenant, root["Ebs"]["VolumeId"]) == "available")
    assert [each["VolumeId"] for each in tenant("DescribeVolumes")["Volumes"]] == [root["Ebs"]["VolumeId"]]

"""Goal: images are made of instances and of snapshots, are copied, and what is launched from them has their disks. Method:
whole calls against a cloud with simulated hosts."""

from typing import Any

from alto.daemons.server import TINY_IMAGE_ID
from tests.api.cloud import Tenant
from tests.api.living.things import copied, disks, image, imaged, instance_of, launched, made, state, until, volume


def test_an_image_of_an_instance_and_its_volumes(tenant: Tenant) -> None:
    data, instance = made(tenant, Size=2), launched(tenant)
    tenant("AttachVolume", VolumeId=data, InstanceId=instance, Device="/dev/sdh")
    tags = [{"ResourceType": kind, "Tags": [{"Key": "of", "Value": kind}]} for kind in ("image", "snapshot")]
    id = imaged(tenant, instance, Description="both", TagSpecifications=tags)
    shown = image(tenant, id)
    assert (shown["SourceInstanceId"], shown["Description"], shown["Public"]) == (instance, "both", False)
    assert (shown["SourceImageId"], shown["SourceImageRegion"]) == (TINY_IMAGE_ID, "us-east-1")
    assert shown["Tags"] == [{"Key": "of", "Value": "image"}]
    root, further = shown["BlockDeviceMappings"]
    assert root["DeviceName"] == shown["RootDeviceName"]
    assert (further["DeviceName"], further["Ebs"]["VolumeSize"]) == ("/dev/sdh", 2)
    snapshots = {each["SnapshotId"]: each for each in tenant("DescribeSnapshots", OwnerIds=["self"])["Snapshots"]}
    assert set(snapshots) == {root["Ebs"]["SnapshotId"], further["Ebs"]["SnapshotId"]}
    assert {each["State"] for each in snapshots.values()} == {"completed"}
    assert snapshots[root["Ebs"]["SnapshotId"]]["Description"] == f"Created by CreateImage({instance}) for {id}"
    assert tenant.refused("DeleteSnapshot", SnapshotId=root["Ebs"]["SnapshotId"]) == "InvalidSnapshot.InUse"
    assert tenant.refused("CreateImage", InstanceId=instance, Name="mine") == "InvalidAMIName.Duplicate"

    second = launched(tenant, ImageId=id)
    found = disks(tenant, second)
    assert {name: each["SnapshotId"] for name, each in found.items()} == {
        root["DeviceName"]: root["Ebs"]["SnapshotId"],
        "/dev/sdh": further["Ebs"]["SnapshotId"],
    }
    assert found["/dev/sdh"]["Size"] == 2
    results = tenant("DeregisterImage", ImageId=id, DeleteAssociatedSnapshots=True)["DeleteSnapshotResults"]
    assert {each["SnapshotId"]: each["ReturnCode"] for each in results} == dict.fromkeys(snapshots, "success")
    assert tenant("DescribeSnapshots", OwnerIds=["self"])["Snapshots"] == []
    # What runs from it needs none of it.
    tenant("StopInstances", InstanceIds=[second])
    until(tenant, lambda: instance_of(tenant, second)["State"]["Name"] == "stopped")
    tenant("StartInstances", InstanceIds=[second])
    until(tenant, lambda: instance_of(tenant, second)["State"]["Name"] == "running")
    assert tenant.refused("RunInstances", ImageId=id, MinCount=1, MaxCount=1) == "InvalidAMIID.Unavailable"


def test_an_image_of_an_instance_says_of_its_system_what_its_own_image_says(tenant: Tenant) -> None:
    mapping = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": copied(tenant, made(tenant))}}]
    said = {"EnaSupport": False, "SriovNetSupport": "simple"}
    source = tenant("RegisterImage", Name="old", RootDeviceName="/dev/xvda", BlockDeviceMappings=mapping, **said)["ImageId"]
    instance = launched(tenant, ImageId=source)
    shown = image(tenant, imaged(tenant, instance))
    assert {name: shown[name] for name in said} == said
    # Packer's ena_support: an attribute of the stopped instance, before the image is made.
    tenant("StopInstances", InstanceIds=[instance])
    until(tenant, lambda: instance_of(tenant, instance)["State"]["Name"] == "stopped")
    tenant("ModifyInstanceAttribute", InstanceId=instance, EnaSupport={"Value": True})
    assert image(tenant, imaged(tenant, instance, Name="later"))["EnaSupport"] is True


def test_a_launch_with_several_volumes(tenant: Tenant) -> None:
    snapshot = copied(tenant, made(tenant, Size=3))
    mappings = [
        {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 12, "DeleteOnTermination": False}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 5, "VolumeType": "io1", "Iops": 200}},
        {"DeviceName": "/dev/sdg", "Ebs": {"SnapshotId": snapshot, "DeleteOnTermination": False}},
    ]
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}]
    instance = launched(tenant, BlockDeviceMappings=mappings, TagSpecifications=tags)
    found = disks(tenant, instance)
    assert {name: (each["Size"], each["VolumeType"], each["SnapshotId"]) for name, each in found.items()} == {
        "/dev/sda1": (12, "gp3", ""),
        "/dev/sdf": (5, "io1", ""),
        "/dev/sdg": (3, "gp2", snapshot),
    }
    assert all(each["Tags"] == [{"Key": "a", "Value": "b"}] for each in found.values())
    like_it = tenant("GetLaunchTemplateData", InstanceId=instance)["LaunchTemplateData"]["BlockDeviceMappings"]
    assert {one["DeviceName"]: one["Ebs"] for one in like_it} == {
        "/dev/sda1": {"VolumeSize": 12, "VolumeType": "gp3", "DeleteOnTermination": False},
        "/dev/sdf": {"VolumeSize": 5, "VolumeType": "io1", "Iops": 200, "DeleteOnTermination": True},
        "/dev/sdg": {"VolumeSize": 3, "VolumeType": "gp2", "SnapshotId": snapshot, "DeleteOnTermination": False},
    }
    launched(tenant, BlockDeviceMappings=like_it)
    tenant("TerminateInstances", InstanceIds=[instance])
    kept = {found["/dev/sda1"]["VolumeId"], found["/dev/sdg"]["VolumeId"]}
    until(tenant, lambda: all(state(tenant, id) == "available" for id in kept))
    assert tenant.refused("DescribeVolumes", VolumeIds=[found["/dev/sdf"]["VolumeId"]]) == "InvalidVolume.NotFound"
    other = launched(tenant)
    tenant("AttachVolume", VolumeId=found["/dev/sda1"]["VolumeId"], InstanceId=other, Device="/dev/sdh")
    until(tenant, lambda: volume(tenant, found["/dev/sda1"]["VolumeId"])["Attachments"][0]["State"] == "attached")


def test_mappings_that_no_launch_may_have(tenant: Tenant) -> None:
    snapshot = copied(tenant, made(tenant, Size=3))

    def refused(**mapping: Any) -> str:
        wish = {"ImageId": TINY_IMAGE_ID, "MinCount": 1, "MaxCount": 1, "BlockDeviceMappings": [mapping]}
        return tenant.refused("RunInstances", **wish)

    assert refused(DeviceName="/dev/sdf") == refused(Ebs={"VolumeSize": 1}) == "MissingParameter"
    assert refused(DeviceName="chair", Ebs={"VolumeSize": 1}) == "InvalidParameterValue"
    assert refused(DeviceName="/dev/sdf", Ebs={"SnapshotId": snapshot, "VolumeSize": 2}) == "InvalidBlockDeviceMapping"
    assert refused(DeviceName="/dev/sda1", Ebs={"SnapshotId": snapshot}) == "InvalidBlockDeviceMapping"
    # A root names what it is too small for: the snapshot where there is one.
    small = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 2}}]
    whole = [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}]
    of_snapshot = tenant("RegisterImage", Name="of a snapshot", RootDeviceName="/dev/sda1", BlockDeviceMappings=whole)[
        "ImageId"
    ]
    refusal = tenant.refusal("RunInstances", ImageId=of_snapshot, MinCount=1, MaxCount=1, BlockDeviceMappings=small)
    too_small = f"Volume of size 2GB is smaller than snapshot '{snapshot}', expect size >= 3GB"
    assert refusal == f"InvalidBlockDeviceMapping: {too_small}"
    assert refused(DeviceName="/dev/sdf", Ebs={"SnapshotId": "snap-00000000000000000"}) == "InvalidSnapshot.NotFound"
    assert refused(DeviceName="/dev/sdf", Ebs={"VolumeSize": 1, "KmsKeyId": "alias/a"}) == "InvalidParameterDependency"
    assert refused(DeviceName="/dev/sdf", Ebs={"VolumeSize": 1, "VolumeType": "gp9"}) == "InvalidParameterValue"
    assert refused(DeviceName="/dev/sdf", Ebs={"VolumeSize": 10, "Iops": 3000}) == "InvalidParameterCombination"


def test_an_image_is_copied_and_registered_from_a_snapshot(tenant: Tenant, stranger: Tenant) -> None:
    instance = launched(tenant)
    without = [{"DeviceName": "/dev/sdz", "Ebs": {"VolumeSize": 4}}]
    store = {"DeviceName": "/dev/sdy", "VirtualName": "ephemeral0"}
    id = imaged(tenant, instance, NoReboot=True, BlockDeviceMappings=[*without, store])
    assert image(tenant, id)["BlockDeviceMappings"][-1] == store
    for odd in ({"DeviceName": "/dev/sda1", "VirtualName": "ephemeral0"}, {"DeviceName": "/dev/sdy", "VirtualName": "floppy0"}):
        refusal = tenant.refused("CreateImage", InstanceId=instance, Name="odd", BlockDeviceMappings=[odd])
        assert refusal == "InvalidBlockDeviceMapping"
    there = tenant.in_region("eu-central-1")
    copy = there("CopyImage", SourceRegion="us-east-1", SourceImageId=id, Name="far")["ImageId"]
    until(there, lambda: image(there, copy)["State"] == "available")
    root, empty, kept = image(there, copy)["BlockDeviceMappings"]
    assert kept == store
    assert root["Ebs"]["SnapshotId"] != image(tenant, id)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert (empty["DeviceName"], empty["Ebs"]["VolumeSize"], "SnapshotId" in empty["Ebs"]) == ("/dev/sdz", 4, False)
    assert (root["Ebs"]["VolumeType"], empty["Ebs"]["VolumeType"]) == ("gp3", "gp2")
    assert (image(there, copy)["SourceImageId"], image(there, copy)["SourceImageRegion"]) == (id, "us-east-1")
    # Who may launch an image copies it if its snapshots are shared too.
    tenant("ModifyImageAttribute", ImageId=id, LaunchPermission={"Add": [{"UserId": stranger.account.id}]})
    theirs = {"SourceRegion": "us-east-1", "SourceImageId": id, "Name": "theirs"}
    refusal = stranger.refusal("CopyImage", **theirs)
    assert refusal == "InvalidRequest: You do not have permission to access the storage of this ami"
    tenant(
        "ModifySnapshotAttribute",
        SnapshotId=image(tenant, id)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"],
        CreateVolumePermission={"Add": [{"UserId": stranger.account.id}]},
    )
    image(stranger, stranger("CopyImage", **theirs)["ImageId"])
    far = launched(there, "eu-central-1a", ImageId=copy)
    assert len(disks(there, far)) == 2
    (snapshot,) = there("DescribeSnapshots", OwnerIds=["self"])["Snapshots"]
    mapping = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot["SnapshotId"], "VolumeSize": 20}}]
    mine = there("RegisterImage", Name="named", RootDeviceName="/dev/xvda", BlockDeviceMappings=mapping)["ImageId"]
    (device,) = image(there, mine)["BlockDeviceMappings"]
    assert (device["DeviceName"], device["Ebs"]["VolumeSize"]) == ("/dev/xvda", 20)
    assert (image(there, mine)["EnaSupport"], "SriovNetSupport" in image(there, mine)) == (True, False)
    by_device = [{"Name": "block-device-mapping.device-name", "Values": ["/dev/sdy"]}]
    assert [one["ImageId"] for one in there("DescribeImages", Owners=["self"], Filters=by_device)["Images"]] == [copy]
    said = {"EnaSupport": False, "SriovNetSupport": "simple", "ImdsSupport": "v2.0"}
    fifth = {"RootDeviceName": "/dev/xvda", "BlockDeviceMappings": [*mapping, store]}
    assert image(there, there("RegisterImage", Name="fifth", **fifth)["ImageId"])["BlockDeviceMappings"][1:] == [store]
    fourth = there("RegisterImage", Name="said", RootDeviceName="/dev/xvda", BlockDeviceMappings=mapping, **said)["ImageId"]
    assert {name: image(there, fourth)[name] for name in said} == said
    assert there("DescribeImageAttribute", ImageId=fourth, Attribute="sriovNetSupport")["SriovNetSupport"] == {
        "Value": "simple"
    }
    for name, value in (("sriov-net-support", "simple"), ("ena-support", "false")):
        found = there("DescribeImages", Owners=["self"], Filters=[{"Name": name, "Values": [value]}])["Images"]
        assert [one["ImageId"] for one in found] == [fourth]
    other = {"Name": "other", "RootDeviceName": "/dev/xvda", "BlockDeviceMappings": mapping}
    assert there.refused("RegisterImage", **other, SriovNetSupport="double") == "InvalidParameterValue"
    third = launched(there, "eu-central-1a", ImageId=mine)
    assert disks(there, third)["/dev/xvda"]["Size"] == 20

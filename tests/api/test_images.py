"""Goal: images are seen by whom they should be, and registered only by whom they may be. Method: whole calls; a qcow2 header
written by hand after QEMU's docs/interop/qcow2.txt."""

import struct
from pathlib import Path

import pytest
from msgspec.structs import replace

from alto.control.keeper import TERMINATED_SHOWN_S, Keeper
from alto.model.images import Image, host_kind_of
from tests.api.cloud import NOW, Cloud, Tenant
from tests.api.rows import host
from tests.clocks import CountedClock

TINY = Image(
    id="ami-0a170000000000001",
    account="100000000000",
    region=None,
    name="alto/tiny",
    public=True,
    source="tiny",
    size_gib=1,
    created_at=NOW,
)


def qcow2(path: Path, *, size: int = 3 << 30, backing_at: int = 0) -> Path:
    path.write_bytes(
        struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, backing_at, 0, 16, size, 0, 1, 65536, 65536, 1, 0, 0).ljust(512)
    )
    return path


def ids(tenant: Tenant, **parameters: object) -> list[str]:
    return [image["ImageId"] for image in tenant("DescribeImages", **parameters)["Images"]]


def test_altos_own_image_is_there_for_everybody_everywhere(cloud: Cloud, tenant: Tenant) -> None:
    cloud.put(TINY)
    for region in ("us-east-1", "eu-central-1"):
        (image,) = tenant.in_region(region)("DescribeImages", Owners=["amazon"])["Images"]
        assert image["ImageId"] == TINY.id
        assert (image["State"], image["Public"], image["Architecture"], image["ImageType"]) == (
            "available",
            True,
            "x86_64",
            "machine",
        )
        assert image["OwnerId"] == "100000000000"
        assert image["ImageLocation"] == "amazon/alto/tiny"
        # Terraform: "finding Root Device Name for AMI" fails without these.
        assert image["RootDeviceName"] == image["BlockDeviceMappings"][0]["DeviceName"] == "/dev/sda1"
        assert image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 1
        assert image["CreationDate"].endswith(".000Z")


def test_owners_users_ids_and_filters(cloud: Cloud, tenant: Tenant, tmp_path: Path, operator: Tenant) -> None:
    cloud.put(TINY)
    own = operator("RegisterImage", Name="mine", ImageLocation=f"file://{qcow2(tmp_path / 'a.qcow2')}")["ImageId"]
    assert ids(operator, Owners=["self"]) == [own]
    assert ids(operator, Owners=[operator.account.id]) == [own]
    assert ids(operator, Owners=["amazon", "self"]) == sorted([own, TINY.id])
    assert ids(operator, Owners=["all"]) == ids(operator)
    assert ids(operator, Owners=["aws-marketplace"]) == ids(operator, Owners=["aws-backup-vault"]) == []
    for narrowed in ({"Owners": ["alice"]}, {"ExecutableUsers": ["amazon"]}, {"Owners": ["12345"]}):
        assert tenant.refused("DescribeImages", **narrowed) == "InvalidUserID.Malformed"
    assert ids(operator, ExecutableUsers=["all"]) == [TINY.id]
    assert ids(operator, ExecutableUsers=["self"]) == []
    assert ids(operator, ImageIds=[own]) == [own]
    assert ids(operator, Filters=[{"Name": "name", "Values": ["alto/*"]}]) == [TINY.id]
    assert ids(operator, Filters=[{"Name": "is-public", "Values": ["false"]}]) == [own]
    assert ids(tenant) == [TINY.id]
    assert tenant.refused("DescribeImages", ImageIds=[own]) == "InvalidAMIID.NotFound"
    assert tenant.refused("DescribeImages", ImageIds=["ami-00000000"]) == "InvalidAMIID.NotFound"
    assert tenant.refused("DescribeImages", ImageIds=["tiny"]) == "InvalidAMIID.Malformed"
    assert operator.in_region("eu-central-1").refused("DescribeImages", ImageIds=[own]) == "InvalidAMIID.NotFound"


def test_registering_a_file(operator: Tenant, tmp_path: Path) -> None:
    path = qcow2(tmp_path / "debian.qcow2", size=(2 << 30) + 1)
    specification = [{"ResourceType": "image", "Tags": [{"Key": "os", "Value": "debian"}]}]
    id = operator(
        "RegisterImage",
        Name="Debian 12 [test]",
        Description="d",
        ImageLocation=f"file://{path}",
        Architecture="x86_64",
        RootDeviceName="/dev/sda1",
        VirtualizationType="hvm",
        BlockDeviceMappings=[{"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"}],
        TagSpecifications=specification,
    )["ImageId"]
    (image,) = operator("DescribeImages", ImageIds=[id])["Images"]
    assert image["BlockDeviceMappings"][1] == {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"}
    assert image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 3  # rounded up to whole GiB
    assert (image["Name"], image["Description"], image["Public"]) == ("Debian 12 [test]", "d", False)
    assert image["Tags"] == [{"Key": "os", "Value": "debian"}]
    for twice in (
        [{"DeviceName": "/dev/sda1", "VirtualName": "ephemeral0"}],
        [{"DeviceName": "/dev/sdb", "VirtualName": f"ephemeral{n}"} for n in (0, 1)],
        [{"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0", "Ebs": {"VolumeSize": 1}}],
        [{"DeviceName": "/dev/sdb", "VirtualName": "ephemeral24"}],
    ):
        given = {"ImageLocation": f"file://{path}", "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": twice}
        assert operator.refused("RegisterImage", Name="twice", **given) == "InvalidBlockDeviceMapping"
    again = operator.refused("RegisterImage", Name="Debian 12 [test]", ImageLocation=f"file://{path}")
    assert again == "InvalidAMIName.Duplicate"


def test_a_boot_mode_is_shown_where_it_was_said(operator: Tenant, cloud: Cloud, tmp_path: Path) -> None:
    """ "BootMode" of an image that says none is absent, not what its instances will do (user guide, "boot mode of an AMI")."""
    cloud.put(host(1, vcpus=8, memory_mib=16_384))
    given = {"ImageLocation": f"file://{qcow2(tmp_path / 'debian.qcow2')}"}
    silent = operator("RegisterImage", Name="silent", **given)["ImageId"]
    said = operator("RegisterImage", Name="said", **given, BootMode="legacy-bios")["ImageId"]
    copy = operator("CopyImage", Name="copy", SourceImageId=said, SourceRegion=operator.region)["ImageId"]
    either = operator("RegisterImage", Name="either", **given, BootMode="uefi-preferred")["ImageId"]
    assert operator.refused("RegisterImage", Name="other", **given, BootMode="uefi") == "InvalidParameterValue"
    for id, mode in ((silent, None), (said, "legacy-bios"), (copy, "legacy-bios"), (either, "uefi-preferred")):
        (image,) = operator("DescribeImages", ImageIds=[id])["Images"]
        (instance,) = operator("RunInstances", ImageId=id, MinCount=1, MaxCount=1)["Instances"]
        assert (image.get("BootMode"), instance.get("BootMode")) == (mode, mode)
        assert instance["CurrentInstanceBootMode"] == "legacy-bios"
        shown = operator("DescribeImageAttribute", ImageId=id, Attribute="bootMode")["BootMode"]
        assert shown == ({} if mode is None else {"Value": mode})
    mode = [{"Name": "boot-mode", "Values": ["legacy-bios"]}]
    assert set(ids(operator, Filters=mode)) == {said, copy}
    found = operator("DescribeInstances", Filters=mode)["Reservations"]
    assert {one["ImageId"] for reservation in found for one in reservation["Instances"]} == {said, copy}


PACKED = {
    "tar": bytes(257) + b"ustar",
    "tar.gz": b"\x1f\x8b\x08",
    "tgz": b"\x1f\x8b",
    "tar.xz": b"\xfd7zXZ\0",
    "tar.zst": b"(\xb5/\xfd",
}


@pytest.mark.parametrize("ending", PACKED)
def test_an_archive_is_an_image_of_containers(operator: Tenant, cloud: Cloud, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"root.{ending}"
    path.write_bytes(PACKED[ending] + bytes(512))
    wish = {"Name": "mine", "ImageLocation": f"file://{path}"}
    for size, given in ((8, {}), (20, {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 20}}]})):
        id = operator("RegisterImage", **wish, **given)["ImageId"]
        image = cloud.store.read(lambda reader, id=id: reader.get(Image, id))
        assert (image.size_gib, host_kind_of(image.source)) == (size, "container")
        operator("DeregisterImage", ImageId=id)
    path.write_bytes(b"no archive" + bytes(512))
    assert "is not the archive that its name says" in operator.refusal("RegisterImage", **wish)
    path.unlink()
    assert operator.refused("RegisterImage", **wish) == "InvalidParameterValue"


def test_a_tenant_may_name_no_file_of_the_server(tenant: Tenant, tmp_path: Path) -> None:
    path = qcow2(tmp_path / "a.qcow2")
    assert tenant.refused("RegisterImage", Name="mine", ImageLocation=f"file://{path}") == "UnauthorizedOperation"
    # Nor learn which files there are: the answer is the same for one that is not there.
    assert tenant.refused("RegisterImage", Name="mine", ImageLocation="file:///nowhere.qcow2") == "UnauthorizedOperation"
    assert tenant.refused("RegisterImage", Name="mine", ImageLocation="bucket/manifest.xml") == "UnsupportedOperation"
    assert tenant.refused("RegisterImage", Name="mine") == "MissingParameter"
    of_nothing = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8}}]
    assert tenant.refused("RegisterImage", Name="mine", BlockDeviceMappings=of_nothing) == "MissingParameter"


@pytest.mark.parametrize("damage", ["no file", "another format", "a backing file", "no size", "relative"])
def test_what_is_no_image_is_refused(operator: Tenant, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.qcow2"
    if damage == "another format":
        path.write_bytes(b"\x7fELF" + b"\0" * 1000)
    elif damage == "a backing file":  # would make QEMU read the host's own files
        qcow2(path, backing_at=104)
    elif damage == "no size":
        qcow2(path, size=0)
    elif damage == "relative":
        path = Path(f"{qcow2(path).parent}/../{tmp_path.name}/a.qcow2")
    assert operator.refused("RegisterImage", Name="mine", ImageLocation=f"file://{path}") == "InvalidParameterValue"
    assert operator("DescribeImages", Owners=["self"])["Images"] == []


@pytest.mark.parametrize("name", ["n" * 129, "a;b c"])
def test_names_of_images(operator: Tenant, tmp_path: Path, name: str) -> None:
    location = f"file://{qcow2(tmp_path / 'a.qcow2')}"
    assert operator.refused("RegisterImage", Name=name, ImageLocation=location) == "InvalidAMIName.Malformed"
    assert operator.refused("RegisterImage", Name="good", ImageLocation=location, Architecture="i386") == (
        "InvalidParameterValue"
    )


def test_deregistering(cloud: Cloud, operator: Tenant, tenant: Tenant, tmp_path: Path) -> None:
    cloud.put(TINY)
    id = operator("RegisterImage", Name="mine", ImageLocation=f"file://{qcow2(tmp_path / 'a.qcow2')}")["ImageId"]
    assert tenant.refused("DeregisterImage", ImageId=id) == "InvalidAMIID.NotFound"
    assert tenant.refused("DeregisterImage", ImageId=TINY.id) == "AuthFailure"
    assert operator("DeregisterImage", ImageId=id)["Return"] is True
    # EC2 says for a while that there is nothing to say: Ansible's ec2_ami waits for that.
    assert operator("DescribeImages", ImageIds=[id])["Images"] == []
    assert [one["ImageId"] for one in operator("DescribeImages", ImageIds=[id, TINY.id])["Images"]] == [TINY.id]
    gone = f"InvalidAMIID.Unavailable: The image ID '{id}' is no longer available"
    assert operator.refusal("DeregisterImage", ImageId=id) == gone
    assert operator.refusal("DescribeImageAttribute", ImageId=id, Attribute="description") == gone
    assert operator.refusal("RunInstances", ImageId=id, MinCount=1, MaxCount=1) == gone
    assert tenant.refused("DescribeImages", ImageIds=[id]) == "InvalidAMIID.NotFound"
    assert isinstance(cloud.clock, CountedClock)
    keeper = Keeper(cloud.store, cloud.clock)
    cloud.runner.run(keeper.reconcile())
    assert operator("DescribeImages", ImageIds=[id])["Images"] == []
    cloud.clock.seconds += TERMINATED_SHOWN_S + 1
    cloud.runner.run(keeper.reconcile())
    cloud.clock.seconds -= TERMINATED_SHOWN_S + 1
    assert operator.refused("DescribeImages", ImageIds=[id]) == "InvalidAMIID.NotFound"
    assert operator.refused("RunInstances", ImageId=id, MinCount=1, MaxCount=1) == "InvalidAMIID.NotFound"


def test_an_image_of_all_regions_is_given_up_in_all(cloud: Cloud, tenant: Tenant) -> None:
    cloud.put(replace(TINY, id="ami-0a170000000000077", account=tenant.account.id))
    tenant("DeregisterImage", ImageId="ami-0a170000000000077")
    assert tenant.in_region("eu-central-1")("DescribeImages", ImageIds=["ami-0a170000000000077"])["Images"] == []


def test_alto_s_own_images_go_again_after_they_came_again(cloud: Cloud, operator: Tenant) -> None:
    for _ in range(2):
        cloud.put(replace(TINY, account=operator.account.id))
        assert operator("DescribeImages", ImageIds=[TINY.id])["Images"][0]["ImageId"] == TINY.id
        operator("DeregisterImage", ImageId=TINY.id)
        assert operator("DescribeImages", ImageIds=[TINY.id])["Images"] == []


def test_making_an_image_public_and_private_again(operator: Tenant, tenant: Tenant, tmp_path: Path) -> None:
    id = operator("RegisterImage", Name="mine", ImageLocation=f"file://{qcow2(tmp_path / 'a.qcow2')}")["ImageId"]
    assert ids(tenant) == []
    operator("ModifyImageAttribute", ImageId=id, LaunchPermission={"Add": [{"Group": "all"}]})
    assert ids(tenant) == [id]
    assert operator("DescribeImageAttribute", ImageId=id, Attribute="launchPermission")["LaunchPermissions"] == [
        {"Group": "all"}
    ]
    assert tenant.refused("ModifyImageAttribute", ImageId=id, Description={"Value": "hacked"}) == "AuthFailure"
    operator("ModifyImageAttribute", ImageId=id, Attribute="launchPermission", OperationType="remove", UserGroups=["all"])
    assert ids(tenant) == []
    operator("ModifyImageAttribute", ImageId=id, Description={"Value": "new"})
    described = operator("DescribeImageAttribute", ImageId=id, Attribute="description")
    assert described["Description"] == {"Value": "new"}
    operator("ModifyImageAttribute", ImageId=id, Description={"Value": ""})
    assert operator("DescribeImageAttribute", ImageId=id, Attribute="description")["Description"] == {"Value": ""}
    # Amazon's reference: "Using this attribute returns the Client.AuthFailure error".
    assert operator.refused("DescribeImageAttribute", ImageId=id, Attribute="blockDeviceMapping") == "AuthFailure"


def test_sharing_an_image_with_one_account(operator: Tenant, tenant: Tenant, stranger: Tenant, tmp_path: Path) -> None:
    id = operator("RegisterImage", Name="mine", ImageLocation=f"file://{qcow2(tmp_path / 'a.qcow2')}")["ImageId"]
    operator("ModifyImageAttribute", ImageId=id, LaunchPermission={"Add": [{"UserId": tenant.account.id}]})
    assert ids(tenant) == ids(tenant, ExecutableUsers=["self"]) == ids(tenant, Owners=[operator.account.id]) == [id]
    assert ids(tenant, Owners=["self"]) == []
    assert ids(stranger) == []
    assert stranger.refused("DescribeImages", ImageIds=[id]) == "InvalidAMIID.NotFound"
    assert tenant.refused("DeregisterImage", ImageId=id) == "AuthFailure"
    permissions = operator("DescribeImageAttribute", ImageId=id, Attribute="launchPermission")["LaunchPermissions"]
    assert permissions == [{"UserId": tenant.account.id}]
    operator(
        "ModifyImageAttribute",
        ImageId=id,
        Attribute="launchPermission",
        OperationType="remove",
        UserIds=[tenant.account.id],
    )
    assert ids(tenant) == []
    for item in ({"UserId": "alice"}, {"Group": "friends"}, {"Group": "all", "UserId": "alice"}):
        wrong = {"ImageId": id, "LaunchPermission": {"Add": [item]}}
        assert operator.refused("ModifyImageAttribute", **wrong) == "InvalidAMIAttributeItemValue"

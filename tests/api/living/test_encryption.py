"""Goal: volumes, snapshots and images are encrypted when somebody asked for it, when what they are made of is, or by default;
under the key that was named; and nothing encrypted is made unencrypted or shared by its default key. A host has the keys
opened of what it was given, and no others. Method: whole calls against a cloud with simulated hosts."""

from typing import Any

import msgspec
import pytest

from alto.api.hosts.session import HostSessions
from alto.api.vault import Vault
from alto.daemons.server import CONTAINER_IMAGE_ID, TINY_IMAGE_ID
from alto.model.errors import Refused
from alto.model.hosts import Capabilities, Host
from alto.model.images import Image
from alto.model.instances import Instance
from alto.model.sessions import Hello
from alto.model.volumes import Snapshot, Volume
from tests.api.cloud import REGIONS, Tenant
from tests.api.living.things import ZONE, copied, disks, image, imaged, instance_of, launched, made, until, volume

REGION = REGIONS[0]
KEY = f"arn:aws:kms:{REGION}:012345678910:key/abcd1234-a123-456a-a12b-a123b4cd56ef"


def key_of(tenant: Tenant, volume_id: str) -> str | None:
    shown = volume(tenant, volume_id)
    assert shown["Encrypted"] is ("KmsKeyId" in shown)
    return shown.get("KmsKeyId")


def snapshot(tenant: Tenant, id: str) -> dict[str, Any]:
    (found,) = tenant("DescribeSnapshots", SnapshotIds=[id])["Snapshots"]
    return dict(found)


def amazons(tenant: Tenant) -> str:
    """The ARN that volumes under the account's `alias/aws/ebs` show."""
    return str(tenant("ResetEbsDefaultKmsKeyId")["KmsKeyId"])


def by_default(tenant: Tenant, on: bool) -> None:
    tenant("EnableEbsEncryptionByDefault" if on else "DisableEbsEncryptionByDefault")


def test_the_key_of_a_volume_is_the_one_that_was_named(tenant: Tenant, stranger: Tenant) -> None:
    own = amazons(tenant)
    account = tenant.account.id
    assert own.startswith(f"arn:aws:kms:{REGION}:{account}:key/")
    assert amazons(tenant) == own != amazons(stranger) != amazons(tenant.in_region(REGIONS[1]))
    assert key_of(tenant, made(tenant)) is None
    assert key_of(tenant, made(tenant, Encrypted=False)) is None
    first = tenant("CreateVolume", AvailabilityZone=ZONE, Size=1, Encrypted=True)
    assert (first["Encrypted"], first["KmsKeyId"]) == (True, own)
    id = "1234abcd-12ab-34cd-56ef-1234567890ab"
    for given, shown in (
        (KEY, KEY),
        (id, f"arn:aws:kms:{REGION}:{account}:key/{id}"),
        ("alias/aws/ebs", own),
        (f"arn:aws:kms:{REGION}:{account}:alias/aws/ebs", own),
    ):
        assert key_of(tenant, made(tenant, Encrypted=True, KmsKeyId=given)) == shown
    alias = key_of(tenant, made(tenant, Encrypted=True, KmsKeyId="alias/mine"))
    assert alias == key_of(tenant, made(tenant, Encrypted=True, KmsKeyId=f"arn:aws:kms:{REGION}:{account}:alias/mine"))
    assert str(alias).startswith(f"arn:aws:kms:{REGION}:{account}:key/")
    assert alias != own

    def refused(**parameters: Any) -> str:
        return tenant.refused("CreateVolume", AvailabilityZone=ZONE, Size=1, **parameters)

    assert refused(KmsKeyId=KEY) == refused(KmsKeyId=KEY, Encrypted=False) == "InvalidParameterDependency"
    for wrong in ("no key", "alias/", f"arn:aws:kms:{REGIONS[1]}:012345678910:key/{id}", "arn:aws:s3:::bucket"):
        assert refused(Encrypted=True, KmsKeyId=wrong) == "InvalidParameterValue", wrong
    assert refused(Encrypted=True, DryRun=True) == "DryRunOperation"
    for value, count in (("true", 7), ("false", 2)):
        found = tenant("DescribeVolumes", Filters=[{"Name": "encrypted", "Values": [value]}])["Volumes"]
        assert len(found) == count


def test_what_is_made_of_something_encrypted_is_encrypted(tenant: Tenant) -> None:
    first = copied(tenant, made(tenant, Size=1, Encrypted=True, KmsKeyId=KEY))
    assert (snapshot(tenant, first)["Encrypted"], snapshot(tenant, first)["KmsKeyId"]) == (True, KEY)
    assert key_of(tenant, made(tenant, SnapshotId=first)) == KEY
    assert key_of(tenant, made(tenant, SnapshotId=first, Encrypted=True, KmsKeyId="alias/b")) not in (None, KEY)
    refusal = tenant.refused("CreateVolume", AvailabilityZone=ZONE, SnapshotId=first, Encrypted=False)
    assert refusal == "InvalidParameterValue"

    plain = copied(tenant, made(tenant, Size=1))
    assert snapshot(tenant, plain)["Encrypted"] is False
    assert "KmsKeyId" not in snapshot(tenant, plain)
    assert key_of(tenant, made(tenant, SnapshotId=plain)) is None
    assert key_of(tenant, made(tenant, SnapshotId=plain, Encrypted=True, KmsKeyId=KEY)) == KEY

    def copy(source: str, **parameters: Any) -> str | None:
        id = tenant("CopySnapshot", SourceRegion=REGION, SourceSnapshotId=source, **parameters)["SnapshotId"]
        until(tenant, lambda: snapshot(tenant, id)["State"] == "completed")
        return snapshot(tenant, id).get("KmsKeyId")

    # A copy has the default key whatever its source had, as EC2 has it.
    assert copy(first) == copy(plain, Encrypted=True) == amazons(tenant)
    assert copy(plain) is None
    assert copy(plain, Encrypted=True, KmsKeyId=KEY) == KEY
    refusal = tenant.refused("CopySnapshot", SourceRegion=REGION, SourceSnapshotId=first, Encrypted=False)
    assert refusal == "InvalidParameterValue"
    encrypted = [{"Name": "encrypted", "Values": ["true"]}]
    assert len(tenant("DescribeSnapshots", OwnerIds=["self"], Filters=encrypted)["Snapshots"]) == 4


def test_launches_and_images(tenant: Tenant) -> None:
    own = amazons(tenant)
    mappings: list[dict[str, Any]] = [
        {"DeviceName": "/dev/sda1", "Ebs": {"Encrypted": True}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "Encrypted": True, "KmsKeyId": KEY}},
        {"DeviceName": "/dev/sdg", "Ebs": {"VolumeSize": 1}},
    ]
    expected = {"/dev/sda1": own, "/dev/sdf": KEY, "/dev/sdg": None}
    instance = launched(tenant, BlockDeviceMappings=mappings)

    def keys(instance: str) -> dict[str, str | None]:
        return {name: each.get("KmsKeyId") for name, each in disks(tenant, instance).items()}

    assert keys(instance) == expected
    # Also by a template.
    data = {"ImageId": TINY_IMAGE_ID, "InstanceType": "t2.nano", "BlockDeviceMappings": mappings}
    tenant("CreateLaunchTemplate", LaunchTemplateName="crypt", LaunchTemplateData=data)
    (by_template,) = tenant("RunInstances", LaunchTemplate={"LaunchTemplateName": "crypt"}, MinCount=1, MaxCount=1)["Instances"]
    assert keys(by_template["InstanceId"]) == expected
    like = tenant("GetLaunchTemplateData", InstanceId=instance)["LaunchTemplateData"]["BlockDeviceMappings"][0]["Ebs"]
    assert (like["Encrypted"], like["KmsKeyId"]) == (True, own)

    # An image of it, and what is launched from that: the same keys, unless another is asked for.
    id = imaged(tenant, instance)
    shown = {each["DeviceName"]: each["Ebs"] for each in image(tenant, id)["BlockDeviceMappings"]}
    assert {name: each.get("KmsKeyId") for name, each in shown.items()} == expected
    assert [each["Encrypted"] for each in shown.values()] == [True, True, False]
    found = tenant("DescribeImages", Owners=["self"], Filters=[{"Name": "block-device-mapping.encrypted", "Values": ["true"]}])
    assert [each["ImageId"] for each in found["Images"]] == [id]
    assert keys(launched(tenant, ImageId=id)) == expected
    other = [{"DeviceName": "/dev/sdg", "Ebs": {"Encrypted": True}}]
    assert keys(launched(tenant, ImageId=id, BlockDeviceMappings=other)) == {**expected, "/dev/sdg": own}
    bare = [{"DeviceName": "/dev/sdf", "Ebs": {"Encrypted": False}}]
    wish = {"ImageId": id, "MinCount": 1, "MaxCount": 1, "BlockDeviceMappings": bare}
    assert tenant.refused("RunInstances", **wish) == "InvalidParameterValue"
    asked = [{"DeviceName": "/dev/sdg", "Ebs": {"Encrypted": True}}]
    refusal = tenant.refused("CreateImage", InstanceId=instance, Name="other", BlockDeviceMappings=asked)
    assert refusal == "InvalidBlockDeviceMapping"
    ignored = [{"DeviceName": "/dev/sda1", "Ebs": {"Encrypted": False}}]
    still = imaged(tenant, instance, Name="still", BlockDeviceMappings=ignored)
    assert image(tenant, still)["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    tenant("DeregisterImage", ImageId=still, DeleteAssociatedSnapshots=True)

    # An encrypted copy of an image: of its snapshots; and of one whose root is the image itself, what its launches write.
    copy = tenant("CopyImage", SourceRegion=REGION, SourceImageId=id, Name="copy", Encrypted=True, KmsKeyId=KEY)["ImageId"]
    until(tenant, lambda: image(tenant, copy)["State"] == "available")
    assert {each["Ebs"]["KmsKeyId"] for each in image(tenant, copy)["BlockDeviceMappings"]} == {KEY}
    assert set(keys(launched(tenant, ImageId=copy)).values()) == {KEY}
    tiny = tenant("CopyImage", SourceRegion=REGION, SourceImageId=TINY_IMAGE_ID, Name="tiny", Encrypted=True)["ImageId"]
    assert image(tenant, tiny)["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    assert keys(launched(tenant, ImageId=tiny)) == {"/dev/sda1": own}

    # An image that is registered of a snapshot, with an empty volume beside it.
    root = shown["/dev/sda1"]["SnapshotId"]
    registered = tenant(
        "RegisterImage",
        Name="registered",
        RootDeviceName="/dev/xvda",
        VirtualizationType="hvm",
        BlockDeviceMappings=[
            {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": root}},
            {"DeviceName": "/dev/sdh", "Ebs": {"VolumeSize": 1, "Encrypted": True}},
        ],
    )["ImageId"]
    assert [each["Ebs"]["Encrypted"] for each in image(tenant, registered)["BlockDeviceMappings"]] == [True, True]
    assert keys(launched(tenant, ImageId=registered)) == {"/dev/xvda": own, "/dev/sdh": own}
    for encrypted in (False, True):  # "regardless of the value"
        refusal = tenant.refused(
            "RegisterImage",
            Name="registered 2",
            RootDeviceName="/dev/xvda",
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": root, "Encrypted": encrypted}}],
        )
        assert refusal == "InvalidBlockDeviceMapping"


def test_encryption_by_default(tenant: Tenant, stranger: Tenant) -> None:
    own = amazons(tenant)
    assert tenant("GetEbsEncryptionByDefault")["EbsEncryptionByDefault"] is False
    assert tenant("GetEbsDefaultKmsKeyId")["KmsKeyId"] == "alias/aws/ebs"
    assert tenant("EnableEbsEncryptionByDefault")["EbsEncryptionByDefault"] is True
    assert tenant("GetEbsEncryptionByDefault")["EbsEncryptionByDefault"] is True
    assert tenant.in_region(REGIONS[1])("GetEbsEncryptionByDefault")["EbsEncryptionByDefault"] is False
    assert stranger("GetEbsEncryptionByDefault")["EbsEncryptionByDefault"] is False
    assert key_of(stranger, made(stranger)) is None
    assert key_of(tenant, made(tenant)) == key_of(tenant, made(tenant, Encrypted=False)) == own
    assert tenant("ModifyEbsDefaultKmsKeyId", KmsKeyId=KEY)["KmsKeyId"] == KEY
    assert tenant("GetEbsDefaultKmsKeyId")["KmsKeyId"] == KEY
    assert tenant.refused("ModifyEbsDefaultKmsKeyId", KmsKeyId="no key") == "InvalidParameterValue"
    (root,) = disks(tenant, launched(tenant)).values()
    assert root["KmsKeyId"] == KEY
    assert tenant.refused("EnableEbsEncryptionByDefault", DryRun=True) == "DryRunOperation"
    assert tenant("DisableEbsEncryptionByDefault")["EbsEncryptionByDefault"] is False
    assert key_of(tenant, made(tenant)) is None
    # The key is the default of what is asked to be encrypted, too.
    assert key_of(tenant, made(tenant, Encrypted=True)) == KEY
    assert tenant("ResetEbsDefaultKmsKeyId")["KmsKeyId"] == own
    assert key_of(tenant, made(tenant, Encrypted=True)) == own


def test_a_container_is_not_encrypted_and_does_not_say_so(tenant: Tenant) -> None:
    source = tenant.cloud.store.read(lambda reader: reader.get(Image, TINY_IMAGE_ID))
    tenant.cloud.put(msgspec.structs.replace(source, id=CONTAINER_IMAGE_ID, version=0, source="tiny-container"))
    wish: dict[str, Any] = {"ImageId": CONTAINER_IMAGE_ID, "MinCount": 1, "MaxCount": 1}
    mapped = [{"DeviceName": "/dev/sda1", "Ebs": {"Encrypted": True}}]
    assert tenant.refused("RunInstances", BlockDeviceMappings=mapped, **wish) == "UnsupportedOperation"
    by_default(tenant, True)
    assert tenant.refused("RunInstances", **wish) == "UnsupportedOperation"


def test_sharing(tenant: Tenant, stranger: Tenant) -> None:
    mine = copied(tenant, made(tenant, Size=1, Encrypted=True))
    theirs = copied(tenant, made(tenant, Size=1, Encrypted=True, KmsKeyId=KEY))
    to_stranger = {"Attribute": "createVolumePermission", "OperationType": "add", "UserIds": [stranger.account.id]}
    to_all = {"Attribute": "createVolumePermission", "OperationType": "add", "GroupNames": ["all"]}
    assert tenant.refused("ModifySnapshotAttribute", SnapshotId=mine, **to_stranger) == "OperationNotPermitted"
    assert tenant.refused("ModifySnapshotAttribute", SnapshotId=theirs, **to_all) == "OperationNotPermitted"
    tenant("ModifySnapshotAttribute", SnapshotId=theirs, **to_stranger)
    # What another account makes of it is under that account's own key, and another real one.
    id = made(stranger, SnapshotId=theirs)
    assert key_of(stranger, id) == amazons(stranger)
    sealed = {
        one.encryption.sealed_key
        for one in (find(stranger, Volume, id), find(tenant, Snapshot, theirs))
        if one.encryption is not None
    }
    assert len(sealed) == 2
    by = launched(tenant, BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"Encrypted": True}}])
    image_id = imaged(tenant, by)
    permission = {"LaunchPermission": {"Add": [{"UserId": stranger.account.id}]}}
    assert tenant.refused("ModifyImageAttribute", ImageId=image_id, **permission) == "InvalidParameter"


def find(tenant: Tenant, kind: type[Any], id: str) -> Any:
    return tenant.cloud.store.read(lambda reader: reader.get(kind, id))


def test_a_host_opens_what_it_was_given_and_nothing_else(tenant: Tenant) -> None:
    """And each launch, and each device, has a key of its own, which is nowhere in the clear."""
    mappings = [
        {"DeviceName": "/dev/sda1", "Ebs": {"Encrypted": True}},
        {"DeviceName": "/dev/sdf", "Ebs": {"Encrypted": True, "VolumeSize": 1}},
    ]
    first, second = launched(tenant, BlockDeviceMappings=mappings), launched(tenant, BlockDeviceMappings=mappings)
    rows = [find(tenant, Instance, id) for id in (first, second)]
    sealed = [key for row in rows for key in (row.root.sealed_key, row.volumes[0].sealed_key)]
    assert len(set(sealed)) == 4
    settings = tenant.cloud.settings
    assert settings.vault is not None
    keys = [settings.vault.open(one) for one in sealed]
    assert len(set(keys)) == 4
    for table in (Instance, Volume):
        rows_of = tenant.cloud.store.read(lambda reader, table=table: reader.where(table))
        text = msgspec.json.encode(rows_of).decode()
        assert not any(key in text for key in keys)

    async def main() -> None:
        sessions = HostSessions(tenant.cloud.world, tenant.cloud.store, settings.cloud_id, settings.vault)
        capabilities = Capabilities(kind="qemu", accelerator="tcg", vcpus=4, memory_mib=4096)
        other = Hello(cloud_id=settings.cloud_id, host_id="h-other", name="other", capabilities=capabilities)
        session = await sessions.hello(other)
        with pytest.raises(Refused):
            await sessions.open_key(session, sealed[0])
        host = find(tenant, Host, rows[0].host_id)
        own = await sessions.hello(
            Hello(cloud_id=settings.cloud_id, host_id=host.id, name=host.name, capabilities=host.capabilities)
        )
        assert await sessions.open_key(own, sealed[0]) == keys[0]
        # A cloud with other keys opens nothing, and says so.
        stranger = HostSessions(tenant.cloud.world, tenant.cloud.store, settings.cloud_id, Vault(bytes(32)))
        session = await stranger.hello(
            Hello(cloud_id=settings.cloud_id, host_id=host.id, name=host.name, capabilities=host.capabilities)
        )
        with pytest.raises(Refused, match="was not sealed by this cloud"):
            await stranger.open_key(session, sealed[0])

    tenant.cloud.runner.run(main())
    assert instance_of(tenant, first)["State"]["Name"] == "running"

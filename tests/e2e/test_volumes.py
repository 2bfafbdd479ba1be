"""Goal: what a guest wrote is where EC2 says it is. Method: boto3 and ssh against real machines: a volume goes from one guest
to another, over a kill -9 of the control plane; snapshots and images are made into new disks, which are read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cloud import Cloud, ssh, until

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

IMAGE = "ami-0a170000000000001"
BOOT_S = 240
PATIENCE = {"Delay": 1, "MaxAttempts": 180}


class Guests:
    """Machines that are terminated at the end."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.cloud, self.ec2, self.ids = cloud, cloud.client(), list[str]()
        self.key = folder / "me.pem"
        self.key.write_text(self.ec2.create_key_pair(KeyName="volumes", KeyType="ed25519")["KeyMaterial"])
        self.key.chmod(0o600)
        group = self.ec2.create_security_group(GroupName="volumes", Description="ssh")
        self.group = group["GroupId"]
        self.ec2.authorize_security_group_ingress(
            GroupId=self.group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
        )

    def launch(self, **more: Any) -> dict[str, Any]:
        wish = {"ImageId": IMAGE, "InstanceType": "m1.tiny", "KeyName": "volumes", "SecurityGroupIds": [self.group]} | more
        (made,) = self.ec2.run_instances(**wish, MinCount=1, MaxCount=1)["Instances"]
        self.ids.append(made["InstanceId"])
        self.ec2.get_waiter("instance_running").wait(InstanceIds=[made["InstanceId"]], WaiterConfig=PATIENCE)
        return self.reached(made["InstanceId"])

    def reached(self, id: str) -> dict[str, Any]:
        (found,) = self.ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"]
        address = found["PublicIpAddress"]
        until(lambda: ssh(self.key, address, "true").returncode == 0, f"{id} answers ssh", timeout_s=BOOT_S, every_s=1)
        return dict(found)

    def run(self, guest: dict[str, Any], command: str) -> str:
        done = ssh(self.key, guest["PublicIpAddress"], command, timeout_s=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def device(self, guest: dict[str, Any], volume_id: str) -> str:
        """The guest's name of the volume, found by its serial number."""
        serial = volume_id.replace("-", "")
        command = f"for each in /sys/block/vd*; do [ $(cat $each/serial) = {serial} ] && basename $each; done; true"
        return str(until(lambda: self.run(guest, command), f"{volume_id} is in the guest", timeout_s=60, every_s=0.5))

    def wait(self, waiter: str, **which: Any) -> None:
        self.ec2.get_waiter(waiter).wait(**which, WaiterConfig=PATIENCE)

    def volume(self, **wish: Any) -> str:
        zone = self.ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
        id: str = self.ec2.create_volume(AvailabilityZone=zone, **wish)["VolumeId"]
        self.wait("volume_available", VolumeIds=[id])
        return id

    def attach(self, volume_id: str, guest: dict[str, Any], device: str = "/dev/sdh") -> str:
        self.ec2.attach_volume(VolumeId=volume_id, InstanceId=guest["InstanceId"], Device=device)
        self.wait("volume_in_use", VolumeIds=[volume_id])
        return self.device(guest, volume_id)

    def detach(self, volume_id: str) -> None:
        self.ec2.detach_volume(VolumeId=volume_id)
        self.wait("volume_available", VolumeIds=[volume_id])

    def end(self) -> None:
        if self.ids:
            self.ec2.terminate_instances(InstanceIds=self.ids)
            self.wait("instance_terminated", InstanceIds=self.ids)
        for volume in self.ec2.describe_volumes()["Volumes"]:
            self.ec2.delete_volume(VolumeId=volume["VolumeId"])
        for image in self.ec2.describe_images(Owners=["self"])["Images"]:
            if image["ImageId"] != IMAGE:
                self.ec2.deregister_image(ImageId=image["ImageId"])
        for snapshot in self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]:
            self.ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])


@pytest.fixture
def guests(cloud: Cloud, tmp_path: Path) -> Iterator[Guests]:
    guests = Guests(cloud, tmp_path)
    yield guests
    guests.end()
    guests.ec2.delete_key_pair(KeyName="volumes")
    guests.ec2.delete_security_group(GroupId=guests.group)
    storage = cloud.state / "host" / "storage"
    until(
        lambda: not [*(storage / "volumes").iterdir(), *(storage / "snapshots").iterdir()],
        "nothing is left in the storage",
        timeout_s=60,
    )


def test_data_goes_from_guest_to_guest_and_through_snapshots_and_images(cloud: Cloud, guests: Guests) -> None:
    first, second = guests.launch(), guests.launch()
    data = guests.volume(Size=1)
    name = guests.attach(data, first)
    guests.run(first, f"echo 'of the first' | dd of=/dev/{name} conv=fsync")
    snapshot = guests.ec2.create_snapshot(VolumeId=data)["SnapshotId"]
    guests.wait("snapshot_completed", SnapshotIds=[snapshot])

    # Attached while the control plane dies, grown when it is back, and moved.
    cloud.kill()
    cloud.up()
    guests.ec2.modify_volume(VolumeId=data, Size=2)
    size = f"cat /sys/block/{name}/size"
    until(lambda: guests.run(first, size) == str((2 << 30) // 512), "the guest sees the new size", timeout_s=60, every_s=0.5)
    guests.run(first, f"echo 'and later' | dd of=/dev/{name} seek=3000000 conv=fsync")
    guests.detach(data)
    name = guests.attach(data, second)
    assert guests.run(second, f"head -n 1 /dev/{name}") == "of the first"
    assert guests.run(second, f"dd if=/dev/{name} bs=512 skip=3000000 count=1 | head -n 1") == "and later"

    # The copy is of its moment, and needs its volume no more.
    guests.detach(data)
    guests.ec2.delete_volume(VolumeId=data)
    again = guests.volume(SnapshotId=snapshot)
    name = guests.attach(again, second)
    assert guests.run(second, f"head -n 1 /dev/{name}") == "of the first"

    # An image of a guest that runs: what it has not written yet is in it, since it powers off meanwhile.
    guests.run(second, "echo 'from the image' >/www/made.txt")
    image = guests.ec2.create_image(InstanceId=second["InstanceId"], Name="made")["ImageId"]
    guests.wait("image_available", ImageIds=[image])
    third = guests.launch(ImageId=image)
    assert guests.run(third, "cat /www/made.txt") == "from the image"
    (copy,) = [each for each in third["BlockDeviceMappings"] if each["DeviceName"] == "/dev/sdh"]
    name = guests.device(third, copy["Ebs"]["VolumeId"])
    assert guests.run(third, f"head -n 1 /dev/{name}") == "of the first"
    second = guests.reached(second["InstanceId"])
    assert guests.run(second, "cat /www/made.txt") == "from the image"


def test_a_guest_boots_from_the_root_that_it_was_given(guests: Guests) -> None:
    """As repairs and roll-backs go: the root is taken out, looked at from another guest, and put back, or a copy of it."""
    guest, doctor = guests.launch(), guests.launch()
    id, root = guest["InstanceId"], guest["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    guests.run(guest, "echo 'as it was' >/www/which.txt; sync")
    guests.ec2.stop_instances(InstanceIds=[id])
    guests.wait("instance_stopped", InstanceIds=[id])
    guests.detach(root)
    snapshot = guests.ec2.create_snapshot(VolumeId=root)["SnapshotId"]
    guests.wait("snapshot_completed", SnapshotIds=[snapshot])

    name = guests.attach(root, doctor)
    guests.run(doctor, f"mkdir /m && mount /dev/{name} /m && echo 'repaired' >/m/var/www/which.txt && umount /m")
    guests.detach(root)
    for volume, words in ((root, "repaired"), (guests.volume(SnapshotId=snapshot), "as it was")):
        guests.ec2.attach_volume(VolumeId=volume, InstanceId=id, Device=guest["RootDeviceName"])
        guests.wait("volume_in_use", VolumeIds=[volume])
        guests.ec2.start_instances(InstanceIds=[id])
        guests.wait("instance_running", InstanceIds=[id])
        assert guests.run(guests.reached(id), "cat /www/which.txt") == words
        guests.ec2.stop_instances(InstanceIds=[id])
        guests.wait("instance_stopped", InstanceIds=[id])
        guests.detach(volume)

"""Goal: an encrypted root and an encrypted volume are used like others, over a kill -9 of the control plane, a stop and an
image, and no file of the cloud shows what the guest wrote. Method: boto3 and ssh against real machines, then a search in every
file."""

import pytest

from tests.drivers.compute.rigs import files_with
from tests.e2e.cloud import Cloud, until
from tests.e2e.test_volumes import Guests, guests  # noqa: F401 (a fixture)

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

WORD = b"Hallimasch und Maronen"


def test_what_is_written_stays_a_secret(cloud: Cloud, guests: Guests) -> None:  # noqa: F811
    mappings = [
        {"DeviceName": "/dev/sda1", "Ebs": {"Encrypted": True}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "Encrypted": True}},
    ]
    first = guests.launch(BlockDeviceMappings=mappings)
    volumes = {one["DeviceName"]: one["Ebs"]["VolumeId"] for one in first["BlockDeviceMappings"]}
    shown = guests.ec2.describe_volumes(VolumeIds=list(volumes.values()))["Volumes"]
    assert all(each["Encrypted"] for each in shown)
    plain = guests.volume(Size=1)
    open_name, name = guests.attach(plain, first), guests.device(first, volumes["/dev/sdf"])
    # Spelled otherwise on the way, so that no log of a command shows it either.
    word = "$(echo Hallimasch) und Maronen"
    guests.run(first, f'echo "{word}" >/www/secret.txt; echo "{word}" | dd of=/dev/{name} conv=fsync; sync')
    guests.run(first, f"echo 'everybody may read this' | dd of=/dev/{open_name} conv=fsync")
    assert files_with(cloud.state, b"everybody may read this") == [f"host/storage/volumes/{plain}/disk.qcow2"]
    assert files_with(cloud.state, WORD) == []

    # The guest needs nobody while it runs; a start asks the server again.
    cloud.kill()
    assert guests.run(first, "cat /www/secret.txt") == WORD.decode()
    cloud.up()
    guests.ec2.stop_instances(InstanceIds=[first["InstanceId"]])
    guests.wait("instance_stopped", InstanceIds=[first["InstanceId"]])
    guests.ec2.start_instances(InstanceIds=[first["InstanceId"]])
    guests.wait("instance_running", InstanceIds=[first["InstanceId"]])
    first = guests.reached(first["InstanceId"])
    assert guests.run(first, "cat /www/secret.txt") == WORD.decode()
    name = guests.device(first, volumes["/dev/sdf"])
    assert guests.run(first, f"head -n 1 /dev/{name}") == WORD.decode()

    # An image of it, and a machine of that: encrypted, and the same data.
    image = guests.ec2.create_image(InstanceId=first["InstanceId"], Name="secret")["ImageId"]
    guests.wait("image_available", ImageIds=[image])
    second = guests.launch(ImageId=image)
    assert guests.run(second, "cat /www/secret.txt") == WORD.decode()
    (kept,) = [one["Ebs"]["VolumeId"] for one in second["BlockDeviceMappings"] if one["DeviceName"] == "/dev/sdf"]
    assert guests.run(second, f"head -n 1 /dev/{guests.device(second, kept)}") == WORD.decode()
    until(lambda: guests.run(second, "sync; echo done"), "the guest has written everything", timeout_s=30, every_s=1)
    assert files_with(cloud.state, WORD) == []

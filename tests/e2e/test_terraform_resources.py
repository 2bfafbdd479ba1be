"""Goal: Terraform's resources beside those of a network (test_networks.py) are made, changed in place, imported and destroyed,
and the provider finds each as its configuration says it.
Method: terraform/resources.tf, unmodified provider, simulated hosts; what it made is read with boto3."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cloud import Cloud
from tests.e2e.commands import needs_terraform, terraform_of
from tests.e2e.test_networks import everything

pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]

CHANGED = ("-var", "stage=two")

# By what the provider's documentation imports those kinds that have no id of their own.
IMPORTED_BY = {
    "aws_ami_launch_permission": "{account_id}/{image_id}",
    "aws_ebs_default_kms_key": "{key_arn}",
    "aws_ec2_managed_prefix_list_entry": "{prefix_list_id},{cidr}",
    "aws_ec2_tag": "{resource_id},{key}",
    "aws_internet_gateway_attachment": "{internet_gateway_id}:{vpc_id}",
    "aws_network_interface_sg_attachment": "{network_interface_id}_{security_group_id}",
    "aws_placement_group": "{name}",
    "aws_security_group_rule": "{security_group_id}_{type}_{protocol}_{from_port}_{to_port}_{prefix_list_ids[0]}",
    "aws_vpc_endpoint_route_table_association": "{vpc_endpoint_id}/{route_table_id}",
    "aws_vpc_security_group_vpc_association": "{security_group_id},{vpc_id}",
}
# It imports these not at all, or without an argument that EC2 does not keep.
NOT_IMPORTED = {
    "aws_ami_copy",
    "aws_ebs_snapshot_copy",
    "aws_ec2_instance_metadata_defaults",
    "aws_instance",
    "aws_main_route_table_association",
    "aws_snapshot_create_volume_permission",
    "aws_vpc_peering_connection_accepter",
}


@needs_terraform
def test_terraform_makes_changes_imports_and_destroys_resources(simulated: Cloud, tmp_path: Path) -> None:
    terraform = terraform_of(simulated, "resources.tf", tmp_path)
    ec2 = simulated.client()
    before = left(ec2)
    terraform("apply", "-auto-approve")
    first = seen(ec2)
    assert first == {
        "key": "1",
        "snapshots": "block-all-sharing",
        "console": True,
        "metadata": ("required", 2),
        "volume": (8, 3000, 125),
        "shared with": ["123456789012"] * 2,
        "entries": 3,
        "addresses": 2,
        "machine": (True, "optional", "standard", ["ends"], 2),
        "from the template": (True, 3, "required", "resource-name"),
        "root": "one",
    }
    terraform("apply", "-auto-approve", *CHANGED)
    assert seen(ec2) == {
        **first,
        "key": "2",
        "snapshots": "block-new-sharing",
        "console": False,
        "metadata": ("optional", 3),
        "volume": (9, 3500, 150),
        "entries": 2,
        "addresses": 4,
        "machine": (False, "required", "unlimited", ["default"], 2),
        "root": "two",
    }

    # Forgotten and found again, they are what the configuration says; and nothing of the others has changed.
    state = tmp_path / "terraform.tfstate"
    known = state.read_text()
    ids = importable(json.loads(known))
    terraform("state", "rm", *ids)
    blocks = [f'import {{\n  to = {address}\n  id = "{id}"\n}}\n' for address, id in ids.items()]
    (tmp_path / "imports.tf").write_text("".join(blocks))
    plan = terraform("plan", *CHANGED).stdout
    assert f"Plan: {len(ids)} to import, 0 to add, 0 to change, 0 to destroy." in plan, plan
    state.write_text(known)
    (tmp_path / "imports.tf").unlink()

    terraform("destroy", "-auto-approve", *CHANGED)
    assert left(ec2) == before


def importable(state: dict[str, Any]) -> dict[str, str]:
    """Resource's address -> id to import it by."""
    found = {}
    for one in state["resources"]:
        if one["mode"] == "managed" and one["type"] not in NOT_IMPORTED:
            for each in one["instances"]:
                index = f"[{each['index_key']}]" if "index_key" in each else ""
                form = IMPORTED_BY.get(one["type"], "{id}")
                found[f"{one['type']}.{one['name']}{index}"] = form.format_map(each["attributes"])
    return found


def left(ec2: Any) -> dict[str, Any]:
    """What there is, and what the account has chosen."""
    states = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
    return {
        **everything(ec2),
        "instances": ec2.describe_instances(Filters=states)["Reservations"],
        "volumes": ec2.describe_volumes()["Volumes"],
        "snapshots": ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"],
        "images": [one["ImageId"] for one in ec2.describe_images()["Images"]],
        "endpoints": ec2.describe_vpc_endpoints()["VpcEndpoints"],
        "placement": ec2.describe_placement_groups()["PlacementGroups"],
        "key": ec2.get_ebs_default_kms_key_id()["KmsKeyId"],
        "sharing": ec2.get_snapshot_block_public_access_state()["State"],
        "console": ec2.get_serial_console_access_status()["SerialConsoleAccessEnabled"],
        "metadata": ec2.get_instance_metadata_defaults()["AccountLevel"],
    }


def seen(ec2: Any) -> dict[str, Any]:
    """What the configuration is about, as EC2 tells it."""
    made = [{"Name": "tag:made_by", "Values": ["terraform"]}]
    metadata = ec2.get_instance_metadata_defaults()["AccountLevel"]
    (volume,) = ec2.describe_volumes(Filters=[*made, {"Name": "tag:Name", "Values": ["data"]}])["Volumes"]
    (snapshot,) = ec2.describe_snapshots(Filters=[*made, {"Name": "description", "Values": ["as it was"]}])["Snapshots"]
    (image,) = ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": ["made"]}])["Images"]
    permission = ec2.describe_snapshot_attribute(SnapshotId=snapshot["SnapshotId"], Attribute="createVolumePermission")
    shared = ec2.describe_image_attribute(ImageId=image["ImageId"], Attribute="launchPermission")["LaunchPermissions"]
    (prefixes,) = [one for one in ec2.describe_managed_prefix_lists()["PrefixLists"] if one["OwnerId"] != "AWS"]
    attached = [{"Name": "group-name", "Values": ["parts"]}, {"Name": "interface-type", "Values": ["interface"]}]
    (free,) = ec2.describe_network_interfaces(Filters=attached)["NetworkInterfaces"]
    wide, other = (
        ec2.describe_instances(Filters=[{"Name": "placement-partition-number", "Values": [number]}])["Reservations"][0][
            "Instances"
        ][0]
        for number in ("1", "2")
    )
    protected = ec2.describe_instance_attribute(InstanceId=wide["InstanceId"], Attribute="disableApiTermination")
    (credits,) = ec2.describe_instance_credit_specifications(InstanceIds=[wide["InstanceId"]])["InstanceCreditSpecifications"]
    (root,) = ec2.describe_volumes(Filters=[*made, {"Name": "tag:Name", "Values": ["root"]}])["Volumes"]
    return {
        "key": ec2.get_ebs_default_kms_key_id()["KmsKeyId"].partition("key/")[2][:1],
        "snapshots": ec2.get_snapshot_block_public_access_state()["State"],
        "console": ec2.get_serial_console_access_status()["SerialConsoleAccessEnabled"],
        "metadata": (metadata["HttpTokens"], metadata["HttpPutResponseHopLimit"]),
        "volume": (volume["Size"], volume["Iops"], volume["Throughput"]),
        "shared with": [one["UserId"] for one in (*permission["CreateVolumePermissions"], *shared)],
        "entries": len(ec2.get_managed_prefix_list_entries(PrefixListId=prefixes["PrefixListId"])["Entries"]),
        "addresses": len(free["PrivateIpAddresses"]),
        "machine": (
            protected["DisableApiTermination"]["Value"],
            wide["MetadataOptions"]["HttpTokens"],
            credits["CpuCredits"],
            [group["GroupName"] for group in wide["SecurityGroups"]],
            len(wide["NetworkInterfaces"][0]["PrivateIpAddresses"]),
        ),
        "from the template": (
            "PublicIpAddress" in other,
            len(other["NetworkInterfaces"][0]["PrivateIpAddresses"]),
            other["MetadataOptions"]["HttpTokens"],
            other["PrivateDnsNameOptions"]["HostnameType"],
        ),
        "root": next(tag["Value"] for tag in root["Tags"] if tag["Key"] == "stage"),
    }

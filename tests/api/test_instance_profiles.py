"""Goal: an instance's profile is associated, told, exchanged and taken away as the EC2 reference says, and goes with the
instance. Method: whole calls through the gateway; the association's record is compared with what the instance shows."""

from typing import Any

import pytest
from msgspec.structs import replace

from alto.model.instances import Instance
from alto.model.profiles import ProfileAssociation
from alto.plan.instances import machine_of
from tests.api.cloud import Cloud, Tenant
from tests.api.rows import host, sound, tiny
from tests.api.test_launches import ONE


@pytest.fixture(autouse=True)
def room(cloud: Cloud) -> None:
    cloud.put(
        host(1, vcpus=8, memory_mib=1024),
        tiny(),
    )


def launch(tenant: Tenant, **more: Any) -> dict[str, Any]:
    return dict(tenant("RunInstances", **ONE, **more)["Instances"][0])


def associations(tenant: Tenant, **parameters: Any) -> list[dict[str, Any]]:
    return list(tenant("DescribeIamInstanceProfileAssociations", **parameters)["IamInstanceProfileAssociations"])


def profile(tenant: Tenant, id: str) -> dict[str, str] | None:
    shown = tenant("DescribeInstances", InstanceIds=[id])["Reservations"][0]["Instances"][0]
    found: dict[str, str] | None = shown.get("IamInstanceProfile")
    return found


def arn(tenant: Tenant, name: str) -> str:
    return f"arn:aws:iam::{tenant.account.id}:instance-profile/{name}"


def test_a_profile_comes_changes_and_goes(cloud: Cloud, tenant: Tenant) -> None:
    id = launch(tenant)["InstanceId"]
    assert associations(tenant) == []
    assert profile(tenant, id) is None
    made = tenant("AssociateIamInstanceProfile", InstanceId=id, IamInstanceProfile={"Name": "web"})
    first = made["IamInstanceProfileAssociation"]
    assert (first["InstanceId"], first["State"]) == (id, "associating")
    assert first["IamInstanceProfile"]["Arn"] == arn(tenant, "web")
    assert profile(tenant, id) == first["IamInstanceProfile"]
    (told,) = associations(tenant)
    assert (told["AssociationId"], told["State"]) == (first["AssociationId"], "associated")
    again = {"InstanceId": id, "IamInstanceProfile": {"Name": "other"}}
    assert tenant.refusal("AssociateIamInstanceProfile", **again) == (
        f"IncorrectState: There is an existing association for instance {id}"
    )

    other = {"Arn": arn(tenant, "path/other")}
    second = tenant("ReplaceIamInstanceProfileAssociation", AssociationId=first["AssociationId"], IamInstanceProfile=other)[
        "IamInstanceProfileAssociation"
    ]
    assert second["AssociationId"] != first["AssociationId"]
    assert [one["AssociationId"] for one in associations(tenant)] == [second["AssociationId"]]
    by_name = [{"Name": "iam-instance-profile.name", "Values": ["other"]}]
    assert len(tenant("DescribeInstances", Filters=by_name)["Reservations"]) == 1
    assert tenant.refused("DisassociateIamInstanceProfile", AssociationId=first["AssociationId"]) == (
        "InvalidAssociationID.NotFound"
    )
    # Whoever takes an instance's id for an association's hears what is wrong.
    for operation, more in (
        ("DisassociateIamInstanceProfile", {}),
        ("ReplaceIamInstanceProfileAssociation", {"IamInstanceProfile": other}),
    ):
        refusal = tenant.refusal(operation, AssociationId=id, **more)
        assert refusal == "InvalidParameterValue: Invalid value for associationId."
    assert sound(cloud) == []

    gone = tenant("DisassociateIamInstanceProfile", AssociationId=second["AssociationId"])
    assert gone["IamInstanceProfileAssociation"]["State"] == "disassociating"
    assert associations(tenant) == []
    assert profile(tenant, id) is None


def test_a_launch_has_its_profile_and_an_ending_takes_it_away(cloud: Cloud, tenant: Tenant) -> None:
    made = tenant("RunInstances", **{**ONE, "MinCount": 2, "MaxCount": 2}, IamInstanceProfile={"Name": "web"})["Instances"]
    ids = [one["InstanceId"] for one in made]
    assert [one["IamInstanceProfile"]["Arn"] for one in made] == [arn(tenant, "web")] * 2
    assert sorted(one["InstanceId"] for one in associations(tenant)) == sorted(ids)
    filters = [{"Name": "instance-id", "Values": [ids[1]]}, {"Name": "state", "Values": ["associated"]}]
    assert [one["InstanceId"] for one in associations(tenant, Filters=filters)] == [ids[1]]
    machine = cloud.store.read(lambda reader: machine_of(reader.get(Instance, ids[0])))
    assert machine.profile is not None
    assert machine.profile.arn == arn(tenant, "web"), "its host is told"
    template = tenant("GetLaunchTemplateData", InstanceId=ids[0])["LaunchTemplateData"]
    assert template["IamInstanceProfile"] == {"Arn": arn(tenant, "web")}
    tenant("TerminateInstances", InstanceIds=ids)
    assert associations(tenant) == []
    assert cloud.store.read(lambda reader: reader.where(ProfileAssociation)) == []
    assert tenant.refused("AssociateIamInstanceProfile", InstanceId=ids[0], IamInstanceProfile={"Name": "web"}) == (
        "IncorrectInstanceState"
    )


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({}, "MissingParameter"),
        ({"Name": "no spaces"}, "InvalidParameterValue"),
        ({"Arn": "web"}, "InvalidParameterValue"),
        ({"Arn": "arn:aws:iam::000000000000:instance-profile/web"}, "InvalidParameterValue"),
        ({"Arn": "arn:aws:iam::OWN:role/web"}, "InvalidParameterValue"),
        ({"Arn": "arn:aws:iam::OWN:instance-profile/web", "Name": "web"}, "InvalidParameterCombination"),
        ({"Arn": "arn:aws:iam::OWN:instance-profile/web", "Name": "db"}, "InvalidParameterCombination"),
    ],
)
def test_what_names_no_profile_is_refused(cloud: Cloud, tenant: Tenant, wanted: dict[str, str], code: str) -> None:
    wanted = {name: value.replace("OWN", tenant.account.id) for name, value in wanted.items()}
    id = launch(tenant)["InstanceId"]
    assert tenant.refused("AssociateIamInstanceProfile", InstanceId=id, IamInstanceProfile=wanted) == code
    if wanted:
        assert tenant.refused("RunInstances", **ONE, IamInstanceProfile=wanted) == code
    assert associations(tenant) == []


def test_the_audit_sees_an_association_that_its_instance_does_not_bear(cloud: Cloud, tenant: Tenant) -> None:
    launch(tenant, IamInstanceProfile={"Name": "web"})
    assert sound(cloud) == []
    (association,) = cloud.store.read(lambda reader: reader.where(ProfileAssociation))
    cloud.put(replace(association, arn="x"))
    assert any(association.id in sentence for sentence in sound(cloud))

"""The places of ids in the operations on instances, for `test_isolation.py`, and one of each thing that they name."""

from tests.api.cloud import Tenant
from tests.api.isolation_networks import ID, OWN, Row, row

ABSENT_WITHOUT_TAGS = {"profile association": "iip-assoc-00000000000000000"}

_PROFILE = {"Name": "role"}

ROWS: dict[tuple[str, str], Row] = {
    ("AssociateIamInstanceProfile", "InstanceId"): row("instance", InstanceId=ID, IamInstanceProfile=_PROFILE),
    ("DescribeIamInstanceProfileAssociations", "AssociationIds"): row("profile association", AssociationIds=[ID]),
    ("DisassociateIamInstanceProfile", "AssociationId"): row("profile association", AssociationId=ID),
    ("GetConsoleScreenshot", "InstanceId"): row("instance", InstanceId=ID),
    ("ModifyInstanceCpuOptions", "InstanceId"): row("instance", InstanceId=ID, CoreCount=1, ThreadsPerCore=1),
    ("ModifyInstanceMaintenanceOptions", "InstanceId"): row("instance", InstanceId=ID, AutoRecovery="disabled"),
    ("ModifyInstancePlacement", "GroupId"): row("placement group", InstanceId=OWN + "instance", GroupId=ID),
    ("ModifyInstancePlacement", "InstanceId"): row("instance", InstanceId=ID, GroupName=""),
    ("ModifyPrivateDnsNameOptions", "InstanceId"): row("instance", InstanceId=ID, EnableResourceNameDnsARecord=True),
    ("ReplaceIamInstanceProfileAssociation", "AssociationId"): row(
        "profile association", AssociationId=ID, IamInstanceProfile=_PROFILE
    ),
    ("ResetInstanceAttribute", "InstanceId"): row("instance", InstanceId=ID, Attribute="sourceDestCheck"),
}


def untagged_by(tenant: Tenant, instance: str) -> dict[str, str]:
    made = tenant("AssociateIamInstanceProfile", InstanceId=instance, IamInstanceProfile=_PROFILE)
    return {"profile association": made["IamInstanceProfileAssociation"]["AssociationId"]}

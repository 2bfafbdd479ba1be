"""Instance profiles: AssociateIamInstanceProfile and its kin, and what RunInstances says of one.

A profile is known by its ARN, or by its name within the account: there is no identity service yet that would know whether it
is there. Invariant: an instance has at most one, and the association's record and the instance say the same.
"""

import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import is_id_of, owned
from alto.api.ec2.paging import check_page, listing, page_of_records
from alto.model.errors import Refused
from alto.model.instances import Instance, Wish
from alto.model.profiles import InstanceProfile, ProfileAssociation, profile_id
from alto.store.store import Reader, Tx

_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_ARN = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):instance-profile(?:/[!-.0-~]+)*/[\w+=,.@-]{1,128}", re.ASCII)
ARN_MAX = 2048


class ProfileSpecification(msgspec.Struct, frozen=True, rename="pascal"):
    arn: str | None = None
    name: str | None = None


def find_arn(call: Call, wanted: ProfileSpecification) -> str:
    """Raises: Refused."""
    arn, name = wanted.arn, wanted.name
    if arn is not None and name is not None:
        raise Refused(
            "InvalidParameterCombination",
            "The parameter 'iamInstanceProfile.name' may not be used in combination with 'iamInstanceProfile.arn'",
        )
    if name is not None and not _NAME.fullmatch(name):
        raise Refused("InvalidParameterValue", f"Value ({name[:80]}) for parameter iamInstanceProfile.name is invalid.")
    if arn is None:
        if name is None:
            raise Refused("MissingParameter", "The request must contain the parameter IamInstanceProfile")
        return f"arn:aws:iam::{call.account}:instance-profile/{name}"
    match = _ARN.fullmatch(arn) if len(arn) <= ARN_MAX else None
    if match is None:
        raise Refused(
            "InvalidParameterValue", f"Value ({arn[:80]}) for parameter iamInstanceProfile.arn is invalid. Invalid IAM ARN"
        )
    if match[1] != call.account:
        raise Refused(
            "InvalidParameterValue",
            f"Value ({arn[:80]}) for parameter iamInstanceProfile.arn is invalid. It is a profile of another account",
        )
    return arn


def associate(tx: Tx, instance: Instance, id: str, arn: str, now: float) -> Instance:
    """The instance with the profile; the caller writes it."""
    tx.put(
        ProfileAssociation(id=id, account=instance.account, region=instance.region, instance_id=instance.id, arn=arn, since=now)
    )
    return replace(instance, profile=InstanceProfile(association_id=id, arn=arn, since=now))


def _shape(association: ProfileAssociation, state: str) -> dict[str, object]:
    return {
        "AssociationId": association.id,
        "InstanceId": association.instance_id,
        "IamInstanceProfile": {"Arn": association.arn, "Id": profile_id(association.arn)},
        "State": state,
        "Timestamp": association.since,
    }


def _changeable(reader: Reader, call: Call, id: str) -> Instance:
    instance = owned(reader, call, Instance, id)
    if instance.wish is Wish.TERMINATED:
        raise Refused(
            "IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'running', 'pending' or 'stopped' states."
        )
    return instance


class AssociateRequest(msgspec.Struct, frozen=True, rename="pascal"):
    iam_instance_profile: ProfileSpecification
    instance_id: str


async def associate_iam_instance_profile(call: Call, request: AssociateRequest) -> dict[str, object]:
    arn, id, now = find_arn(call, request.iam_instance_profile), draw_id(call.world.chance, "iip-assoc"), call.world.clock.now()

    def body(tx: Tx) -> ProfileAssociation:
        instance = _changeable(tx, call, request.instance_id)
        if instance.profile is not None:
            raise Refused("IncorrectState", f"There is an existing association for instance {instance.id}")
        tx.put(associate(tx, instance, id, arn, now))
        return tx.get(ProfileAssociation, id)

    return {"IamInstanceProfileAssociation": _shape(await call.store.write(body), "associating")}


def _own_association(reader: Reader, call: Call, id: str) -> ProfileAssociation:
    """Raises: Refused, NotFound."""
    if not is_id_of(ProfileAssociation.KIND, id):
        raise Refused("InvalidParameterValue", "Invalid value for associationId.")
    return owned(reader, call, ProfileAssociation, id)


class DisassociateRequest(msgspec.Struct, frozen=True, rename="pascal"):
    association_id: str


async def disassociate_iam_instance_profile(call: Call, request: DisassociateRequest) -> dict[str, object]:
    def body(tx: Tx) -> ProfileAssociation:
        association = _own_association(tx, call, request.association_id)
        instance = tx.find(Instance, association.instance_id)
        if instance is not None:
            tx.put(replace(instance, profile=None))
        tx.delete(ProfileAssociation, association.id)
        return association

    return {"IamInstanceProfileAssociation": _shape(await call.store.write(body), "disassociating")}


class ReplaceRequest(msgspec.Struct, frozen=True, rename="pascal"):
    iam_instance_profile: ProfileSpecification
    association_id: str


async def replace_iam_instance_profile_association(call: Call, request: ReplaceRequest) -> dict[str, object]:
    arn, id, now = find_arn(call, request.iam_instance_profile), draw_id(call.world.chance, "iip-assoc"), call.world.clock.now()

    def body(tx: Tx) -> ProfileAssociation:
        old = _own_association(tx, call, request.association_id)
        instance = _changeable(tx, call, old.instance_id)
        tx.delete(ProfileAssociation, old.id)
        tx.put(associate(tx, instance, id, arn, now))
        return tx.get(ProfileAssociation, id)

    return {"IamInstanceProfileAssociation": _shape(await call.store.write(body), "associating")}


_FILTERS: Filters[ProfileAssociation] = {
    "instance-id": lambda association: association.instance_id,
    "state": lambda association: "associated",
}


class DescribeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    association_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_iam_instance_profile_associations(call: Call, request: DescribeRequest) -> dict[str, object]:
    check_page(request.max_results, request.association_ids, ids_parameter="associationIdSet")
    matches = matcher(request.filters, _FILTERS)

    def read(reader: Reader) -> tuple[Sequence[ProfileAssociation], str | None]:
        if request.association_ids:
            named = [owned(reader, call, ProfileAssociation, id) for id in dict.fromkeys(request.association_ids)]
            return [one for one in named if matches(one)], None
        return page_of_records(
            reader,
            ProfileAssociation,
            matches=matches,
            max_results=request.max_results,
            next_token=request.next_token,
            account=call.account,
            region=call.region,
        )

    found, token = call.store.read(read)
    return listing("IamInstanceProfileAssociations", [_shape(one, "associated") for one in found], token)


OPERATIONS: Mapping[str, Operation] = {
    "AssociateIamInstanceProfile": Operation(AssociateRequest, associate_iam_instance_profile),
    "DescribeIamInstanceProfileAssociations": Operation(DescribeRequest, describe_iam_instance_profile_associations),
    "DisassociateIamInstanceProfile": Operation(DisassociateRequest, disassociate_iam_instance_profile),
    "ReplaceIamInstanceProfileAssociation": Operation(ReplaceRequest, replace_iam_instance_profile_association),
}

"""What tools ask beside an instance: its CPU credits, and its (absent) instance profile.

Credits are a wish that EC2 bills and Alto only remembers: no processor here is throttled.
"""

from collections.abc import Mapping

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import page_of_own
from alto.api.ec2.paging import check_page, listing
from alto.model.errors import Refused
from alto.model.instance_types import CATALOGUE
from alto.model.instances import Instance, Phase

_CREDIT_FILTERS: Filters[Instance] = {"instance-id": lambda instance: instance.id}


class DescribeCreditSpecificationsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_credit_specifications(call: Call, request: DescribeCreditSpecificationsRequest) -> dict[str, object]:
    """With ids, each one's option, "standard" where the type has none. Without, those that are unlimited."""
    check_page(request.max_results, request.instance_ids)
    matches = matcher(request.filters, _CREDIT_FILTERS)

    def is_listed(instance: Instance) -> bool:
        if not request.instance_ids and (_credits(instance) != "unlimited" or instance.phase is Phase.TERMINATED):
            return False
        return matches(instance)

    page = call.store.read(
        lambda reader: page_of_own(
            reader, call, Instance, request.instance_ids, is_listed, request.max_results, request.next_token
        )
    )
    items = [{"InstanceId": instance.id, "CpuCredits": _credits(instance)} for instance in page.items]
    return listing("InstanceCreditSpecifications", items, page.next_token)


def _credits(instance: Instance) -> str:
    kind = CATALOGUE.get(instance.instance_type)
    return instance.credit_specification if kind is not None and kind.burstable else "standard"


class _Association(msgspec.Struct, frozen=True):
    """There is none yet: what the filters would look at."""

    instance_id: str
    state: str


_ASSOCIATION_FILTERS: Filters[_Association] = {
    "instance-id": lambda association: association.instance_id,
    "state": lambda association: association.state,
}


class DescribeProfileAssociationsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    association_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_profile_associations(call: Call, request: DescribeProfileAssociationsRequest) -> dict[str, object]:
    """No instance has an instance profile, and Terraform asks each time whether one has."""
    check_page(request.max_results, request.association_ids, ids_parameter="associationIdSet")
    matcher(request.filters, _ASSOCIATION_FILTERS)
    for id in request.association_ids:
        raise Refused("InvalidAssociationID.NotFound", f"An invalid association-id of '{id[:80]}' was given")
    return {"IamInstanceProfileAssociations": []}


OPERATIONS: Mapping[str, Operation] = {
    "DescribeIamInstanceProfileAssociations": Operation(DescribeProfileAssociationsRequest, describe_profile_associations),
    "DescribeInstanceCreditSpecifications": Operation(DescribeCreditSpecificationsRequest, describe_credit_specifications),
}

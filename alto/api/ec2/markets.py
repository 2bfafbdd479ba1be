"""Spot instances, which Alto has none of: asking for one is refused as AWS refuses whom it has given no quota.

Not here: listings of what Amazon sells beside instances on demand (`absent_kinds.py`).
"""

from collections.abc import Mapping

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.absent_kinds import NO_SPOT_REQUEST
from alto.api.ec2.launch_options import NO_SPOT
from alto.model.errors import Refused


class CancelSpotRequests(msgspec.Struct, frozen=True, rename="pascal"):
    spot_instance_request_ids: tuple[str, ...]


async def cancel_spot_instance_requests(call: Call, request: CancelSpotRequests) -> dict[str, object]:
    for id in request.spot_instance_request_ids:
        raise NO_SPOT_REQUEST.refusal(id)
    return {"CancelledSpotInstanceRequests": []}


class RequestSpotInstances(msgspec.Struct, frozen=True, rename="pascal"):
    """Known, so that the refusal is about the market and not about a parameter."""

    launch_specification: dict[str, object] | None = None
    instance_count: int | None = None
    spot_price: str | None = None
    type: str | None = None
    client_token: str | None = None
    valid_from: float | None = None
    valid_until: float | None = None
    launch_group: str | None = None
    availability_zone_group: str | None = None
    block_duration_minutes: int | None = None
    instance_interruption_behavior: str | None = None
    tag_specifications: tuple[dict[str, object], ...] = ()


async def request_spot_instances(call: Call, request: RequestSpotInstances) -> dict[str, object]:
    raise Refused("MaxSpotInstanceCountExceeded", NO_SPOT)


OPERATIONS: Mapping[str, Operation] = {
    "CancelSpotInstanceRequests": Operation(CancelSpotRequests, cancel_spot_instance_requests),
    "RequestSpotInstances": Operation(RequestSpotInstances, request_spot_instances),
}

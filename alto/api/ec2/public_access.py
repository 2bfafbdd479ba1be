"""The account's switches that forbid to make its images or snapshots public, in one region. Off at first, so that what is
written for EC2's first years goes on; EC2 itself has the images' on for new accounts.

Of VPCs EC2 has such a switch too; here it is off, and ModifyVpcBlockPublicAccessOptions is not offered.

Not here: sharing with accounts by number, which no switch forbids.
"""

from collections.abc import Mapping
from functools import partial

import msgspec
from msgspec.structs import replace

from alto.api.accounts import region_key
from alto.api.call import Call, Operation
from alto.model.accounts import ALL_SHARING, NEW_SHARING, UNBLOCKED, AccountRegion
from alto.model.errors import Refused
from alto.store.store import Reader, Tx


def check_public_image(reader: Reader, call: Call) -> None:
    """Raises: Refused: the account's images are not made public."""
    if _region(reader, call).images_blocked:
        raise Refused(
            "OperationNotPermitted",
            "You can't publicly share this image because block public access for AMIs is enabled for this account.",
        )


def check_public_snapshot(reader: Reader, call: Call) -> None:
    """Raises: Refused: the account's snapshots are not made public."""
    if _region(reader, call).snapshots_blocked != UNBLOCKED:
        raise Refused(
            "OperationNotPermitted",
            "You can't publicly share this snapshot because block public access for EBS snapshots is enabled for this account.",
        )


def _region(reader: Reader, call: Call) -> AccountRegion:
    return reader.get(AccountRegion, region_key(call.account, call.region))


class NoParameters(msgspec.Struct, frozen=True, rename="pascal"):
    pass


async def get_image_block_public_access_state(call: Call, request: NoParameters) -> dict[str, object]:
    blocked = call.store.read(lambda reader: _region(reader, call)).images_blocked
    return {"ImageBlockPublicAccessState": NEW_SHARING if blocked else UNBLOCKED, "ManagedBy": "account"}


class BlockImagesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_block_public_access_state: str


async def enable_image_block_public_access(call: Call, request: BlockImagesRequest) -> dict[str, object]:
    if request.image_block_public_access_state != NEW_SHARING:
        raise _bad_value("ImageBlockPublicAccessState", request.image_block_public_access_state, NEW_SHARING)
    return await _set_images(True, call, NoParameters())


async def _set_images(blocked: bool, call: Call, request: NoParameters) -> dict[str, object]:
    def body(tx: Tx) -> None:
        region = _region(tx, call)
        if region.images_blocked != blocked:
            tx.put(replace(region, images_blocked=blocked))

    await call.store.write(body)
    return {"ImageBlockPublicAccessState": NEW_SHARING if blocked else UNBLOCKED}


async def get_snapshot_block_public_access_state(call: Call, request: NoParameters) -> dict[str, object]:
    state = call.store.read(lambda reader: _region(reader, call)).snapshots_blocked
    return {"State": state, "ManagedBy": "account"}


class BlockSnapshotsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    state: str


async def enable_snapshot_block_public_access(call: Call, request: BlockSnapshotsRequest) -> dict[str, object]:
    """What is public keeps its permission. With `block-all-sharing` nobody gets anything by it meanwhile (ids.py)."""
    if request.state not in (NEW_SHARING, ALL_SHARING):
        raise _bad_value("State", request.state, f"{ALL_SHARING} or {NEW_SHARING}")
    await call.store.write(lambda tx: _put_snapshots(tx, call, request.state))
    return {"State": request.state}


async def disable_snapshot_block_public_access(call: Call, request: NoParameters) -> dict[str, object]:
    await call.store.write(lambda tx: _put_snapshots(tx, call, UNBLOCKED))
    return {"State": UNBLOCKED}


def _put_snapshots(tx: Tx, call: Call, state: str) -> None:
    region = _region(tx, call)
    if region.snapshots_blocked != state:
        tx.put(replace(region, snapshots_blocked=state))


async def describe_vpc_block_public_access_options(call: Call, request: NoParameters) -> dict[str, object]:
    options = {
        "AwsAccountId": call.account,
        "AwsRegion": call.region,
        "State": "default-state",
        "InternetGatewayBlockMode": "off",
        "ManagedBy": "account",
        "ExclusionsAllowed": "allowed",
    }
    return {"VpcBlockPublicAccessOptions": options}


def _bad_value(parameter: str, value: str, valid: str) -> Refused:
    return Refused("InvalidParameterValue", f"Invalid value '{value[:80]}' for {parameter}. Valid values: {valid}")


OPERATIONS: Mapping[str, Operation] = {
    "DescribeVpcBlockPublicAccessOptions": Operation(NoParameters, describe_vpc_block_public_access_options),
    "DisableImageBlockPublicAccess": Operation(NoParameters, partial(_set_images, False)),
    "DisableSnapshotBlockPublicAccess": Operation(NoParameters, disable_snapshot_block_public_access),
    "EnableImageBlockPublicAccess": Operation(BlockImagesRequest, enable_image_block_public_access),
    "EnableSnapshotBlockPublicAccess": Operation(BlockSnapshotsRequest, enable_snapshot_block_public_access),
    "GetImageBlockPublicAccessState": Operation(NoParameters, get_image_block_public_access_state),
    "GetSnapshotBlockPublicAccessState": Operation(NoParameters, get_snapshot_block_public_access_state),
}

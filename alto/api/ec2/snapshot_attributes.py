"""Who may make volumes of a snapshot: Describe-, Modify- and ResetSnapshotAttribute."""

import re
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.encryption import has_amazons_key
from alto.api.ec2.public_access import check_public_snapshot
from alto.api.ec2.snapshots import own_snapshot
from alto.model.errors import Refused
from alto.model.volumes import Snapshot
from alto.store.store import Tx

PERMISSION, CODES = "createVolumePermission", "productCodes"
_ACCOUNT = re.compile(r"[0-9]{12}")


class DescribeSnapshotAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    snapshot_id: str
    attribute: str


async def describe_snapshot_attribute(call: Call, request: DescribeSnapshotAttributeRequest) -> dict[str, object]:
    snapshot = call.store.read(lambda reader: own_snapshot(reader, call, request.snapshot_id))
    if request.attribute == CODES:
        return {"SnapshotId": snapshot.id, "ProductCodes": []}
    _check_attribute(request.attribute)
    everybody = [{"Group": "all"}] if snapshot.public else []
    return {
        "SnapshotId": snapshot.id,
        "CreateVolumePermissions": [*everybody, *({"UserId": account} for account in snapshot.shared_with)],
    }


def _check_attribute(attribute: str | None) -> None:
    if attribute not in (None, PERMISSION):
        raise Refused("InvalidParameterValue", f"Value ({str(attribute)[:80]}) for parameter attribute is invalid.")


class VolumePermission(msgspec.Struct, frozen=True, rename="pascal"):
    group: str | None = None  # only "all"
    user_id: str | None = None


class VolumePermissions(msgspec.Struct, frozen=True, rename="pascal"):
    add: tuple[VolumePermission, ...] = ()
    remove: tuple[VolumePermission, ...] = ()


class ModifySnapshotAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    snapshot_id: str
    attribute: str | None = None
    create_volume_permission: VolumePermissions | None = None
    group_names: tuple[str, ...] = ()
    operation_type: str | None = None
    user_ids: tuple[str, ...] = ()


async def modify_snapshot_attribute(call: Call, request: ModifySnapshotAttributeRequest) -> dict[str, object]:
    _check_attribute(request.attribute)
    permissions = _permissions(request)

    def body(tx: Tx) -> None:
        snapshot = own_snapshot(tx, call, request.snapshot_id)
        if permissions.add and snapshot.encryption is not None:
            _check_may_be_shared(snapshot, public=any(one.group for one in permissions.add))
        if any(one.group for one in permissions.add):
            check_public_snapshot(tx, call)
        removed = {one.user_id for one in permissions.remove}
        added = [one.user_id for one in permissions.add if one.user_id]
        shared = tuple(dict.fromkeys([*(user for user in snapshot.shared_with if user not in removed), *added]))
        public = snapshot.public and not any(one.group for one in permissions.remove)
        tx.put(_shared(snapshot, public=public or any(one.group for one in permissions.add), shared_with=shared))

    await call.store.write(body)
    return {}


def _check_may_be_shared(snapshot: Snapshot, *, public: bool) -> None:
    if has_amazons_key(snapshot.encryption, snapshot.account, snapshot.region):
        raise Refused("OperationNotPermitted", "Encrypted snapshots with EBS default key cannot be shared")
    if public:
        raise Refused("OperationNotPermitted", "Encrypted snapshots cannot be made public")


def _shared(snapshot: Snapshot, *, public: bool, shared_with: tuple[str, ...]) -> Snapshot:
    return replace(snapshot, public=public, shared_with=shared_with, shared=True if public or shared_with else None)


def _permissions(request: ModifySnapshotAttributeRequest) -> VolumePermissions:
    """Also from the form that names the attribute and an operation. Raises: Refused."""
    given = request.create_volume_permission or VolumePermissions()
    named = (
        *(VolumePermission(group=group) for group in request.group_names),
        *(VolumePermission(user_id=account) for account in request.user_ids),
    )
    if named and request.operation_type not in ("add", "remove"):
        raise Refused("InvalidParameterValue", "Value for parameter operationType is invalid. Give add or remove.")
    if named:
        given = VolumePermissions(add=named) if request.operation_type == "add" else VolumePermissions(remove=named)
    if not given.add and not given.remove:
        raise Refused("InvalidParameterCombination", "No attributes specified.")
    if given.add and given.remove:
        raise Refused("InvalidParameterCombination", "Permissions are added or removed, and not both by one request.")
    for one in (*given.add, *given.remove):
        if one.group not in (None, "all"):
            raise _bad_item(one.group, "userGroup")
        if (one.group is None or one.user_id is not None) and not _ACCOUNT.fullmatch(one.user_id or ""):
            raise _bad_item(one.user_id or "", "userId")
    return given


def _bad_item(value: str, kind: str) -> Refused:
    return Refused("InvalidAttributeValue", f'Invalid attribute item value "{value[:80]}" for {kind} item type.')


class ResetSnapshotAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    snapshot_id: str
    attribute: str


async def reset_snapshot_attribute(call: Call, request: ResetSnapshotAttributeRequest) -> dict[str, object]:
    _check_attribute(request.attribute)

    def body(tx: Tx) -> None:
        tx.put(_shared(own_snapshot(tx, call, request.snapshot_id), public=False, shared_with=()))

    await call.store.write(body)
    return {}


OPERATIONS: Mapping[str, Operation] = {
    "DescribeSnapshotAttribute": Operation(DescribeSnapshotAttributeRequest, describe_snapshot_attribute),
    "ModifySnapshotAttribute": Operation(ModifySnapshotAttributeRequest, modify_snapshot_attribute),
    "ResetSnapshotAttribute": Operation(ResetSnapshotAttributeRequest, reset_snapshot_attribute),
}

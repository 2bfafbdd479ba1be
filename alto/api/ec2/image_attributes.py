"""Describe-, Modify- and ResetImageAttribute: an image's description, who may launch it, and what its instances demand.
CancelImageLaunchPermission: that one no longer wants to launch it."""

import re
from collections.abc import Mapping

import msgspec

from alto.api.call import Call, Operation
from alto.api.ec2.encryption import has_amazons_key
from alto.api.ec2.ids import find_image
from alto.api.ec2.image_availability import latest_deprecation
from alto.api.ec2.images import DESCRIPTION_MAX, IMDS_V2, deregistration_protection, imds, own_image, sriov
from alto.api.ec2.public_access import check_public_image
from alto.model.errors import Refused
from alto.model.images import ImageState
from alto.store.store import Tx

_ACCOUNT = re.compile(r"[0-9]{12}")


class Attribute(msgspec.Struct, frozen=True, rename="pascal"):
    value: str | None = None


class LaunchPermission(msgspec.Struct, frozen=True, rename="pascal"):
    group: str | None = None  # only "all"
    user_id: str | None = None


class LaunchPermissions(msgspec.Struct, frozen=True, rename="pascal"):
    add: tuple[LaunchPermission, ...] = ()
    remove: tuple[LaunchPermission, ...] = ()


class ModifyImageAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_id: str | None = None
    attribute: str | None = None
    description: Attribute | None = None
    imds_support: Attribute | None = None
    launch_permission: LaunchPermissions | None = None
    operation_type: str | None = None
    user_groups: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    value: str | None = None


async def modify_image_attribute(call: Call, request: ModifyImageAttributeRequest) -> dict[str, object]:
    """The description, who may launch it, or that its instances demand tokens, which is for good."""
    id = request.image_id
    if not id:
        raise Refused("MissingParameter", "The request must contain the parameter ImageId")
    description = _new_description(request)
    permissions = _checked_permissions(request)
    demanding = _demands_tokens(request)
    asked = {
        "description": description is not None,
        "imdsSupport": demanding,
        "launchPermission": bool(permissions.add or permissions.remove),
    }
    named = [name for name, given in asked.items() if given]
    if not named:
        raise Refused("InvalidParameterCombination", "No attributes specified.")
    if len(named) > 1:
        raise Refused("InvalidParameterCombination", f"Fields for multiple attribute types specified: {', '.join(named)}")

    def body(tx: Tx) -> None:
        image = own_image(tx, call, id)
        if image.state is ImageState.DISABLED and permissions.add:
            raise Refused("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is disabled, and is not shared while it is")
        if permissions.add and any(has_amazons_key(one.encryption, image.account, call.region) for one in image.devices):
            raise Refused(
                "InvalidParameter", "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another snapshot."
            )
        made_public, deprecated_at = any(permission.group for permission in permissions.add), image.deprecated_at
        if made_public:
            check_public_image(tx, call)
            deprecated_at = deprecated_at and min(deprecated_at, latest_deprecation(image))
        removed = {permission.user_id for permission in permissions.remove}
        added = tuple(permission.user_id for permission in permissions.add if permission.user_id)
        shared = (*(account for account in image.shared_with if account not in removed), *added)
        public = image.public and not any(permission.group for permission in permissions.remove)
        tx.put(
            msgspec.structs.replace(
                image,
                description=image.description if description is None else description,
                public=public or made_public,
                deprecated_at=deprecated_at,
                shared_with=tuple(dict.fromkeys(shared)),
                imds_v2=image.imds_v2 or demanding,
            )
        )

    await call.store.write(body)
    return {}


def _new_description(request: ModifyImageAttributeRequest) -> str | None:
    description = request.description.value or "" if request.description is not None else None
    if request.attribute == "description" and request.value is not None:
        description = request.value
    if description is not None and len(description) > DESCRIPTION_MAX:
        raise Refused("InvalidParameterValue", f"The description of an image is limited to {DESCRIPTION_MAX} characters")
    return description


def _demands_tokens(request: ModifyImageAttributeRequest) -> bool:
    value = request.imds_support.value if request.imds_support is not None else None
    if request.attribute == "imdsSupport":
        value = request.value
    if value not in (None, IMDS_V2):
        raise Refused("InvalidParameterValue", f"Value ({str(value)[:80]}) for parameter imdsSupport is invalid: {IMDS_V2}")
    return value is not None


def _checked_permissions(request: ModifyImageAttributeRequest) -> LaunchPermissions:
    """Also from the form of EC2's first years, which names the attribute and an operation. Raises: Refused."""
    permissions = request.launch_permission or LaunchPermissions()
    named = (
        *(LaunchPermission(group=group) for group in request.user_groups),
        *(LaunchPermission(user_id=account) for account in request.user_ids),
    )
    if named and request.operation_type == "add":
        permissions = LaunchPermissions(add=named)
    elif named and request.operation_type == "remove":
        permissions = LaunchPermissions(remove=named)
    elif named:
        raise Refused("InvalidParameterValue", "Value for parameter operationType is invalid. Give add or remove.")
    for each in (*permissions.add, *permissions.remove):
        if each.group not in (None, "all"):
            raise _bad_item(each.group, "userGroup")
        if (each.group is None or each.user_id is not None) and not _ACCOUNT.fullmatch(each.user_id or ""):
            raise _bad_item(each.user_id or "", "userId")
    return permissions


def _bad_item(value: str, kind: str) -> Refused:
    return Refused("InvalidAMIAttributeItemValue", f'Invalid attribute item value "{value[:80]}" for {kind} item type.')


class DescribeImageAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_id: str | None = None
    attribute: str | None = None


async def describe_image_attribute(call: Call, request: DescribeImageAttributeRequest) -> dict[str, object]:
    id = request.image_id
    if not id or not request.attribute:
        raise Refused("MissingParameter", "The request must contain the parameters ImageId and Attribute")
    image = call.store.read(lambda reader: own_image(reader, call, id))
    if request.attribute == "blockDeviceMapping":
        # "Using this attribute returns the Client.AuthFailure error": DescribeImages shows it.
        raise Refused("AuthFailure", "Unauthorized attempt to access restricted resource", status=403)
    shown_attributes: Mapping[str, tuple[str, object]] = {
        "description": ("Description", {"Value": image.description}),
        "launchPermission": (
            "LaunchPermissions",
            [
                *([{"Group": "all"}] if image.public else []),
                *({"UserId": account} for account in image.shared_with),
            ],
        ),
        "productCodes": ("ProductCodes", []),
        "bootMode": ("BootMode", {"Value": image.boot_mode}),
        "kernel": ("KernelId", {}),
        "ramdisk": ("RamdiskId", {}),
        "sriovNetSupport": ("SriovNetSupport", {"Value": sriov(image)}),
        "tpmSupport": ("TpmSupport", {}),
        "uefiData": ("UefiData", {}),
        "imdsSupport": ("ImdsSupport", {"Value": imds(image)}),
        "deregistrationProtection": ("DeregistrationProtection", {"Value": deregistration_protection(image)}),
        "lastLaunchedTime": ("LastLaunchedTime", {}),  # nobody counts it
    }
    if request.attribute not in shown_attributes:
        raise Refused("InvalidParameterValue", f"Value ({request.attribute[:80]}) for parameter attribute is invalid.")
    member, value = shown_attributes[request.attribute]
    return {"ImageId": id, member: value}


class ResetImageAttributeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_id: str
    attribute: str


async def reset_image_attribute(call: Call, request: ResetImageAttributeRequest) -> dict[str, object]:
    """Nobody but its owner may launch it."""
    if request.attribute != "launchPermission":
        raise Refused("InvalidParameterValue", f"Value ({request.attribute[:80]}) for parameter attribute is invalid.")

    def body(tx: Tx) -> None:
        tx.put(msgspec.structs.replace(own_image(tx, call, request.image_id), public=False, shared_with=()))

    await call.store.write(body)
    return {"Return": True}


class CancelPermissionRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_id: str


async def cancel_image_launch_permission(call: Call, request: CancelPermissionRequest) -> dict[str, object]:
    """The caller's own, which the image's owner gave it by its number."""

    def body(tx: Tx) -> None:
        image = find_image(tx, call, request.image_id)
        if call.account not in image.shared_with:
            raise Refused(
                "AuthFailure",
                f"Not authorized for images: [{image.id}]. It is not shared with your account by its number",
                status=403,
            )
        others = tuple(account for account in image.shared_with if account != call.account)
        tx.put(msgspec.structs.replace(image, shared_with=others))

    await call.store.write(body)
    return {"Return": True}


OPERATIONS: Mapping[str, Operation] = {
    "CancelImageLaunchPermission": Operation(CancelPermissionRequest, cancel_image_launch_permission),
    "DescribeImageAttribute": Operation(DescribeImageAttributeRequest, describe_image_attribute),
    "ModifyImageAttribute": Operation(ModifyImageAttributeRequest, modify_image_attribute),
    "ResetImageAttribute": Operation(ResetImageAttributeRequest, reset_image_attribute),
}

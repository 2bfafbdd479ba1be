"""How long an image is offered, and to whom it still is: deprecation, disabling, and protection from being deregistered.

All by its owner alone. A deprecated image is launched as before, and left out where others list theirs; a disabled one is its
owner's alone, and nobody launches it. Not here: who may launch an image otherwise (image_attributes.py).
"""

from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.images import deregistration_protection, own_image
from alto.model.errors import Refused
from alto.model.images import Image, ImageState
from alto.store.store import Tx

MINUTE_S = 60
COOLDOWN_S = 86400
# As EC2 has it: a date further away is a slip.
YEAR_S = 365.25 * 86400
AHEAD_MAX_S = 10 * YEAR_S
_PUBLIC_AGE_MAX_S = 2 * YEAR_S

Change = Callable[[Image], Image]


class ImageRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_id: str


class ProtectRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_id: str
    with_cooldown: bool = False


class DeprecateRequest(msgspec.Struct, frozen=True, rename="pascal"):
    image_id: str
    deprecate_at: float


def latest_deprecation(image: Image) -> float:
    """Of one that everybody may launch ("Deprecate an Amazon EC2 AMI")."""
    return image.created_at + _PUBLIC_AGE_MAX_S


async def enable_image_deprecation(call: Call, request: DeprecateRequest) -> dict[str, object]:
    ahead_s = request.deprecate_at - call.world.clock.now()
    if ahead_s < -MINUTE_S:
        raise Refused("InvalidParameterValue", "DeprecateAt must be a date in the future")
    if ahead_s > AHEAD_MAX_S:
        raise Refused("InvalidParameterValue", "DeprecateAt must be at most 10 years from now")
    at = float(round(request.deprecate_at / MINUTE_S) * MINUTE_S)

    def deprecated(image: Image) -> Image:
        if image.public and at > latest_deprecation(image):
            raise Refused("InvalidParameterValue", "DeprecateAt of a public AMI must be at most 2 years from its creation date")
        return replace(image, deprecated_at=at)

    await _change(call, request.image_id, deprecated)
    return {"Return": True}


async def disable_image_deprecation(call: Call, request: ImageRequest) -> dict[str, object]:
    await _change(call, request.image_id, lambda image: replace(image, deprecated_at=None))
    return {"Return": True}


async def disable_image(call: Call, request: ImageRequest) -> dict[str, object]:
    """Those that it was shared with do not have it back when it is enabled again."""

    def disabled(image: Image) -> Image:
        if image.state not in (ImageState.AVAILABLE, ImageState.DISABLED):
            raise Refused("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is not available: it is {image.state}")
        return replace(image, state=ImageState.DISABLED, public=False, shared_with=())

    await _change(call, request.image_id, disabled)
    return {"Return": True}


async def enable_image(call: Call, request: ImageRequest) -> dict[str, object]:
    def enabled(image: Image) -> Image:
        return replace(image, state=ImageState.AVAILABLE) if image.state is ImageState.DISABLED else image

    await _change(call, request.image_id, enabled)
    return {"Return": True}


async def enable_image_deregistration_protection(call: Call, request: ProtectRequest) -> dict[str, object]:
    changed = await _change(
        call,
        request.image_id,
        lambda image: replace(image, protected=True, cooldown=request.with_cooldown or _cools_down(image)),
    )
    return {"Return": deregistration_protection(changed)}


def _cools_down(image: Image) -> bool:
    """Who could take that off at once would have no need to wait."""
    return image.protected and image.cooldown


async def disable_image_deregistration_protection(call: Call, request: ImageRequest) -> dict[str, object]:
    """With a cooldown it cannot be deregistered for another day, though it is said to be protected no more."""
    until = call.world.clock.now() + COOLDOWN_S

    def disabled(image: Image) -> Image:
        if not image.protected:
            return image
        return replace(image, protected=False, protected_until=until if image.cooldown else image.protected_until)

    return {"Return": deregistration_protection(await _change(call, request.image_id, disabled))}


async def _change(call: Call, id: str, change: Change) -> Image:
    def body(tx: Tx) -> Image:
        image = own_image(tx, call, id)
        changed = change(image)
        return tx.put(changed) if changed != image else image

    return await call.store.write(body)


OPERATIONS: Mapping[str, Operation] = {
    "DisableImage": Operation(ImageRequest, disable_image),
    "DisableImageDeprecation": Operation(ImageRequest, disable_image_deprecation),
    "DisableImageDeregistrationProtection": Operation(ImageRequest, disable_image_deregistration_protection),
    "EnableImage": Operation(ImageRequest, enable_image),
    "EnableImageDeprecation": Operation(DeprecateRequest, enable_image_deprecation),
    "EnableImageDeregistrationProtection": Operation(ProtectRequest, enable_image_deregistration_protection),
}

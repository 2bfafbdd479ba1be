"""User data as a request carries it: base64, at most 16 KiB before it. What stands in it is the guest's business."""

import base64
import binascii

from alto.model.errors import Refused

USER_DATA_MAX = 16 * 1024  # bytes before base64 (RunInstances, UserData)


def check_user_data(text: str | None) -> None:
    """Raises: Refused."""
    if text is None:
        return
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from None
    if len(raw) > USER_DATA_MAX:
        raise Refused("InvalidParameterValue", f"User data is limited to {USER_DATA_MAX} bytes")

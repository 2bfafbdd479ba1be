"""The Security Token Service: who am I. Sessions and roles come with IAM; until then the gateway says UnsupportedOperation."""

from typing import Any

import msgspec

from alto.api.call import Call, Operation, Operations


class GetCallerIdentityRequest(msgspec.Struct, frozen=True, rename="pascal"):
    pass


async def get_caller_identity(call: Call, request: GetCallerIdentityRequest) -> dict[str, Any]:
    # Every key is an account's root so far, and AWS gives the account's number as root's user id.
    return {"UserId": call.account, "Account": call.account, "Arn": f"arn:aws:iam::{call.account}:root"}


OPERATIONS: Operations = {"GetCallerIdentity": Operation(GetCallerIdentityRequest, get_caller_identity)}

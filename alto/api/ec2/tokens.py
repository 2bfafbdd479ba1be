"""Client tokens: a request that is sent again with the same token makes nothing twice and hears the first answer's id.

Both functions run in the transaction that makes the resource. Invariant: a token means one set of parameters of one
operation in one account and region, for at least as long as EC2 promises.
"""

from alto.api.call import Call
from alto.model.accounts import ClientToken
from alto.model.errors import Refused
from alto.store.store import Reader, Tx

TOKEN_MAX = 64
TEMPLATE_TOKEN_MAX = 128  # of launch templates and their versions
TOKEN_KEPT_S = 24 * 3600.0  # EC2 promises at least that long


def check_token(token: str | None, longest: int = TOKEN_MAX) -> None:
    """Raises: Refused."""
    if token is not None and (len(token) > longest or not token.isascii()):
        raise Refused("InvalidParameterValue", f"ClientToken is limited to {longest} ASCII characters")


def known_result(reader: Reader, call: Call, token: str | None) -> str | None:
    """The id that an earlier request with this token made. Raises: Refused (IdempotentParameterMismatch)."""
    if token is None:
        return None
    known = reader.find(ClientToken, _id(call, token))
    if known is None:
        return None
    if known.digest != call.digest:
        raise Refused(
            "IdempotentParameterMismatch",
            "The client token you have provided is associated with a resource that has other parameters. "
            "Use another token, or the parameters of the first request.",
        )
    return known.result_id


def remember_result(tx: Tx, call: Call, token: str | None, result_id: str, now: float) -> None:
    if token is not None:
        tx.put(ClientToken(id=_id(call, token), digest=call.digest, result_id=result_id, expires_at=now + TOKEN_KEPT_S))


def _id(call: Call, token: str) -> str:
    return f"{call.account}/{call.region}/{call.operation}/{token}"

"""Signature Version 2, EC2's older way, which libcloud still takes by default: HMAC-SHA256 over method, host, path and every
parameter of the query (GET) or the form (POST). Headers are not signed, so nothing but those parameters may count.

It has no scope: it is EC2's only, and stands for the default region. HmacSHA1 is refused. Source: "Signature Version 2
signing process" (AWS general reference).
"""

import base64
import binascii
import hmac
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

from alto.api.auth.sigv4 import PRESIGNED_MAX_S, SKEW_S, Key, Principal, ec2_refusal, expired, incomplete
from alto.api.wire.http import HttpRequest
from alto.api.wire.query import decode_form
from alto.kit.sigv4 import Scope

PARAMETERS = frozenset(
    {"AWSAccessKeyId", "SignatureVersion", "SignatureMethod", "Signature", "Timestamp", "Expires", "SecurityToken"}
)
_NO_SCOPE = Scope("", "", "ec2")


# It has to be read before anybody is believed. User data, the longest of all parameters, is an eighth of it.
FORM_BYTES_MAX = 256 * 1024


class OldClaim(NamedTuple):
    """What a request says of itself, not yet believed."""

    parameters: dict[str, str]

    @property
    def scope(self) -> Scope:
        return _NO_SCOPE


def is_old(request: HttpRequest) -> bool:
    return "SignatureVersion=2" in request.query or b"SignatureVersion=2" in request.body


def read_old_claim(request: HttpRequest) -> OldClaim:
    """Raises: Refused."""
    if request.method == "GET" and not request.body:
        pairs = decode_form(request.query)
    elif request.method == "POST" and not request.query and request.body.isascii() and len(request.body) <= FORM_BYTES_MAX:
        pairs = decode_form(request.body.decode("ascii"))
    else:
        # What is not in the string that is signed must not be there at all.
        raise incomplete("Signature version 2 is for parameters in the query of a GET, or in a short form of a POST")
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise incomplete("A parameter is given more than once")
    for name in ("AWSAccessKeyId", "SignatureVersion", "SignatureMethod", "Signature"):
        if name not in parameters:
            raise incomplete(f"Signature version 2 requires the parameter {name}")
    if parameters["SignatureVersion"] != "2" or parameters["SignatureMethod"] != "HmacSHA256":
        raise incomplete("Use signature version 4, or version 2 with HmacSHA256")
    if ("Timestamp" in parameters) == ("Expires" in parameters):
        raise incomplete("Signature version 2 requires one of the parameters Timestamp and Expires")
    return OldClaim(parameters)


def verify_old(claim: OldClaim, request: HttpRequest, *, now: float, key_of: Callable[[str], Key | None]) -> Principal:
    """Raises: Refused."""
    parameters = claim.parameters
    if "Timestamp" in parameters:
        if abs(now - _seconds(parameters["Timestamp"])) > SKEW_S:
            raise expired("ec2", parameters["Timestamp"], now)
    elif not now <= _seconds(parameters["Expires"]) <= now + PRESIGNED_MAX_S:
        raise expired("ec2", parameters["Expires"], now)

    key = key_of(parameters["AWSAccessKeyId"])
    if key is None or "SecurityToken" in parameters:
        raise ec2_refusal()
    query = "&".join(
        [
            f"{quote(name, safe='-_.~')}={quote(parameters[name], safe='-_.~')}"
            for name in sorted(parameters, key=str.encode)
            if name != "Signature"
        ]
    )
    text = f"{request.method}\n{(request.header('host') or '').lower()}\n{request.path}\n{query}"
    expected = hmac.digest(key.secret.encode(), text.encode(), "sha256")
    try:
        given = base64.b64decode(parameters["Signature"].encode(), validate=True)
    except binascii.Error:
        given = b""
    if not hmac.compare_digest(expected, given):
        raise ec2_refusal()
    return Principal(key.account, key.operator, parameters["AWSAccessKeyId"], claim.scope, PARAMETERS)


_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z?")


def _seconds(text: str) -> float:
    try:
        if not _TIME.fullmatch(text):
            raise ValueError(text)
        return datetime.fromisoformat(text.rstrip("Z")).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise incomplete("The time of the request is not written as 2026-01-31T12:00:00Z") from None

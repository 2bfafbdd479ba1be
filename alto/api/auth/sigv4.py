"""Who sent this request: Signature Version 4 in the Authorization header or in the query, verified whole or refused.

`read_claim` takes the request apart without believing anything; `verify` believes it or raises. Everything that could be
used to stretch a signature is refused: credentials in both places, a host or `x-amz-*` header that was not signed, a body
other than the signed one, a date other than the scope's, a clock too far away. Anonymous requests are refused.

Not here: what the account may do. Keys have no sessions yet, so a session token belongs to no key and is refused.
"""

import hmac
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, TypeVar

from alto.api.wire.http import HttpRequest
from alto.api.wire.query import decode_form
from alto.kit.sigv4 import (
    ALGORITHM,
    EMPTY_SHA256,
    TERMINATOR,
    Scope,
    canonical_path,
    canonical_query,
    canonical_request,
    sha256_of,
    signature,
    signing_key,
)
from alto.model.errors import Refused

T = TypeVar("T")

# AWS writes of 5 minutes and was measured to bear 15, which laptops and guests with poor clocks need.
SKEW_S = 15 * 60.0
PRESIGNED_MAX_S = 7 * 24 * 3600
# Keys for one day, region and service; only made for access keys that exist. A secret that changes is another entry.
SIGNING_KEYS_MAX = 4096
SAID_AGAIN_MAX, SAID_AGAIN_CHARS = 512, 256  # what a client's requests all say, taken apart once

_signing_key = lru_cache(maxsize=SIGNING_KEYS_MAX)(signing_key)


class Claim(NamedTuple):
    """What a request says of itself, not yet believed."""

    access_key_id: str
    scope: Scope
    timestamp: str  # "YYYYMMDDTHHMMSSZ"
    signed: tuple[str, ...]  # header names
    signature: str
    token: str | None
    lifetime_s: int | None  # of a presigned request; None: signed in the header


class Key(NamedTuple):
    """What an access key id stands for."""

    secret: str
    account: str
    operator: bool


class Principal(NamedTuple):
    """Who signed, believed."""

    account: str
    operator: bool
    access_key_id: str
    scope: Scope
    parameters: frozenset[str] = frozenset()  # those of the request that were for the signature alone


def is_signed(request: HttpRequest) -> bool:
    """Whether it bears a signature of this kind, right or wrong."""
    return request.header("authorization") is not None or _is_presigned(request)


def _is_presigned(request: HttpRequest) -> bool:
    return "X-Amz-Signature=" in request.query or "X-Amz-Credential=" in request.query


def read_claim(request: HttpRequest) -> Claim:
    """Raises: Refused."""
    header = request.header("authorization")
    presigned = _is_presigned(request)
    if header is not None and presigned:
        raise incomplete("Only one of the Authorization header and the X-Amz query parameters may be used")
    if header is not None:
        return _from_header(header, request)
    if presigned:
        return _from_query(request)
    raise Refused("MissingAuthenticationToken", "Request is missing Authentication Token", status=403)


# As every SDK writes it, but for the signature at its end: what a client says again and again.
_USUAL = re.compile(rf"{ALGORITHM} Credential=([^\s,]+), ?SignedHeaders=([^\s,]+), ?Signature=")
_SIGNATURE_DIGITS = 64
_PART = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^\s,]+)\s*")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_TIMESTAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_TIMESTAMP_CHARS = 16


def _from_header(header: str, request: HttpRequest) -> Claim:
    said, proof = _said_again(_usual, header[:-_SIGNATURE_DIGITS]), header[-_SIGNATURE_DIGITS:]
    if said is None:
        credential, signed, proof = _parts(header)
        said = _said(credential, signed)
    timestamp = request.header("x-amz-date") or request.header("date") or ""
    if not _is_timestamp(timestamp):
        raise incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header")
    return _claim(said, timestamp, proof, request.header("x-amz-security-token"), None)


def _usual(head: str) -> "_Said | None":
    found = _USUAL.fullmatch(head)
    return _said(found[1], found[2]) if found is not None else None


def _parts(header: str) -> tuple[str, str, str]:
    """Credential, signed headers and signature, in whatever order they come."""
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        raise incomplete(f"Unsupported signature algorithm; use {ALGORITHM}")
    parts: dict[str, str] = {}
    for piece in rest.split(","):
        part = _PART.fullmatch(piece)
        if part is None or part[1] in parts:
            raise incomplete("The Authorization header is not a list of Credential, SignedHeaders and Signature")
        parts[part[1]] = part[2]
    for name in ("Credential", "SignedHeaders", "Signature"):
        if name not in parts:
            raise incomplete(f"Authorization header requires '{name}' parameter.")
    return parts["Credential"], parts["SignedHeaders"], parts["Signature"]


QUERY_NAMES = frozenset(
    {
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
        "X-Amz-Security-Token",
    }
)


def _from_query(request: HttpRequest) -> Claim:
    values: dict[str, str] = {}
    for name, value in decode_form(request.query):
        if name in QUERY_NAMES:
            if name in values:
                raise incomplete(f"{name} is given more than once")
            values[name] = value
    for name in sorted(QUERY_NAMES - {"X-Amz-Security-Token", "X-Amz-Expires"}):
        if name not in values:
            raise incomplete(f"AWS query-string parameters must include '{name}'.")
    if values["X-Amz-Algorithm"] != ALGORITHM:
        raise incomplete(f"Unsupported signature algorithm; use {ALGORITHM}")
    # Not among EC2's common parameters, and not sent by some clients: such a request lives as long as one signed in the header.
    expires = values.get("X-Amz-Expires", f"{SKEW_S:.0f}")
    if not re.fullmatch(r"[0-9]{1,6}", expires) or not 1 <= int(expires) <= PRESIGNED_MAX_S:
        raise incomplete(f"X-Amz-Expires must be between 1 and {PRESIGNED_MAX_S} seconds")
    if not _is_timestamp(values["X-Amz-Date"]):
        raise incomplete("X-Amz-Date must be a time such as 20260131T120000Z")
    return _claim(
        _said(values["X-Amz-Credential"], values["X-Amz-SignedHeaders"]),
        values["X-Amz-Date"],
        values["X-Amz-Signature"],
        values.get("X-Amz-Security-Token"),
        int(expires),
    )


class _Said(NamedTuple):
    access_key_id: str
    scope: Scope
    signed: tuple[str, ...]


def _said(credential: str, signed: str) -> _Said:
    return _Said(*_credential(credential), _names(signed))


def _claim(said: _Said, timestamp: str, proof: str, token: str | None, lifetime_s: int | None) -> Claim:
    access_key_id, scope, signed = said
    if scope.date != timestamp[:8]:
        raise incomplete("The date in the credential scope is not that of the request")
    if not _SIGNATURE.fullmatch(proof):
        raise incomplete("The signature must be 64 lower-case hexadecimal digits")
    return Claim(access_key_id, scope, timestamp, signed, proof, token, lifetime_s)


@lru_cache(maxsize=SAID_AGAIN_MAX)
def _remembered(read: Callable[[str], T], text: str) -> T:
    return read(text)


def _said_again(read: Callable[[str], T], text: str) -> T:
    """Nobody is known yet: what is kept is short, whoever sends it."""
    return _remembered(read, text) if len(text) <= SAID_AGAIN_CHARS else read(text)


def _credential(text: str) -> tuple[str, Scope]:
    parts = text.split("/")
    if len(parts) != 5 or parts[4] != TERMINATOR or not all(parts):
        raise incomplete(f"Credential must have 5 slash-delimited elements, the last being {TERMINATOR}")
    return parts[0], Scope(parts[1], parts[2], parts[3])


def _names(signed: str) -> tuple[str, ...]:
    names = tuple(signed.split(";"))
    if list(names) != sorted(set(names)) or signed != signed.lower():
        raise incomplete("SignedHeaders must be lower-case names in order")
    return names


def verify(claim: Claim, request: HttpRequest, *, now: float, key_of: Callable[[str], Key | None]) -> Principal:
    """Raises: Refused, with the code and status that this service gives for it."""
    service = claim.scope.service
    signed = claim.signed
    if "host" not in signed:
        raise incomplete("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    for name, _ in request.headers:
        if name.startswith("x-amz-") and name not in signed:
            raise incomplete(f"'{name}' is sent but is no 'SignedHeader' in the AWS Authorization.")

    age = now - _seconds(claim.timestamp)
    if age < -SKEW_S or age > (SKEW_S if claim.lifetime_s is None else claim.lifetime_s):
        raise expired(service, claim.timestamp, now)

    body_sha256 = sha256_of(request.body) if request.body else EMPTY_SHA256
    if (stated := request.header("x-amz-content-sha256")) is not None and stated != body_sha256:
        raise _mismatch(service)

    key = key_of(claim.access_key_id)
    if key is None or claim.token is not None:
        raise _unknown_key(service)
    try:
        canonical = canonical_request(
            request.method,
            canonical_path(request.path),
            canonical_query(request.query, without=None if claim.lifetime_s is None else "X-Amz-Signature"),
            request.headers,
            signed,
            body_sha256,
        )
    except KeyError as missing:
        raise incomplete(f"'{missing.args[0]}' is a 'SignedHeader' but is not sent") from None
    # Nobody is believed yet, and a scope is as long as its sender likes.
    usual = len(claim.scope.region) + len(claim.scope.service) <= SAID_AGAIN_CHARS
    scope_key = (_signing_key if usual else signing_key)(key.secret, claim.scope)
    expected = signature(scope_key, claim.timestamp, claim.scope, canonical)
    if not hmac.compare_digest(expected, claim.signature):
        raise _mismatch(service)
    own = frozenset() if claim.lifetime_s is None else QUERY_NAMES
    return Principal(key.account, key.operator, claim.access_key_id, claim.scope, own)


def _is_timestamp(text: str) -> bool:
    return len(text) == _TIMESTAMP_CHARS and _looks_like_one(text)


@lru_cache(maxsize=64)
def _looks_like_one(text: str) -> bool:
    return _TIMESTAMP.fullmatch(text) is not None


@lru_cache(maxsize=64)
def _seconds(timestamp: str) -> float:
    try:
        return datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise incomplete("The date of the request is no date") from None


# How services word it. EC2 has its own, older way.


def incomplete(detail: str) -> Refused:
    return Refused("IncompleteSignature", detail, status=400)


def _unknown_key(service: str) -> Refused:
    if service == "ec2":
        return ec2_refusal()
    return Refused("InvalidClientTokenId", "The security token included in the request is invalid.", status=403)


def _mismatch(service: str) -> Refused:
    if service == "ec2":
        return ec2_refusal()
    return Refused(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key"
        " and signing method. Consult the service documentation for details.",
        status=403,
    )


def ec2_refusal() -> Refused:
    return Refused("AuthFailure", "AWS was not able to validate the provided access credentials", status=401)


def expired(service: str, timestamp: str, now: float) -> Refused:
    if service == "ec2":
        return Refused("RequestExpired", "Request has expired.", status=400)
    here = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    return Refused(
        "SignatureDoesNotMatch",
        f"Signature expired or not yet valid: it was made at {timestamp}, and it is {here} here",
        status=403,
    )

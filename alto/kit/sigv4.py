"""AWS Signature Version 4 as pure functions: what a server verifies with and a client signs with.

Not here: who owns a key, whether the time is right, which headers must be signed (`api/auth/sigv4.py`). Paths follow
the rule of every service but S3: dot segments removed, then encoded once more. Source: "Signature Version 4 signing
process" (IAM user guide).
"""

import hashlib
import hmac
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, cast
from urllib.parse import SplitResult, quote, unquote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"


def _small_sha256() -> "Callable[..., hashlib._Hash]":
    """Python's own, where it has one: around some hundred bytes OpenSSL runs through more code than it takes to hash them."""
    for name in ("_sha2", "_sha256"):  # of Python 3.12 and 3.11
        try:
            return cast("Callable[..., hashlib._Hash]", importlib.import_module(name).sha256)
        except (ImportError, AttributeError):
            continue
    return hashlib.sha256


_SMALL_BYTES = 1024  # with more of them OpenSSL's speed counts
_sha256 = _small_sha256()


def sha256_of(data: bytes) -> str:
    return (_sha256 if len(data) <= _SMALL_BYTES else hashlib.sha256)(data).hexdigest()


EMPTY_SHA256 = sha256_of(b"")
KEYS_MAX = 4096


class Scope(NamedTuple):
    """What a signature is good for. `date` is "YYYYMMDD"."""

    date: str
    region: str
    service: str

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/{TERMINATOR}"


def signing_key(secret: str, scope: Scope) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in (scope.date, scope.region, scope.service, TERMINATOR):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def canonical_path(path: str) -> str:
    """`path` as it stands on the request line, without the query."""
    if path in ("/", ""):
        return "/"
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    # Not behind a last "." or "..", as RFC 3986 has it: botocore, which most clients sign with, does not.
    folder = "/" if kept and path.endswith("/") else ""
    return quote("/" + "/".join(kept) + folder, safe="/~")


def canonical_query(query: str, *, without: str | None = None) -> str:
    """`query` as it stands on the request line; the parameter named `without` is left out."""
    if not query:
        return ""
    pairs = []
    for piece in query.split("&"):
        if not piece:
            continue
        name, _, value = piece.partition("=")
        name = quote(unquote(name.replace("+", " ")), safe="-_.~")
        if name != without:
            pairs.append((name, quote(unquote(value.replace("+", " ")), safe="-_.~")))
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs])


def canonical_request(
    method: str,
    path: str,
    query: str,
    headers: Iterable[tuple[str, str]],
    signed: Sequence[str],
    payload_sha256: str,
) -> str:
    """`path` and `query` in canonical form; names in `headers` and `signed` in lower case.

    Headers that come more than once are joined with a comma in the order in which they came. Raises: KeyError: a signed
    header is not there.
    """
    values: dict[str, str] = {}
    for name, value in headers:
        if name in signed:
            value = " ".join(value.split())
            values[name] = f"{values[name]},{value}" if name in values else value
    lines = "".join([f"{name}:{values[name]}\n" for name in signed])
    return f"{method}\n{path}\n{query}\n{lines}\n{';'.join(signed)}\n{payload_sha256}"


def signature(key: bytes, timestamp: str, scope: Scope, canonical: str) -> str:
    """`timestamp` is "YYYYMMDDTHHMMSSZ", `key` that of `scope`."""
    digest = sha256_of(canonical.encode())
    mac = _mac(key).copy()
    mac.update(f"{ALGORITHM}\n{timestamp}\n{scope}\n{digest}".encode())
    return mac.hexdigest()


@lru_cache(maxsize=KEYS_MAX)
def _mac(key: bytes) -> hmac.HMAC:
    """What is the same for all that is signed with `key`: copy it."""
    return hmac.new(key, digestmod=_sha256)


def _host(parts: SplitResult) -> str:
    """As HTTP clients send it: without the scheme's own port."""
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    return host if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f"{host}:{parts.port}"


def signed_headers(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    access_key_id: str,
    secret: str,
    region: str,
    service: str,
    timestamp: str,
) -> dict[str, str]:
    """`headers` with what authenticates the request; every one of them is signed, and the host."""
    parts = urlsplit(url)
    scope = Scope(timestamp[:8], region, service)
    complete = {name.lower(): value for name, value in headers.items()}
    complete.setdefault("host", _host(parts))
    complete["x-amz-date"] = timestamp
    names = sorted(complete)
    canonical = canonical_request(
        method,
        canonical_path(parts.path),
        canonical_query(parts.query),
        complete.items(),
        names,
        sha256_of(body),
    )
    proof = signature(signing_key(secret, scope), timestamp, scope, canonical)
    complete["authorization"] = (
        f"{ALGORITHM} Credential={access_key_id}/{scope}, SignedHeaders={';'.join(names)}, Signature={proof}"
    )
    return complete

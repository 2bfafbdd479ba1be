"""Errors in the words of services that are not here, so that whoever calls one reads why instead of an answer that is not one.

Which protocol a client speaks is seen from its request, not from a model: newer ones add a header, S3 has a scope of its own,
REST services have paths. Invariant: code and message arrive in the fields in which that protocol's clients look for them.
"""

from typing import NamedTuple
from xml.sax.saxutils import escape

import msgspec

from alto.api.ec2.errors import WireError
from alto.api.wire.http import HttpRequest

_REST_XML = ("s3", "s3express", "route53", "cloudfront")


class Told(NamedTuple):
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


def told(request: HttpRequest, service: str, wire: WireError, request_id: str) -> Told | None:
    """None for a Query service, which is what most of the old ones are."""
    if request.header("smithy-protocol") == "rpc-v2-cbor":
        body = b"\xa2" + b"".join(_cbor(text) for text in ("__type", wire.code, "message", wire.message))
        return Told(body, "application/cbor", (("smithy-protocol", "rpc-v2-cbor"),))
    if service in _REST_XML:
        inner = f"<Code>{escape(wire.code)}</Code><Message>{escape(wire.message)}</Message><RequestId>{request_id}</RequestId>"
        return Told(f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'.encode(), "application/xml")
    target = request.header("x-amz-target") is not None
    if not target and request.path == "/":
        return None
    body = msgspec.json.encode({"__type": wire.code, "message": wire.message})
    headers = [("x-amzn-errortype", wire.code)]
    if request.header("x-amzn-query-mode") is not None:
        headers.append(("x-amzn-query-error", f"{wire.code};Sender"))
    kind = request.header("content-type") if target else None
    known = kind if kind in ("application/x-amz-json-1.0", "application/x-amz-json-1.1") else "application/json"
    return Told(body, known, tuple(headers))


def _cbor(text: str) -> bytes:
    """A text string (RFC 8949, major type 3)."""
    data = text.encode()
    if len(data) < 24:
        return bytes([0x60 | len(data)]) + data
    return b"\x7a" + len(data).to_bytes(4) + data if len(data) > 0xFFFF else b"\x79" + len(data).to_bytes(2) + data

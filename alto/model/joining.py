"""How a machine becomes a host of a cloud, and stops being one: invitations, what is said at joining, and who has left.

An invitation is a line of text that an operator carries from the server to the machine. It names the cloud and the
fingerprint of the cloud's own authority, so that the machine knows whom it talks to before it says anything secret.
"""

import base64
import binascii
import re
import zlib
from typing import ClassVar

import msgspec

from alto.model.records import Record

# A name within the cloud's own authority, found in no DNS: who proves to be it is this cloud, on whatever address.
DOOR_NAME = "{cloud_id}.hosts.alto.internal"
HOST_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,62}[a-zA-Z0-9])?")
SECRET_BYTES = 20


def door_name(cloud_id: str) -> str:
    return DOOR_NAME.format(cloud_id=cloud_id.lower())


class JoinToken(Record, frozen=True, kw_only=True):
    """One machine's way in, once. Only a digest of the secret is kept."""

    KIND: ClassVar[str] = "join_token"

    digest: str  # SHA-256 of the secret, hexadecimal
    name: str | None = None  # what the host shall be called; None: as its machine
    replaces: str | None = None  # the host whose place the machine takes
    created_at: float
    expires_at: float
    revoked: bool = False
    used_at: float | None = None
    used_by: str | None = None  # the host that came of it
    used_key: str | None = None  # the same machine may ask again: the answer may have been lost


class FormerHost(Record, frozen=True, kw_only=True):
    """A host that was removed or replaced; `id` is its key, or its host id when it had none.

    When its agent comes back after all it is told to remove `tombstones`, and then why it is a host no more.
    """

    KIND: ClassVar[str] = "former_host"

    host_id: str
    name: str
    replaced: bool = False  # another machine has its name and id
    removed_at: float
    tombstones: tuple[tuple[str, int], ...] = ()  # (instance id, epoch): what it may still have


class Invitation(msgspec.Struct, frozen=True, array_like=True):
    cloud_id: str
    authority: bytes  # SHA-256 of the authority's certificate
    token_id: str
    secret: bytes


_PREFIX = "alto-join-1."


class BadInvitation(ValueError):
    """`str` says what is wrong with the text."""


def invitation_text(invitation: Invitation) -> str:
    body = msgspec.msgpack.encode(invitation)
    return _PREFIX + base64.urlsafe_b64encode(body + zlib.crc32(body).to_bytes(4)).decode().rstrip("=")


def read_invitation(text: str) -> Invitation:
    """Raises: BadInvitation."""
    text = "".join(text.split())
    if not text.startswith(_PREFIX):
        raise BadInvitation(f"a token begins with {_PREFIX}")
    try:
        data = base64.b64decode(text[len(_PREFIX) :] + "==", altchars=b"-_", validate=False)
    except (binascii.Error, ValueError):
        raise BadInvitation("the token is cut off or mistyped") from None
    body, check = data[:-4], data[-4:]
    if zlib.crc32(body).to_bytes(4) != check:
        raise BadInvitation("the token is cut off or mistyped")
    try:
        return msgspec.msgpack.decode(body, type=Invitation)
    except msgspec.MsgspecError:
        raise BadInvitation("the token is of another version of Alto") from None


class Introduction(msgspec.Struct, frozen=True, kw_only=True):
    """What the door tells anybody: who it says it is. Nothing may rest on it but a comparison with a fingerprint."""

    cloud_id: str
    authority: str  # PEM


class Join(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    token_id: str
    secret: bytes
    request: str  # a certificate request, PEM, by the key that this host will have
    name: str
    kind: str  # of compute: "qemu", "container"
    machine: str = ""  # as in Origin


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    cloud_id: str
    host_id: str
    name: str
    certificate: str  # PEM
    public_pool: str


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """`host`: the key that asks is a host's; False: it was, until that one was removed or replaced."""

    host: bool


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why the door says no, in the words of `Refused`."""

    code: str
    message: str

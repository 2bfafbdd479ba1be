"""Key pairs: made here (the private half leaves once, in the answer, and is kept nowhere) or brought along.

Fingerprints are computed as EC2 does ("Verify the fingerprint of your key pair" in the user guide): a created RSA key has
the SHA-1 of its private key, an imported one the MD5 of its public key; ED25519 always has OpenSSH's SHA-256.
"""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import is_own
from alto.api.ec2.ppk import ppk
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.model.errors import NotFound, Refused
from alto.model.images import KeyPair
from alto.store.store import Reader, Tx

NAME_MAX = 255
RSA_BITS = 2048
# Shorter ones are broken; longer ones cost a guest's sshd seconds for each login.
RSA_BITS_MIN, RSA_BITS_MAX = 1024, 8192
_NOT_A_KEY = "Key is not in valid OpenSSH public key format"
MATERIAL_MAX_BYTES = 16 * 1024

_PublicKey = rsa.RSAPublicKey | ed25519.Ed25519PublicKey
_PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class CreateKeyPairRequest(msgspec.Struct, frozen=True, rename="pascal"):
    key_name: str | None = None
    key_type: str = "rsa"
    key_format: str = "pem"
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_key_pair(call: Call, request: CreateKeyPairRequest) -> dict[str, object]:
    name = _checked_name(request.key_name)
    if request.key_type not in ("rsa", "ed25519"):
        raise Refused(
            "InvalidParameterValue",
            f"Value ({request.key_type}) for parameter KeyType is invalid. Valid values are rsa and ed25519.",
        )
    if request.key_format not in ("pem", "ppk"):
        raise Refused("InvalidParameterValue", f"Value ({request.key_format}) for parameter KeyFormat is invalid.")
    tags = tags_for(request.tag_specifications, "key-pair")["key-pair"]
    # Before the costly part; the unique key decides when two come at once.
    call.store.read(lambda reader: _refuse_taken(reader, call, name))
    private = await _generate(call, request.key_type)
    public = private.public_key()
    pair = KeyPair(
        id=draw_id(call.world.chance, "key"),
        account=call.account,
        region=call.region,
        name=name,
        type=request.key_type,
        fingerprint=_sha1_of_private(private) if isinstance(private, rsa.RSAPrivateKey) else _sha256(public),
        public_key=_openssh(public, name),
        created_at=call.world.clock.now(),
        tags=tags,
    )
    await call.store.write(lambda tx: _put_new(tx, call, pair))
    return {**_made(pair), "KeyMaterial": ppk(private, name) if request.key_format == "ppk" else _pem(private)}


async def _generate(call: Call, type: str) -> _PrivateKey:
    if type == "ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(call.world.chance.bytes(32))
    # Finding primes takes some 50 ms and more: in a thread, so that other calls go on.
    # OpenSSL takes its own chance for it; there is no way to hand ours in.
    return await asyncio.to_thread(rsa.generate_private_key, public_exponent=65537, key_size=RSA_BITS)


class ImportKeyPairRequest(msgspec.Struct, frozen=True, rename="pascal"):
    key_name: str | None = None
    public_key_material: bytes | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def import_key_pair(call: Call, request: ImportKeyPairRequest) -> dict[str, object]:
    name = _checked_name(request.key_name)
    if not request.public_key_material:
        raise Refused("MissingParameter", "The request must contain the parameter PublicKeyMaterial")
    tags = tags_for(request.tag_specifications, "key-pair")["key-pair"]
    public, comment = _parsed(request.public_key_material)
    is_rsa = isinstance(public, rsa.RSAPublicKey)
    pair = KeyPair(
        id=draw_id(call.world.chance, "key"),
        account=call.account,
        region=call.region,
        name=name,
        type="rsa" if is_rsa else "ed25519",
        fingerprint=_md5_of_public(public) if is_rsa else _sha256(public),
        public_key=_openssh(public, comment or name),
        created_at=call.world.clock.now(),
        tags=tags,
    )
    await call.store.write(lambda tx: _put_new(tx, call, pair))
    return _made(pair)


def _put_new(tx: Tx, call: Call, pair: KeyPair) -> None:
    _refuse_taken(tx, call, pair.name)
    tx.put(pair)


def _refuse_taken(reader: Reader, call: Call, name: str) -> None:
    if find_by_name(reader, call.account, call.region, name) is not None:
        raise Refused("InvalidKeyPair.Duplicate", f"The keypair '{name}' already exists.")


def find_by_name(reader: Reader, account: str, region: str, name: str) -> KeyPair | None:
    found = reader.where(KeyPair, account=account, region=region, name=name, limit=1)
    return found[0] if found else None


def _made(pair: KeyPair) -> dict[str, object]:
    return {
        "KeyPairId": pair.id,
        "KeyName": pair.name,
        "KeyFingerprint": pair.fingerprint,
        "Tags": shown(pair.tags),
    }


def _checked_name(name: str | None) -> str:
    if not name:
        raise Refused("MissingParameter", "The request must contain the parameter KeyName")
    # ASCII and no control characters: the name goes into the key's comment and so into guests' authorized_keys.
    if len(name) > NAME_MAX or not name.isascii() or not name.isprintable() or name != name.strip():
        raise Refused(
            "InvalidParameterValue",
            f"Value ({name[:80]!r}) for parameter KeyName is invalid. Up to {NAME_MAX} "
            "printable ASCII characters, no blanks at the ends.",
        )
    return name


class DescribeKeyPairsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    key_names: tuple[str, ...] = ()
    key_pair_ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    include_public_key: bool = False


_FILTERS: Filters[KeyPair] = {
    "fingerprint": lambda pair: pair.fingerprint,
    "key-name": lambda pair: pair.name,
    "key-pair-id": lambda pair: pair.id,
}


async def describe_key_pairs(call: Call, request: DescribeKeyPairsRequest) -> dict[str, object]:
    matches = matcher(request.filters, _FILTERS)

    def body(reader: Reader) -> list[KeyPair]:
        if not request.key_names and not request.key_pair_ids:
            return reader.where(KeyPair, account=call.account, region=call.region)
        found: dict[str, KeyPair] = {}
        for id in request.key_pair_ids:
            pair = reader.find(KeyPair, id)
            if pair is None or not is_own(call, pair):
                raise NotFound(KeyPair.KIND, id)
            found[pair.id] = pair
        for name in request.key_names:
            pair = find_by_name(reader, call.account, call.region, name)
            if pair is None:
                raise NotFound(KeyPair.KIND, name)
            found[pair.id] = pair
        return list(found.values())

    pairs = sorted((pair for pair in call.store.read(body) if matches(pair)), key=lambda pair: pair.name)
    return {"KeyPairs": [_shown(pair, request.include_public_key) for pair in pairs]}


def _shown(pair: KeyPair, include_public_key: bool) -> dict[str, object]:
    item: dict[str, object] = {**_made(pair), "KeyType": pair.type, "CreateTime": pair.created_at}
    return {**item, "PublicKey": pair.public_key} if include_public_key else item


class DeleteKeyPairRequest(msgspec.Struct, frozen=True, rename="pascal"):
    key_name: str | None = None
    key_pair_id: str | None = None


async def delete_key_pair(call: Call, request: DeleteKeyPairRequest) -> dict[str, object]:
    """A key pair that is not there is success, as at EC2 since its first day. Running instances keep their key."""
    name, id = request.key_name, request.key_pair_id
    if not name and not id:
        raise Refused("MissingParameter", "The request must contain the parameter KeyName or KeyPairId")

    def body(tx: Tx) -> str | None:
        pair = tx.find(KeyPair, id) if id else find_by_name(tx, call.account, call.region, name or "")
        if pair is None or not is_own(call, pair):
            return None
        tx.delete(KeyPair, pair.id)
        return pair.id

    deleted = await call.store.write(body)
    return {"Return": True, "KeyPairId": deleted} if deleted else {"Return": True}


def _parsed(material: bytes) -> tuple[_PublicKey, str]:
    """The key and its comment: an OpenSSH line, an SSH2 block (RFC 4716), PEM or base64 DER. What boto3 sends is base64 of
    that, and the wire has undone it; tools that encode once more are understood too, as at EC2."""
    if len(material) > MATERIAL_MAX_BYTES:
        raise Refused("InvalidParameterValue", f"Public key material is longer than {MATERIAL_MAX_BYTES} bytes")
    for candidate in (material, _decoded(material)):
        if candidate:
            found = _openssh_line(candidate) or _rfc4716(candidate) or _pem_or_der(candidate)
            if found is not None:
                return _acceptable(found[0]), found[1]
    raise Refused("InvalidKey.Format", _NOT_A_KEY)


def _decoded(material: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(material.split()), validate=True)
    except binascii.Error:
        return b""


def _openssh_line(material: bytes) -> tuple[object, str] | None:
    fields = material.strip().split(None, 2)
    if len(fields) < 2 or b"\n" in material.strip():
        return None
    try:
        key = serialization.load_ssh_public_key(b" ".join(fields[:2]))
    except (ValueError, UnsupportedAlgorithm):
        return None
    comment = fields[2].decode(errors="replace") if len(fields) > 2 else ""
    return key, "".join(c for c in comment if c.isprintable())[:NAME_MAX]


def _rfc4716(material: bytes) -> tuple[object, str] | None:
    lines = material.strip().splitlines()
    if len(lines) < 3 or not lines[0].startswith(b"---- BEGIN SSH2 PUBLIC KEY"):
        return None
    blob, continued = b"", False
    for line in lines[1:-1]:
        if not continued and b":" not in line:
            blob += line.strip()
        continued = (continued or b":" in line) and line.endswith(b"\\")
    kind = _decoded(blob)[4:].split(b"\0", 1)[0]
    return _openssh_line((b"ssh-ed25519 " if b"ed25519" in kind else b"ssh-rsa ") + blob)


def _pem_or_der(material: bytes) -> tuple[object, str] | None:
    load = serialization.load_pem_public_key if material.lstrip().startswith(b"-----") else serialization.load_der_public_key
    try:
        return load(material), ""
    except (ValueError, UnsupportedAlgorithm):
        return None


def _acceptable(key: object) -> _PublicKey:
    if isinstance(key, rsa.RSAPublicKey):
        if not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
            raise Refused("InvalidKey.Format", f"{_NOT_A_KEY}: RSA keys have {RSA_BITS_MIN} to {RSA_BITS_MAX} bits")
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise Refused("InvalidKey.Format", f"{_NOT_A_KEY}: only RSA and ED25519 keys are supported")


def _openssh(public: _PublicKey, comment: str) -> str:
    line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    return f"{line} {comment}"


def _pem(private: _PrivateKey) -> str:
    # ssh clients read RSA in the oldest form; there is no such form for ED25519.
    form = serialization.PrivateFormat.TraditionalOpenSSL
    if isinstance(private, ed25519.Ed25519PrivateKey):
        form = serialization.PrivateFormat.OpenSSH
    return private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _sha1_of_private(private: rsa.RSAPrivateKey) -> str:
    der = private.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return _colons(hashlib.sha1(der, usedforsecurity=False).digest())


def _md5_of_public(public: _PublicKey) -> str:
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _colons(hashlib.md5(der, usedforsecurity=False).digest())


def _sha256(public: _PublicKey) -> str:
    blob = base64.b64decode(_openssh(public, "").split()[1])
    return base64.b64encode(hashlib.sha256(blob).digest()).decode()


def _colons(digest: bytes) -> str:
    return digest.hex(":")


OPERATIONS: Mapping[str, Operation] = {
    "CreateKeyPair": Operation(CreateKeyPairRequest, create_key_pair),
    "DeleteKeyPair": Operation(DeleteKeyPairRequest, delete_key_pair),
    "DescribeKeyPairs": Operation(DescribeKeyPairsRequest, describe_key_pairs),
    "ImportKeyPair": Operation(ImportKeyPairRequest, import_key_pair),
}

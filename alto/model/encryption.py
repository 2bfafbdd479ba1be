"""Encryption of volumes: whose key it is under, and the key itself as everybody but the server has it: sealed.

A disk is opened by a key of 32 bytes of chance, written in hexadecimal. It is sealed by a key of the cloud's (`api/vault.py`)
as soon as it is drawn, and goes sealed into rows, messages, manifests and records beside disks. A host that must open a disk
asks the server, and forgets what it heard once its hypervisor has it (docs/adr/0016-encrypted-volumes.md).
"""

import hashlib

import msgspec

KEY_RING = "vault.json"  # in the state's folder
NEXT = ".next"  # after the name of the master key's file: the one that is about to take its place


class Encryption(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`kms_key_id` is an ARN; "" in an image's empty device that takes whichever is the default when it is launched.
    `sealed_key` is "" in such a device: each launch draws its own."""

    kms_key_id: str = ""
    sealed_key: str = ""


class KeyRing(msgspec.Struct, frozen=True, kw_only=True):
    """The file KEY_RING: a cloud's own keys, sealed by its master key; the last one seals what is new."""

    master: str  # fingerprint of the master key that opens them
    keys: tuple[str, ...]


def fingerprint(master: bytes) -> str:
    """Tells two master keys apart, and nothing of either."""
    return hashlib.sha256(b"alto: the master key of a cloud" + master).hexdigest()[:32]


def older_fingerprint(master: bytes) -> str:
    """As clouds had it that are older than the ring."""
    return hashlib.sha256(b"alto: the key of a disk" + master).hexdigest()[:32]

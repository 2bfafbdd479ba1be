"""Encryption of volumes: whose key it is under, and the key itself as everybody but the server has it: sealed.

A disk is opened by a key of 32 bytes of chance, written in hexadecimal. It is sealed by the cloud's master key (`api/vault.py`)
as soon as it is drawn, and goes sealed into rows, messages, manifests and records beside disks. A host that must open a disk
asks the server, and forgets what it heard once its hypervisor has it (docs/adr/0016-encrypted-volumes.md).
"""

import msgspec


class Encryption(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`kms_key_id` is an ARN; "" in an image's empty device that takes whichever is the default when it is launched.
    `sealed_key` is "" in such a device: each launch draws its own."""

    kms_key_id: str = ""
    sealed_key: str = ""

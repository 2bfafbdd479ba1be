"""Whether new volumes and snapshots are encrypted, and by which key; and encryption by default, of an account in a region.

There is no KMS here. An account has its `alias/aws/ebs` in each region, with an ARN that stays; any other well-formed key is
taken at its word, as EC2 takes it before it asks KMS, and shown again: it is the name under which disks are told apart, whose
real key is drawn by the cloud (docs/adr/0016-encrypted-volumes.md). An alias stands for a key whose id comes of its name.

Invariant: what is made of something encrypted is encrypted. It keeps its key where it stays with the same account and KMS key.
"""

import hashlib
import re
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from alto.api.accounts import region_key
from alto.api.call import Call, Operation
from alto.api.vault import CHANCE_BYTES
from alto.model.accounts import AccountRegion
from alto.model.encryption import Encryption
from alto.model.errors import Refused
from alto.store.store import Reader, Tx

DEFAULT_ALIAS = "alias/aws/ebs"
_SEED_BYTES = 32
_KEY = re.compile(r"[A-Za-z0-9-]{1,64}")
_ALIAS = re.compile(r"alias/[A-Za-z0-9/_-]{1,250}")
_ARN = re.compile(r"arn:(?P<partition>aws[a-z-]*):kms:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):(?P<what>.+)")


def own_region(reader: Reader, call: Call) -> AccountRegion:
    return reader.get(AccountRegion, region_key(call.account, call.region))


class Encrypting:
    """Decides for one request. A transaction's body may run twice: what is drawn here stays the same."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._seed: bytes | None = None

    def chosen(
        self,
        region: AccountRegion,
        encrypted: bool | None,
        kms_key_id: str | None,
        *,
        name: str = "",
        source: Encryption | None = None,
        keeps_key: bool = True,
    ) -> Encryption | None:
        """`region`: the caller's, with its defaults. `name` tells apart what one request makes. `source`: of what this is made
        from; `keeps_key`: it is the account's own, and this is no copy, which has the default key unless another is named.

        Raises: Refused."""
        if kms_key_id is not None and not (encrypted or region.volumes_encrypted or (source and encrypted is None)):
            raise Refused("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
        if source is not None and encrypted is False and not region.volumes_encrypted:
            raise Refused(
                "InvalidParameterValue",
                "Value (false) for parameter encrypted is invalid. What is made of an encrypted snapshot is encrypted.",
            )
        if source is None and not encrypted and not region.volumes_encrypted:
            return None
        if kms_key_id is None and source is not None and keeps_key:
            return source
        key = kms_arn(self._call, kms_key_id) if kms_key_id is not None else default_key(self._call, region)
        if source is not None and keeps_key and source.kms_key_id == key:
            return source
        return Encryption(kms_key_id=key, sealed_key=self._sealed(name))

    def _sealed(self, name: str) -> str:
        vault = self._call.settings.vault
        if vault is None:
            raise Refused("UnsupportedOperation", "This cloud has no master key, and so no encrypted volumes")
        if self._seed is None:
            self._seed = self._call.world.chance.bytes(_SEED_BYTES)
        return vault.seal(hashlib.sha512(self._seed + name.encode()).digest()[:CHANCE_BYTES])


def default_key(call: Call, region: AccountRegion) -> str:
    return region.volume_key or amazons_key(call.account, call.region)


def amazons_key(account: str, region: str) -> str:
    """The ARN of the account's `alias/aws/ebs`, which nobody else can be given."""
    return _derived("aws", region, account, DEFAULT_ALIAS)


def kms_arn(call: Call, text: str) -> str:
    """The ARN of what a request calls KmsKeyId: a key's id, an alias, or the ARN of either. Raises: Refused."""
    partition, account, what = "aws", call.account, text
    if found := _ARN.fullmatch(text):
        partition, account, what = found["partition"], found["account"], found["what"]
        if found["region"] != call.region:
            raise Refused(
                "InvalidParameterValue",
                f"Value ({text[:200]}) for parameter KmsKeyId is invalid. The key must be in the region {call.region}.",
            )
        if _ALIAS.fullmatch(what):
            return _derived(partition, call.region, account, what)
        if what.startswith("key/") and _KEY.fullmatch(what.removeprefix("key/")):
            return text
    elif _ALIAS.fullmatch(what):
        return _derived(partition, call.region, account, what)
    elif _KEY.fullmatch(what):
        return f"arn:{partition}:kms:{call.region}:{account}:key/{what}"
    raise Refused(
        "InvalidParameterValue",
        f"Value ({text[:200]}) for parameter KmsKeyId is invalid. It is a key's id, alias/NAME, or the ARN of either.",
    )


def _derived(partition: str, region: str, account: str, alias: str) -> str:
    digits = hashlib.sha256(f"{account} {region} {alias}".encode()).hexdigest()
    id = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))
    return f"arn:{partition}:kms:{region}:{account}:key/{id}"


def has_amazons_key(encryption: Encryption | None, account: str, region: str) -> bool:
    return encryption is not None and encryption.kms_key_id == amazons_key(account, region)


# -- Encryption by default ---------------------------------------------------------------------------------------------


class NothingAsked(msgspec.Struct, frozen=True, rename="pascal"):
    pass


async def get_ebs_encryption_by_default(call: Call, request: NothingAsked) -> dict[str, object]:
    on = call.store.read(lambda reader: own_region(reader, call)).volumes_encrypted
    return {"EbsEncryptionByDefault": on, "SseType": "sse-kms" if on else "none"}


async def enable_ebs_encryption_by_default(call: Call, request: NothingAsked) -> dict[str, object]:
    if call.settings.vault is None:
        raise Refused("UnsupportedOperation", "This cloud has no master key, and so no encrypted volumes")
    return await _switch(call, True)


async def disable_ebs_encryption_by_default(call: Call, request: NothingAsked) -> dict[str, object]:
    return await _switch(call, False)


async def _switch(call: Call, on: bool) -> dict[str, object]:
    """Of what is made from now on; what is there stays as it is."""

    def body(tx: Tx) -> None:
        region = own_region(tx, call)
        if region.volumes_encrypted is not on:
            tx.put(replace(region, volumes_encrypted=on))

    await call.store.write(body)
    return {"EbsEncryptionByDefault": on}


async def get_ebs_default_kms_key_id(call: Call, request: NothingAsked) -> dict[str, object]:
    return {"KmsKeyId": call.store.read(lambda reader: own_region(reader, call)).volume_key or DEFAULT_ALIAS}


class ModifyDefaultKeyRequest(msgspec.Struct, frozen=True, rename="pascal"):
    kms_key_id: str


async def modify_ebs_default_kms_key_id(call: Call, request: ModifyDefaultKeyRequest) -> dict[str, object]:
    key = kms_arn(call, request.kms_key_id)
    await _set_key(call, None if key == amazons_key(call.account, call.region) else key)
    return {"KmsKeyId": key}


async def reset_ebs_default_kms_key_id(call: Call, request: NothingAsked) -> dict[str, object]:
    await _set_key(call, None)
    return {"KmsKeyId": amazons_key(call.account, call.region)}


async def _set_key(call: Call, key: str | None) -> None:
    def body(tx: Tx) -> None:
        region = own_region(tx, call)
        if region.volume_key != key:
            tx.put(replace(region, volume_key=key))

    await call.store.write(body)


OPERATIONS: Mapping[str, Operation] = {
    "DisableEbsEncryptionByDefault": Operation(NothingAsked, disable_ebs_encryption_by_default),
    "EnableEbsEncryptionByDefault": Operation(NothingAsked, enable_ebs_encryption_by_default),
    "GetEbsDefaultKmsKeyId": Operation(NothingAsked, get_ebs_default_kms_key_id),
    "GetEbsEncryptionByDefault": Operation(NothingAsked, get_ebs_encryption_by_default),
    "ModifyEbsDefaultKmsKeyId": Operation(ModifyDefaultKeyRequest, modify_ebs_default_kms_key_id),
    "ResetEbsDefaultKmsKeyId": Operation(NothingAsked, reset_ebs_default_kms_key_id),
}

"""What launches of an account that say nothing of the metadata service do: its defaults, in one region.

The request comes first, then these, then what the image demands, then EC2's own. Not here: what an instance has
(`instance_attributes.py` changes it), and the refusal of launches that do not require tokens (HttpTokensEnforced).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.encryption import own_region
from alto.model.accounts import AccountRegion, MetadataDefaults
from alto.model.errors import Refused
from alto.model.instances import MetadataOptions
from alto.store.store import Tx

NO_PREFERENCE = "no-preference"
HOPS_MAX = 64
_NOTHING, _AMAZONS = MetadataDefaults(), MetadataOptions()
_IMAGES = MetadataOptions(tokens_required=True, hop_limit=2)  # where an image demands it
_SWITCH = ("enabled", "disabled", NO_PREFERENCE)


def default_metadata(region: AccountRegion, *, imds_v2: bool) -> MetadataOptions:
    """`imds_v2`: the image's word, which counts where the account has none ("Order of precedence for instance metadata
    options")."""
    own, rest = region.metadata, _IMAGES if imds_v2 else _AMAZONS
    if own == _NOTHING:
        return rest  # of nearly every launch
    return replace(
        rest,
        tokens_required=rest.tokens_required if own.http_tokens is None else own.http_tokens == "required",
        hop_limit=own.hop_limit or rest.hop_limit,
        enabled=rest.enabled if own.http_endpoint is None else own.http_endpoint == "enabled",
        tags_enabled=rest.tags_enabled if own.tags is None else own.tags == "enabled",
    )


class GetDefaultsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    pass


async def get_instance_metadata_defaults(call: Call, request: GetDefaultsRequest) -> dict[str, Any]:
    """What has no preference is not shown."""
    own = call.store.read(lambda reader: own_region(reader, call)).metadata
    level = {
        "HttpTokens": own.http_tokens,
        "HttpPutResponseHopLimit": own.hop_limit,
        "HttpEndpoint": own.http_endpoint,
        "InstanceMetadataTags": own.tags,
        "ManagedBy": "account",
    }
    return {"AccountLevel": {name: value for name, value in level.items() if value is not None}}


class ModifyDefaultsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    http_tokens: str | None = None
    http_put_response_hop_limit: int | None = None
    http_endpoint: str | None = None
    instance_metadata_tags: str | None = None


async def modify_instance_metadata_defaults(call: Call, request: ModifyDefaultsRequest) -> dict[str, Any]:
    asked = {
        "http_tokens": _one_of("HttpTokens", request.http_tokens, ("optional", "required", NO_PREFERENCE)),
        "hop_limit": _hops(request.http_put_response_hop_limit),
        "http_endpoint": _one_of("HttpEndpoint", request.http_endpoint, _SWITCH),
        "tags": _one_of("InstanceMetadataTags", request.instance_metadata_tags, _SWITCH),
    }
    # A hop limit of -1 is EC2's way to say that there is no preference.
    changes = {name: None if value in (NO_PREFERENCE, -1) else value for name, value in asked.items() if value is not None}

    def body(tx: Tx) -> None:
        region = own_region(tx, call)
        own: MetadataDefaults = replace(region.metadata, **changes)
        if own != region.metadata:
            tx.put(replace(region, metadata=own))

    await call.store.write(body)
    return {"Return": True}


def _one_of(name: str, value: str | None, allowed: Sequence[str]) -> str | None:
    if value is not None and value not in allowed:
        raise Refused("InvalidParameterValue", f"Invalid value '{value[:80]}' for {name}. Valid values: {', '.join(allowed)}")
    return value


def _hops(value: int | None) -> int | None:
    if value is not None and value != -1 and not 1 <= value <= HOPS_MAX:
        raise Refused(
            "InvalidParameterValue", f"Value ( {value} ) for HttpPutResponseHopLimit is invalid: 1 to {HOPS_MAX}, or -1"
        )
    return value


OPERATIONS: Mapping[str, Operation] = {
    "GetInstanceMetadataDefaults": Operation(GetDefaultsRequest, get_instance_metadata_defaults),
    "ModifyInstanceMetadataDefaults": Operation(ModifyDefaultsRequest, modify_instance_metadata_defaults),
}

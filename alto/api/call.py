"""One authenticated call on its way through the API, and what an operation is.

An operation is a typed function: `(Call, Request) -> dict`. `Request` is a msgspec struct that names the parameters this
operation honours (`rename="pascal"`, EC2's member names); a parameter that AWS knows and the struct does not is refused as
UnsupportedOperation by the gateway, never ignored. The dict answered has the output shape's member names.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from alto.api.vault import Vault
from alto.kit.world import World
from alto.store.store import Store

# Amazon's own letters, where they are others than three from the first.
ZONES = {
    "ap-northeast-1": "acd",
    "ap-northeast-2": "abcd",
    "ca-central-1": "abd",
    "us-east-1": "abcdef",
    "us-west-1": "ab",
    "us-west-2": "abcd",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator chose for this cloud."""

    cloud_id: str
    regions: tuple[str, ...]  # the first is the default one
    public_pool: str = "127.64.0.0/16"
    simulated: bool = False
    any_image: bool = False  # of simulated hosts: images that nobody registered can be launched (model/images.py, stand_in)
    old_signatures: bool = True  # signature version 2 is taken
    vault: Vault | None = None  # None: nothing can be encrypted
    patience_s: float = 0.0  # how long an answer may wait for instances that are on their way (api/ec2/instance_moments.py)

    def zones(self, region: str) -> tuple[str, ...]:
        return _zones(region)


@lru_cache(maxsize=256)
def _zones(region: str) -> tuple[str, ...]:
    return tuple(region + letter for letter in ZONES.get(region, "abc"))


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, where. Operations read and write only rows of `account` in `region`."""

    account: str
    operator: bool
    access_key_id: str
    region: str
    request_id: str
    operation: str
    digest: str  # of the parameters without ClientToken and DryRun, for idempotency
    world: World
    store: Store
    settings: Settings


class Operation(NamedTuple):
    request: type[msgspec.Struct]
    run: Callable[[Call, Any], Awaitable[dict[str, Any]]]


Operations = Mapping[str, Operation]

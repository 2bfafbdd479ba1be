"""Goal: what an account prefers of the metadata service is what its launches have that say nothing, and nobody else's. Method:
whole operations over a store in memory."""

from typing import Any

import pytest

from tests.api.cloud import Cloud, Tenant
from tests.api.rows import IMAGE, host, tiny


@pytest.fixture(autouse=True)
def image(cloud: Cloud) -> None:
    cloud.put(
        host(1, vcpus=64, memory_mib=64_000),
        tiny(size_gib=2),
    )


def launched(tenant: Tenant, **options: Any) -> tuple[Any, ...]:
    """(tokens, hops, endpoint, tags) of a new instance."""
    more = {"MetadataOptions": options} if options else {}
    found = tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1, **more)["Instances"][0]["MetadataOptions"]
    return tuple(found[name] for name in ("HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "InstanceMetadataTags"))


AMAZONS = ("optional", 1, "enabled", "disabled")


def test_nothing_is_preferred_at_first(tenant: Tenant) -> None:
    assert tenant("GetInstanceMetadataDefaults") == {"AccountLevel": {"ManagedBy": "account"}}
    assert launched(tenant) == AMAZONS


def test_launches_that_say_nothing_follow(tenant: Tenant, stranger: Tenant) -> None:
    preferred = {"HttpTokens": "required", "HttpPutResponseHopLimit": 3, "InstanceMetadataTags": "enabled"}
    assert tenant("ModifyInstanceMetadataDefaults", **preferred) == {"Return": True}
    assert tenant("GetInstanceMetadataDefaults")["AccountLevel"] == {**preferred, "ManagedBy": "account"}
    assert launched(tenant) == ("required", 3, "enabled", "enabled")
    assert launched(tenant, HttpTokens="optional") == ("optional", 3, "enabled", "enabled")
    assert launched(tenant, HttpPutResponseHopLimit=1) == ("required", 1, "enabled", "enabled")
    assert launched(stranger) == AMAZONS
    assert launched(tenant.in_region("eu-central-1")) == AMAZONS


def test_one_preference_goes_alone(tenant: Tenant) -> None:
    tenant("ModifyInstanceMetadataDefaults", HttpTokens="required", HttpPutResponseHopLimit=2, HttpEndpoint="disabled")
    tenant("ModifyInstanceMetadataDefaults", HttpTokens="no-preference", HttpPutResponseHopLimit=-1)
    assert tenant("GetInstanceMetadataDefaults")["AccountLevel"] == {"HttpEndpoint": "disabled", "ManagedBy": "account"}
    assert launched(tenant) == ("optional", 1, "disabled", "disabled")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"HttpTokens": "always"}, "InvalidParameterValue"),
        ({"HttpEndpoint": "required"}, "InvalidParameterValue"),
        ({"HttpPutResponseHopLimit": 0}, "InvalidParameterValue"),
        ({"HttpPutResponseHopLimit": 65}, "InvalidParameterValue"),
        ({"HttpTokensEnforced": "enabled"}, "UnsupportedOperation"),
    ],
)
def test_what_cannot_be_preferred(tenant: Tenant, changes: dict[str, Any], code: str) -> None:
    assert tenant.refused("ModifyInstanceMetadataDefaults", **changes) == code
    assert tenant("GetInstanceMetadataDefaults")["AccountLevel"] == {"ManagedBy": "account"}

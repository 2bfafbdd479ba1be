"""One fresh cloud a test, with an account in it; nothing outside this process."""

from collections.abc import Iterator

import pytest

from tests.api.cloud import Cloud, Tenant


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    yield cloud
    cloud.close()


@pytest.fixture
def tenant(cloud: Cloud) -> Tenant:
    return cloud.account("alice")


@pytest.fixture
def stranger(cloud: Cloud) -> Tenant:
    return cloud.account("mallory")

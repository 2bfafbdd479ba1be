"""One living cloud a module, since it takes a moment to rise; accounts of its own for each test."""

from collections.abc import Iterator

import pytest

from alto.api.wire.models import Models
from tests.api.cloud import Tenant
from tests.api.living.cloud import LivingCloud


@pytest.fixture(scope="module")
def cloud(models: Models) -> Iterator[LivingCloud]:
    cloud = LivingCloud(models)
    yield cloud
    cloud.close()


@pytest.fixture
def tenant(cloud: LivingCloud, request: pytest.FixtureRequest) -> Tenant:
    return cloud.account(request.node.name[:40])


@pytest.fixture
def stranger(cloud: LivingCloud, request: pytest.FixtureRequest) -> Tenant:
    return cloud.account("other " + request.node.name[:40])

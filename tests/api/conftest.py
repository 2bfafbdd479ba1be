"""One fresh cloud a test, with accounts in it; nothing outside this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from alto.api.wire.models import Models
from alto.kit.world import RealFiles
from tests.api.cloud import Cloud, Tenant


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(RealFiles(), Path(tmp_path_factory.mktemp("models")))


@pytest.fixture
def cloud(models: Models) -> Iterator[Cloud]:
    cloud = Cloud(models)
    yield cloud
    cloud.close()


@pytest.fixture
def tenant(cloud: Cloud) -> Tenant:
    return cloud.account("alice")


@pytest.fixture
def stranger(cloud: Cloud) -> Tenant:
    return cloud.account("mallory")


@pytest.fixture
def operator(cloud: Cloud) -> Tenant:
    return cloud.account("operator", operator=True)

"""The service models, compiled once for all tests of the wire."""

from pathlib import Path

import pytest

from alto.api.wire.models import Models
from alto.kit.world import RealFiles


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(RealFiles(), Path(tmp_path_factory.mktemp("models")))

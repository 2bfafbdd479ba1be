"""What holds for every test: one that boots real machines has more time, for emulation on a busy machine is slow, and no
single example of a property is timed, for the same reason."""

import hypothesis
import pytest

MACHINES_S = 600

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("vm") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(MACHINES_S))

"""What holds for every test: one that boots real machines has more time, for emulation on a busy machine is slow, and no
single example of a property is timed, for the same reason. Tests that share a cloud run one after the other, in one process
(`pytest --dist loadgroup`); other files run beside them, each process in namespaces and folders of its own."""

import hypothesis
import pytest

MACHINES_S = 600

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


# First: xdist reads the groups in a hook of the same name.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("vm") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(MACHINES_S))
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))

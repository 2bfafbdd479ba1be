"""What types may take. Goal: every type has a rate, and Amazon's words and baselines mean what they say. Method: some types by
hand, and the whole catalogue for gaps."""

import pytest

from alto.model.instance_types import CATALOGUE
from alto.model.limits import limits_of


@pytest.mark.parametrize(
    ("name", "mbps", "weight"),
    [
        ("m1.tiny", 100, 1024),
        ("t3.nano", 5000, 102),  # two vCPUs at 5 %
        ("t3.large", 5000, 614),  # two at 30 %
        ("t2.xlarge", 500, 922),  # four at 22.5 %
        ("m5.xlarge", 10000, 4096),
        ("m6i.large", 12500, 2048),
    ],
)
def test_a_type_may_take_what_amazon_says(name: str, mbps: int, weight: int) -> None:
    kind = CATALOGUE[name]
    limits = limits_of(name, kind.vcpus, kind.memory_mib)
    assert (limits.network_mbps, limits.cpu_weight) == (mbps, weight)
    assert (limits.vcpus, limits.memory_mib) == (kind.vcpus, kind.memory_mib)


def test_no_type_is_without_limits() -> None:
    for name, kind in CATALOGUE.items():
        assert limits_of(name, kind.vcpus, kind.memory_mib).network_mbps, name

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
        ("c4.8xlarge", 10000, 36864),
        ("p4d.24xlarge", 100000, 98304),  # of each of its four cards
    ],
)
def test_a_type_may_take_what_amazon_says(name: str, mbps: int, weight: int) -> None:
    kind = CATALOGUE[name]
    limits = limits_of(name, kind.vcpus, kind.memory_mib)
    assert (limits.network_mbps, limits.cpu_weight) == (mbps, weight)
    assert (limits.vcpus, limits.memory_mib) == (kind.vcpus, kind.memory_mib)


@pytest.mark.parametrize(
    ("name", "mbps", "iops"),
    [
        ("m1.tiny", 100, 800),  # by its network
        ("m1.large", 500, 4000),
        ("t3.micro", 2085, 11_800),
        ("t3.xlarge", 2780, 15_700),
        ("m4.4xlarge", 2000, 16_000),
        ("c5.large", 4750, 18_750),
        ("r7i.4xlarge", 10_000, 40_000),
        ("m5.24xlarge", 19_000, 80_000),
        ("c6g.8xlarge", 9000, 40_000),
    ],
)
def test_a_types_disks_are_as_fast_as_amazon_says(name: str, mbps: int, iops: int) -> None:
    kind = CATALOGUE[name]
    disk = limits_of(name, kind.vcpus, kind.memory_mib).disk
    assert disk is not None
    assert (disk.mbps, disk.iops, disk.bytes_s) == (mbps, iops, mbps * 1_000_000 // 8)


def test_no_type_is_without_limits() -> None:
    for name, kind in CATALOGUE.items():
        limits = limits_of(name, kind.vcpus, kind.memory_mib)
        assert limits.network_mbps, name
        assert limits.disk, name

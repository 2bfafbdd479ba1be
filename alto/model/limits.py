"""What an instance may take of its host at most, by its type: enforced on the machine, whatever the guest tries.

Amazon publishes words and peak figures; these are the numbers that Alto makes of them. A type that is not in the catalogue (of
a newer server) has the processors and memory that it says, and no other limit.
"""

from functools import lru_cache

import msgspec

from alto.model.instance_types import CATALOGUE, InstanceType

# Numbers mean what they say; the rest are words.
_NETWORK_MBPS = {"Very Low": 50, "Low": 100, "Low to Moderate": 300, "Moderate": 500, "High": 1000}
# The share of each vCPU that a burstable type has for itself when others want the processor too (EC2 user guide, "Earn CPU
# credits", baseline utilization per vCPU, percent). Alto lends what nobody wants without counting credits.
_BASELINES = {"nano": 5, "micro": 10, "small": 20, "medium": 20, "large": 30, "xlarge": 40, "2xlarge": 40}
_T2_BASELINES = {**_BASELINES, "xlarge": 22.5, "2xlarge": 17}
WEIGHT_OF_ONE = 1024
# What a type may read and write at most, all its volumes together: Mbit/s and operations a second (EC2 user guide,
# "EBS-optimized instance types", maximum). A type that is not there has no line of its own to its disks on Amazon's: it uses
# its network, and so many operations for each Mbit/s, as the types with a line have.
# A family's line is as wide as its sizes are large: up to so many vCPUs, so much.
_FIFTH = ((16, 4750, 18_750), (32, 6800, 30_000), (48, 9500, 40_000), (64, 13_600, 60_000), (96, 19_000, 80_000))
_FIFTH_AMD = ((16, 2880, 16_000), (32, 4750, 20_000), (48, 6780, 30_000), (64, 9500, 40_000), (96, 13_570, 60_000))
_SIXTH_ARM = ((16, 4750, 20_000), (32, 9000, 40_000), (48, 13_500, 50_000), (64, 19_000, 80_000))
_LATER = (
    (32, 10_000, 40_000), (48, 15_000, 60_000), (64, 20_000, 80_000), (96, 30_000, 120_000), (128, 40_000, 160_000),
    (192, 40_000, 240_000), (384, 80_000, 480_000),
)  # fmt: skip
_DISK_FAMILIES = {
    **dict.fromkeys(("t3", "t3a", "t4g"), ((8, 2780, 15_700),)),
    **dict.fromkeys(("m5", "m5d", "m5n", "m5dn", "c5", "c5d", "c5n", "r5", "r5d", "r5n", "r5dn"), _FIFTH),
    **dict.fromkeys(("m5a", "m5ad", "r5a", "r5ad"), _FIFTH_AMD),
    **dict.fromkeys(("m6g", "m6gd", "c6g", "c6gd", "r6g", "r6gd", "x2gd"), _SIXTH_ARM),
    **{
        letter + rest: _LATER
        for letter in "mcr"
        for rest in ("6i", "6id", "6a", "7i", "7i-flex", "7a", "7g", "7gd", "8i", "8g", "8a")
    },
}
_DISK_SMALL = dict.fromkeys(("nano", "micro", "small", "medium"), (2085, 11_800))
_DISK_TYPES = {
    **dict.fromkeys(("m1.large", "m2.2xlarge", "m3.xlarge", "c3.xlarge", "c4.large"), (500, 4000)),
    **dict.fromkeys(("m1.xlarge", "c1.xlarge", "m2.4xlarge", "m3.2xlarge", "c3.2xlarge"), (1000, 8000)),
    **dict.fromkeys(("m4.2xlarge", "c4.2xlarge"), (1000, 8000)),
    **dict.fromkeys(("m4.4xlarge", "c4.4xlarge"), (2000, 16_000)),
    "m4.large": (450, 3600),
    **dict.fromkeys(("m4.xlarge", "c4.xlarge"), (750, 6000)),
}
_IOPS_EACH_MBPS = 8


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    vcpus: int  # never more than so many processors' time
    cpu_weight: int  # beside others, when all want more than there is; a whole processor's is WEIGHT_OF_ONE
    memory_mib: int
    network_mbps: int | None  # each way, for each interface; None: no limit
    disk: "DiskRate | None"  # None: no limit


class DiskRate(msgspec.Struct, frozen=True, kw_only=True):
    """Reads and writes, all volumes of one instance together."""

    mbps: int
    iops: int

    @property
    def bytes_s(self) -> int:
        return self.mbps * 125_000


@lru_cache(maxsize=1024)
def limits_of(instance_type: str, vcpus: int, memory_mib: int) -> Limits:
    kind = CATALOGUE.get(instance_type)
    return Limits(
        vcpus=vcpus,
        cpu_weight=max(2, round(WEIGHT_OF_ONE * vcpus * (_baseline(kind) if kind is not None else 1.0))),
        memory_mib=memory_mib,
        network_mbps=network_mbps(kind) if kind is not None else None,
        disk=_disk(kind) if kind is not None else None,
    )


def network_mbps(kind: InstanceType) -> int | None:
    # "Up to 10 Gigabit"; "4x 100 Gigabit" is on four cards, and an interface is on one.
    rate, _, unit = kind.network.rpartition(" ")
    if unit == "Gigabit":
        return round(float(rate.rpartition(" ")[2]) * 1000)
    return _NETWORK_MBPS.get(kind.network)


def _baseline(kind: InstanceType) -> float:
    if not kind.burstable:
        return 1.0
    family, _, size = kind.name.partition(".")
    return (_T2_BASELINES if family == "t2" else _BASELINES)[size] / 100


def _disk(kind: InstanceType) -> DiskRate | None:
    family, _, size = kind.name.partition(".")
    found = _DISK_TYPES.get(kind.name)
    if found is None:
        found = next(((mbps, iops) for most, mbps, iops in _DISK_FAMILIES.get(family, ()) if kind.vcpus <= most), None)
    if family in ("t3", "t3a", "t4g") and size in _DISK_SMALL:
        found = _DISK_SMALL[size]
    if found is not None:
        return DiskRate(mbps=found[0], iops=found[1])
    mbps = network_mbps(kind)
    return DiskRate(mbps=mbps, iops=mbps * _IOPS_EACH_MBPS) if mbps is not None else None

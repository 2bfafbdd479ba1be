"""What an instance may take of its host at most, by its type: enforced on the machine, whatever the guest tries.

Amazon publishes words and peak figures; these are the numbers that Alto makes of them. A type that is not in the catalogue (of
a newer server) has the processors and memory that it says, and no other limit.
"""

import msgspec

from alto.model.instance_types import CATALOGUE, InstanceType

# "Up to N Gigabit" means N; the rest are words.
_NETWORK_MBPS = {"Very Low": 50, "Low": 100, "Low to Moderate": 300, "Moderate": 500, "High": 1000}
# The share of each vCPU that a burstable type has for itself when others want the processor too (EC2 user guide, "Earn CPU
# credits", baseline utilization per vCPU, percent). Alto lends what nobody wants without counting credits.
_BASELINES = {"nano": 5, "micro": 10, "small": 20, "medium": 20, "large": 30, "xlarge": 40, "2xlarge": 40}
_T2_BASELINES = {**_BASELINES, "xlarge": 22.5, "2xlarge": 17}
WEIGHT_OF_ONE = 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    vcpus: int  # never more than so many processors' time
    cpu_weight: int  # beside others, when all want more than there is; a whole processor's is WEIGHT_OF_ONE
    memory_mib: int
    network_mbps: int | None  # each way, for each interface; None: no limit


def limits_of(instance_type: str, vcpus: int, memory_mib: int) -> Limits:
    kind = CATALOGUE.get(instance_type)
    return Limits(
        vcpus=vcpus,
        cpu_weight=max(2, round(WEIGHT_OF_ONE * vcpus * (_baseline(kind) if kind is not None else 1.0))),
        memory_mib=memory_mib,
        network_mbps=network_mbps(kind) if kind is not None else None,
    )


def network_mbps(kind: InstanceType) -> int | None:
    words = kind.network.split()
    if words[:2] == ["Up", "to"]:
        return round(float(words[2]) * 1000)
    return _NETWORK_MBPS.get(kind.network)


def _baseline(kind: InstanceType) -> float:
    if not kind.burstable:
        return 1.0
    family, _, size = kind.name.partition(".")
    return (_T2_BASELINES if family == "t2" else _BASELINES)[size] / 100

"""The graphics processors of Amazon's instance types, as DescribeInstanceTypes lists them.

Numbers are from the EC2 user guide's "Instance types" pages (September 2026). Not here: which hosts have any; today only those
that simulate (`InstanceType.needs`).
"""

from collections.abc import Mapping
from typing import NamedTuple


class Gpu(NamedTuple):
    name: str
    manufacturer: str
    memory_mib: int  # of each
    counts: Mapping[int, int]  # a size's vCPUs -> how many, where it is not one


_FOUR_AND_EIGHT = {48: 4, 96: 4, 192: 8}

# By family. Each of its sizes has one kind.
GPUS: Mapping[str, Gpu] = {
    "g2": Gpu("K520", "NVIDIA", 4096, {32: 4}),
    "g3": Gpu("M60", "NVIDIA", 8192, {32: 2, 64: 4}),
    "g3s": Gpu("M60", "NVIDIA", 8192, {}),
    "g4ad": Gpu("Radeon Pro V520", "AMD", 8192, {32: 2, 64: 4}),
    "g4dn": Gpu("T4", "NVIDIA", 16_384, {48: 4, 96: 8}),
    "g5": Gpu("A10G", "NVIDIA", 22_888, _FOUR_AND_EIGHT),
    "g5g": Gpu("T4g", "NVIDIA", 16_384, {64: 2}),
    "g6": Gpu("L4", "NVIDIA", 22_888, _FOUR_AND_EIGHT),
    "g6e": Gpu("L40S", "NVIDIA", 45_776, _FOUR_AND_EIGHT),
    "gr6": Gpu("L4", "NVIDIA", 22_888, {}),
    "p2": Gpu("K80", "NVIDIA", 12_288, {32: 8, 64: 16}),
    "p3": Gpu("V100", "NVIDIA", 16_384, {32: 4, 64: 8}),
    "p3dn": Gpu("V100", "NVIDIA", 32_768, {96: 8}),
    "p4d": Gpu("A100", "NVIDIA", 40_960, {96: 8}),
    "p5": Gpu("H100", "NVIDIA", 81_920, {192: 8}),
}

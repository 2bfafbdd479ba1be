"""Amazon's instance families whose sizes are multiples of one another: all since the third generation.

A row says what a family's sizes have in common; `sizes` makes the sizes of it. Numbers are from the EC2 user guide's "Instance
types" pages (September 2026). Not here: the first generation and the burstable types, which follow no rule
(instance_types.py), graphics (gpus.py), and instance store, which no host has: a type says what it `needs`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# Up to so many vCPUs: so fast. "Up to" where a small size may borrow.
Ladder = Sequence[tuple[int, str]]


class Family(NamedTuple):
    name: str
    made_by: str  # "AWS" makes the arm64 ones
    clock_ghz: float
    mib_per_vcpu: float
    network: Ladder
    sizes: str  # "large x 2 4 metal": large, xlarge, 2xlarge, 4xlarge, metal
    current: bool = True
    xen: bool = False
    threads: int | None = None  # None: 1 for arm64, else 2
    accelerator: str | None = None
    cards: Sequence[tuple[int, int, int]] | None = None  # None: see _CARDS


class Size(NamedTuple):
    name: str
    vcpus: int
    memory_mib: int
    threads: int
    network: str
    interfaces: int
    addresses: int
    bare_metal: bool


# Up to so many vCPUs: so many interfaces with so many addresses each.
_CARDS = ((1, 2, 4), (2, 3, 10), (8, 4, 15), (48, 8, 30), (1024, 15, 50))
_WIDE = ((2, 3, 20), (8, 4, 30), (16, 8, 50), (32, 10, 50), (48, 12, 50), (96, 16, 64), (1024, 24, 64))
_WIDE_AMD = (
    (1, 2, 4),
    (2, 3, 20),
    (4, 4, 20),
    (8, 4, 40),
    (16, 8, 40),
    (32, 10, 40),
    (48, 12, 64),
    (96, 16, 64),
    (1024, 24, 64),
)
_FOUR = ((2, 2, 10), (8, 4, 15), (1024, 8, 30))
_D3 = ((4, 4, 3), (8, 4, 5), (16, 4, 10), (32, 3, 20))
_D3EN = ((4, 4, 3), (8, 4, 5), (16, 4, 10), (24, 4, 15), (32, 4, 20), (48, 3, 30))

_WORDS = ((4, "Moderate"), (16, "High"), (1024, "10"))
_WORDS_2 = ((2, "Moderate"), (16, "High"), (40, "10"), (64, "25"))
_UP_10 = ((16, "Up to 10"), (32, "10"), (48, "12"), (64, "20"), (96, "25"))
_UP_10_WIDE = ((16, "Up to 10"), (32, "10"), (1024, "25"))
_UP_10_ARM = ((16, "Up to 10"), (32, "12"), (48, "20"), (64, "25"))
_UP_10_AMD = ((32, "Up to 10"), (48, "10"), (64, "12"), (96, "20"))
_UP_25 = ((16, "Up to 25"), (32, "25"), (48, "50"), (64, "75"), (96, "100"))
_UP_25_WIDE = ((16, "Up to 25"), (32, "25"), (64, "50"), (96, "75"), (128, "100"))
_UP_12 = ((16, "Up to 12.5"), (32, "12.5"), (48, "18.75"), (64, "25"), (96, "37.5"), (192, "50"))
_UP_15 = ((4, "Up to 12.5"), (16, "Up to 15"), (32, "15"), (48, "22.5"), (64, "30"), (96, "40"))
_UP_15_ARM = (*_UP_15, (192, "50"))
_UP_15_AMD = (*_UP_15, (192, "75"))
_UP_15_INTEL = (*_UP_15, (128, "50"), (192, "75"), (384, "100"))
_FLEX_7 = ((32, "Up to 12.5"), (48, "Up to 18.75"), (64, "Up to 25"))
_FLEX_8 = ((4, "Up to 12.5"), (32, "Up to 15"), (48, "Up to 22.5"), (64, "Up to 30"))
_FAST = (
    (2, "Up to 25"), (4, "Up to 30"), (8, "Up to 40"), (16, "Up to 50"), (32, "50"),
    (48, "75"), (64, "100"), (96, "150"), (128, "200"),
)  # fmt: skip
_FAST_ARM = (
    (1, "Up to 25"), (2, "Up to 30"), (4, "Up to 40"), (8, "Up to 50"), (16, "50"),
    (32, "100"), (48, "150"), (64, "200"),
)  # fmt: skip
_STORAGE = (
    (4, "Up to 10"),
    (8, "Up to 12"),
    (16, "Up to 25"),
    (32, "18.75"),
    (48, "28.12"),
    (64, "37.5"),
    (96, "56.25"),
    (128, "75"),
)
_STORAGE_7 = (
    (4, "Up to 10"),
    (8, "Up to 12"),
    (32, "Up to 25"),
    (48, "Up to 28.12"),
    (64, "Up to 37.5"),
    (96, "Up to 56.25"),
    (192, "Up to 100"),
)
_GRAPHICS = ((8, "Up to 10"), (16, "Up to 25"), (32, "25"), (48, "40"), (64, "25"), (96, "50"), (192, "100"))
_GRAPHICS_6E = ((8, "Up to 20"), (16, "20"), (32, "25"), (48, "100"), (64, "35"), (96, "200"), (192, "400"))

_TO_24 = "large x 2 4 8 12 16 24"
_TO_32 = f"{_TO_24} 32 metal"
_TO_48 = f"{_TO_24} 48 metal-24 metal-48"
_TO_96 = f"{_TO_24} 32 48 96 metal-48 metal-96"
_ARM = "medium large x 2 4 8 12 16"
_ARM_48 = f"{_ARM} 24 48 metal-24 metal-48"

FAMILIES = (
    # Before Nitro
    Family("m3", "Intel", 2.5, 3840, ((2, "Moderate"), (8, "High")), "large x 2", current=False, xen=True,
           cards=((2, 3, 10), (4, 4, 15), (8, 4, 30))),
    Family("c3", "Intel", 2.8, 1920, _WORDS, "large x 2 4 8", current=False, xen=True),
    Family("r3", "Intel", 2.5, 7808, _WORDS, "x 2 4 8", current=False, xen=True),
    Family("i2", "Intel", 2.5, 7808, _WORDS, "x 2 4 8", current=False, xen=True),
    Family("d2", "Intel", 2.4, 7808, _WORDS, "x 2 4", current=False, xen=True),
    Family("m4", "Intel", 2.4, 4096, _WORDS_2, "large x 2 4 10 16", current=False, xen=True, cards=_FOUR),
    Family("c4", "Intel", 2.9, 1920, _WORDS_2, "large x 2 4", current=False, xen=True),
    Family("r4", "Intel", 2.3, 7808, _UP_10_WIDE, "large x 2 4 8 16", current=False, xen=True),
    Family("i3", "Intel", 2.3, 7808, _UP_10_WIDE, "large x 2 4 8 16", xen=True),
    Family("h1", "Intel", 2.3, 4096, _UP_10_WIDE, "2 4 8 16", xen=True, cards=((8, 4, 15), (32, 8, 30), (64, 8, 50))),
    Family("x1", "Intel", 2.3, 15616, ((64, "10"), (128, "25")), "16 32", xen=True, cards=((128, 8, 30),)),
    Family("x1e", "Intel", 2.3, 31232, ((32, "Up to 10"), (64, "10"), (128, "25")), "x 2 4 8 16 32", xen=True,
           cards=((4, 3, 10), (32, 4, 15), (128, 8, 30))),
    Family("g2", "Intel", 2.6, 1920, ((8, "High"), (32, "10")), "2 8", current=False, xen=True, accelerator="GPUs"),
    Family("g3", "Intel", 2.3, 7808, _UP_10_WIDE, "4 8 16", current=False, xen=True, accelerator="GPUs"),
    Family("g3s", "Intel", 2.7, 7808, _UP_10_WIDE, "x", current=False, xen=True, accelerator="GPUs"),
    Family("p2", "Intel", 2.7, 15616, ((4, "High"), (32, "10"), (64, "25")), "x 8 16", current=False, xen=True,
           accelerator="GPUs"),
    Family("p3", "Intel", 2.7, 7808, _UP_10_WIDE, "2 8 16", xen=True, accelerator="GPUs"),
    Family("f1", "Intel", 2.3, 15616, _UP_10_WIDE, "2 4 16", current=False, xen=True, accelerator="FPGAs"),
    # General purpose
    Family("a1", "AWS", 2.3, 2048, ((16, "Up to 10"),), "medium large x 2 4 metal", current=False),
    Family("m5", "Intel", 3.1, 4096, _UP_10, f"{_TO_24} metal", current=False),
    Family("m5d", "Intel", 3.1, 4096, _UP_10, f"{_TO_24} metal"),
    Family("m5a", "AMD", 2.5, 4096, _UP_10_AMD, _TO_24),
    Family("m5ad", "AMD", 2.2, 4096, _UP_10_AMD, _TO_24),
    Family("m5n", "Intel", 3.1, 4096, _UP_25, f"{_TO_24} metal"),
    Family("m5dn", "Intel", 3.1, 4096, _UP_25, f"{_TO_24} metal"),
    Family("m5zn", "Intel", 4.5, 4096, ((12, "Up to 25"), (24, "50"), (48, "100")), "large x 2 3 6 12 metal",
           cards=((2, 3, 10), (8, 4, 15), (24, 8, 30), (48, 15, 50))),
    Family("m6a", "AMD", 3.6, 4096, _UP_12, f"{_TO_24} 32 48 metal"),
    Family("m6g", "AWS", 2.5, 4096, _UP_10_ARM, f"{_ARM} metal"),
    Family("m6gd", "AWS", 2.5, 4096, _UP_10_ARM, f"{_ARM} metal"),
    Family("m6i", "Intel", 3.5, 4096, _UP_12, _TO_32, current=False),
    Family("m6id", "Intel", 3.5, 4096, _UP_12, _TO_32),
    Family("m6in", "Intel", 3.5, 4096, _FAST, _TO_32),
    Family("m6idn", "Intel", 3.5, 4096, _FAST, _TO_32),
    Family("m7a", "AMD", 3.7, 4096, _UP_12, f"medium {_TO_24} 32 48 metal-48", threads=1),
    Family("m7g", "AWS", 2.6, 4096, _UP_15, f"{_ARM} metal"),
    Family("m7gd", "AWS", 2.6, 4096, _UP_15, f"{_ARM} metal"),
    Family("m7i", "Intel", 3.2, 4096, _UP_12, _TO_48),
    Family("m7i-flex", "Intel", 3.2, 4096, _FLEX_7, "large x 2 4 8 12 16"),
    Family("m8a", "AMD", 4.5, 4096, _UP_15_AMD, f"medium {_TO_48}", threads=1, cards=_WIDE_AMD),
    Family("m8g", "AWS", 2.8, 4096, _UP_15_ARM, _ARM_48),
    Family("m8gd", "AWS", 2.8, 4096, _UP_15_ARM, _ARM_48),
    Family("m8i", "Intel", 3.9, 4096, _UP_15_INTEL, _TO_96, cards=_WIDE),
    Family("m8i-flex", "Intel", 3.9, 4096, _FLEX_8, "large x 2 4 8 12 16", cards=_WIDE),
    # Compute optimized
    Family("c5", "Intel", 3.4, 2048, ((16, "Up to 10"), (48, "12"), (96, "25")), "large x 2 4 9 12 18 24 metal", current=False),
    Family("c5d", "Intel", 3.4, 2048, ((16, "Up to 10"), (48, "12"), (96, "25")), "large x 2 4 9 12 18 24 metal"),
    Family("c5a", "AMD", 3.3, 2048, ((16, "Up to 10"), (32, "10"), (48, "12"), (96, "20")), _TO_24),
    Family("c5ad", "AMD", 3.3, 2048, ((16, "Up to 10"), (32, "10"), (48, "12"), (96, "20")), _TO_24),
    Family("c5n", "Intel", 3.4, 2688, ((16, "Up to 25"),), "large x 2 4"),
    Family("c6a", "AMD", 3.6, 2048, _UP_12, f"{_TO_24} 32 48 metal"),
    Family("c6g", "AWS", 2.5, 2048, _UP_10_ARM, f"{_ARM} metal"),
    Family("c6gd", "AWS", 2.5, 2048, _UP_10_ARM, f"{_ARM} metal"),
    Family("c6gn", "AWS", 2.5, 2048, ((1, "Up to 16"), (8, "Up to 25"), (16, "25"), (32, "50"), (48, "75"), (64, "100")), _ARM,
           current=False),
    Family("c6i", "Intel", 3.5, 2048, _UP_12, _TO_32),
    Family("c6id", "Intel", 3.5, 2048, _UP_12, _TO_32),
    Family("c6in", "Intel", 3.5, 2048, _FAST, _TO_32),
    Family("c7a", "AMD", 3.7, 2048, _UP_12, f"medium {_TO_24} 32 48 metal-48", threads=1),
    Family("c7g", "AWS", 2.6, 2048, _UP_15, f"{_ARM} metal"),
    Family("c7gd", "AWS", 2.6, 2048, _UP_15, f"{_ARM} metal"),
    Family("c7gn", "AWS", 2.6, 2048, _FAST_ARM, f"{_ARM} metal"),
    Family("c7i", "Intel", 3.2, 2048, _UP_12, _TO_48),
    Family("c7i-flex", "Intel", 3.2, 2048, _FLEX_7, "large x 2 4 8 12 16"),
    Family("c8a", "AMD", 4.5, 2048, _UP_15_AMD, f"medium {_TO_48}", threads=1, cards=_WIDE_AMD),
    Family("c8g", "AWS", 2.8, 2048, _UP_15_ARM, _ARM_48),
    Family("c8gd", "AWS", 2.8, 2048, _UP_15_ARM, _ARM_48),
    Family("c8i", "Intel", 3.9, 2048, _UP_15_INTEL, _TO_96, cards=_WIDE),
    Family("c8i-flex", "Intel", 3.9, 2048, _FLEX_8, "large x 2 4 8 12 16", cards=_WIDE),
    # Memory optimized
    Family("r5", "Intel", 3.1, 8192, _UP_10, f"{_TO_24} metal", current=False),
    Family("r5b", "Intel", 3.1, 8192, _UP_10, f"{_TO_24} metal"),
    Family("r5d", "Intel", 3.1, 8192, _UP_10, f"{_TO_24} metal"),
    Family("r5a", "AMD", 2.5, 8192, _UP_10_AMD, _TO_24),
    Family("r5ad", "AMD", 2.2, 8192, _UP_10_AMD, _TO_24),
    Family("r5n", "Intel", 3.1, 8192, _UP_25, f"{_TO_24} metal"),
    Family("r5dn", "Intel", 3.1, 8192, _UP_25, f"{_TO_24} metal"),
    Family("r6a", "AMD", 3.6, 8192, _UP_12, f"{_TO_24} 32 48 metal"),
    Family("r6g", "AWS", 2.5, 8192, _UP_10_ARM, f"{_ARM} metal"),
    Family("r6gd", "AWS", 2.5, 8192, _UP_10_ARM, f"{_ARM} metal"),
    Family("r6i", "Intel", 3.5, 8192, _UP_12, _TO_32, current=False),
    Family("r6id", "Intel", 3.5, 8192, _UP_12, _TO_32),
    Family("r6in", "Intel", 3.5, 8192, _FAST, _TO_32),
    Family("r6idn", "Intel", 3.5, 8192, _FAST, _TO_32),
    Family("r7a", "AMD", 3.7, 8192, _UP_12, f"medium {_TO_24} 32 48 metal-48", threads=1),
    Family("r7g", "AWS", 2.6, 8192, _UP_15, f"{_ARM} metal", current=False),
    Family("r7gd", "AWS", 2.6, 8192, _UP_15, f"{_ARM} metal", current=False),
    Family("r7i", "Intel", 3.2, 8192, _UP_12, _TO_48),
    Family("r7iz", "Intel", 3.9, 8192, ((16, "Up to 12.5"), (32, "12.5"), (64, "25"), (128, "50")),
           "large x 2 4 8 12 16 32 metal-16 metal-32"),
    Family("r8a", "AMD", 4.5, 8192, _UP_15_AMD, f"medium {_TO_48}", threads=1, cards=_WIDE_AMD),
    Family("r8g", "AWS", 2.8, 8192, _UP_15_ARM, _ARM_48),
    Family("r8gd", "AWS", 2.8, 8192, _UP_15_ARM, _ARM_48),
    Family("r8i", "Intel", 3.9, 8192, _UP_15_INTEL, _TO_96, cards=_WIDE),
    Family("r8i-flex", "Intel", 3.9, 8192, _FLEX_8, "large x 2 4 8 12 16", cards=_WIDE),
    Family("x2gd", "AWS", 2.5, 16384, _UP_10_ARM, f"{_ARM} metal"),
    Family("x2idn", "Intel", 3.5, 16384, ((64, "50"), (96, "75"), (128, "100")), "16 24 32 metal"),
    Family("x2iedn", "Intel", 3.5, 32768, _UP_25_WIDE, "x 2 4 8 16 24 32 metal"),
    Family("x2iezn", "Intel", 4.5, 32768, ((16, "Up to 25"), (24, "50"), (32, "75"), (48, "100")), "2 4 6 8 12 metal",
           cards=((8, 4, 15), (32, 8, 30), (48, 15, 50))),
    Family("x8g", "AWS", 2.8, 16384, _UP_15_ARM, _ARM_48),
    Family("z1d", "Intel", 4.0, 8192, ((12, "Up to 10"), (24, "12"), (48, "25")), "large x 2 3 6 12 metal",
           cards=((2, 3, 10), (8, 4, 15), (24, 8, 30), (48, 15, 50))),
    # Storage optimized
    Family("d3", "Intel", 3.1, 8192, ((16, "Up to 15"), (32, "25")), "x 2 4 8", cards=_D3),
    Family("d3en", "Intel", 3.1, 4096, ((8, "Up to 25"), (16, "25"), (24, "40"), (32, "50"), (48, "75")), "x 2 4 6 8 12",
           cards=_D3EN),
    Family("i3en", "Intel", 3.1, 8192, ((12, "Up to 25"), (24, "25"), (48, "50"), (96, "100")), "large x 2 3 6 12 24 metal",
           cards=((2, 3, 10), (12, 4, 15), (48, 8, 30), (96, 15, 50))),
    Family("i4g", "AWS", 2.5, 8192, _STORAGE, "large x 2 4 8 16"),
    Family("i4i", "Intel", 3.5, 8192, _STORAGE, _TO_32),
    Family("i7i", "Intel", 3.2, 8192, _STORAGE_7, _TO_48),
    Family("i8g", "AWS", 2.8, 8192, _STORAGE_7, f"{_TO_48}"),
    Family("im4gn", "AWS", 2.5, 4096, ((8, "Up to 25"), (16, "25"), (32, "50"), (64, "100")), "large x 2 4 8 16"),
    Family("is4gen", "AWS", 2.5, 6144, ((8, "Up to 25"), (16, "25"), (32, "50")), "medium large x 2 4 8"),
    # Accelerated
    Family("g4ad", "AMD", 3.0, 4096, ((16, "Up to 10"), (32, "15"), (64, "25")), "x 2 4 8 16", accelerator="GPUs"),
    Family("g4dn", "Intel", 2.5, 4096, ((16, "Up to 25"), (64, "50"), (96, "100")), "x 2 4 8 12 16 metal=24",
           accelerator="GPUs",
           cards=((16, 3, 10), (32, 4, 15), (48, 8, 30), (64, 4, 15), (96, 15, 50))),
    Family("g5", "AMD", 3.3, 4096, _GRAPHICS, "x 2 4 8 12 16 24 48", current=False, accelerator="GPUs",
           cards=((8, 4, 15), (32, 8, 30), (48, 15, 50), (64, 8, 30), (96, 15, 50), (192, 7, 50))),
    Family("g5g", "AWS", 2.5, 2048, ((16, "Up to 10"), (32, "12"), (64, "25")), "x 2 4 8 16 metal", accelerator="GPUs"),
    Family("g6", "AMD", 3.4, 4096, _GRAPHICS, "x 2 4 8 12 16 24 48", accelerator="GPUs"),
    Family("g6e", "AMD", 3.4, 8192, _GRAPHICS_6E,
           "x 2 4 8 12 16 24 48", accelerator="GPUs",
           cards=((8, 4, 15), (32, 8, 30), (48, 10, 30), (64, 15, 50), (96, 20, 50), (192, 40, 50))),
    Family("gr6", "AMD", 3.4, 8192, ((16, "Up to 25"), (32, "25")), "4 8", accelerator="GPUs"),
    Family("inf1", "Intel", 2.5, 2048, ((8, "Up to 25"), (24, "25"), (96, "100")), "x 2 6 24", accelerator="inference chips",
           cards=((8, 4, 10), (24, 8, 30), (96, 11, 30))),
    Family("inf2", "AMD", 3.6, 4096, ((4, "Up to 15"), (32, "Up to 25"), (96, "50"), (192, "100")), "x 8 24 48",
           accelerator="inference chips",
           cards=((4, 4, 15), (32, 8, 30), (192, 15, 50))),
    Family("p3dn", "Intel", 2.5, 8192, ((96, "100"),), "24", accelerator="GPUs"),
    Family("p4d", "Intel", 3.0, 12288, ((96, "4x 100"),), "24", accelerator="GPUs", cards=((96, 60, 50),)),
    Family("p5", "AMD", 3.6, 32768 / 3, ((192, "3200"),), "48", accelerator="GPUs", cards=((192, 64, 50),)),
    Family("trn1", "Intel", 3.5, 4096, ((8, "Up to 12.5"), (128, "8x 100")), "2 32", accelerator="training chips",
           cards=((8, 4, 15), (128, 40, 50))),
    Family("vt1", "Intel", 2.5, 2048, ((12, "3.12"), (24, "6.25"), (96, "25")), "3 6 24", accelerator="video chips",
           cards=((12, 4, 15), (24, 8, 30), (96, 15, 50))),
)  # fmt: skip


def sizes(family: Family) -> Iterator[Size]:
    """Each of a family, as its row writes them. A "metal" is as large as the largest before it, or as it says after "="."""
    largest = 0
    for word in family.sizes.split():
        metal = word.startswith("metal")
        vcpus = _vcpus(word) or largest
        largest = max(largest, vcpus)
        interfaces, addresses = next((i, a) for most, i, a in family.cards or _CARDS if vcpus <= most)
        network = next(text for most, text in family.network if vcpus <= most)
        yield Size(
            name=f"{family.name}.{_size_name(word)}",
            vcpus=vcpus,
            memory_mib=round(vcpus * family.mib_per_vcpu),
            threads=1 if family.made_by == "AWS" else family.threads or (1 if vcpus == 1 else 2),
            network=network if network.isalpha() else f"{network} Gigabit",
            interfaces=interfaces,
            addresses=addresses,
            bare_metal=metal,
        )


_SMALL = {"medium": 1, "large": 2, "x": 4}


def _vcpus(word: str) -> int | None:
    if word in _SMALL:
        return _SMALL[word]
    number = re.search(r"[0-9]+", word)
    return 4 * int(number[0]) if number else None


def _size_name(word: str) -> str:
    if word == "x":
        return "xlarge"
    if word.isdigit():
        return f"{word}xlarge"
    return f"{word}xl" if word.startswith("metal-") else word.partition("=")[0]

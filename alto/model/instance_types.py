"""The catalogue of instance types: Amazon's names with Amazon's numbers, and Alto's own `m1.tiny`.

An instance gets exactly the vCPUs and memory that its type says; what a guest cannot tell from Amazon's (network cards,
clock, bandwidth) is described as Amazon describes it, because tools read it. Numbers are from the EC2 user guide's
"Instance types" pages (September 2026). Types that no host has what they need for (arm64, graphics, a whole machine) are there
too, because tools look them up: they say what they `need`, and a host that has not got it does not take them.

Not here: the families whose sizes follow a rule (instance_families.py), which host has room for a type (`plan/placement.py`),
and prices.
"""

import difflib
from collections.abc import Mapping

import msgspec

from alto.model.errors import Refused
from alto.model.instance_families import FAMILIES, Family, Size, sizes

# What RunInstances takes without a type, as EC2 has done since 2006.
DEFAULT_INSTANCE_TYPE = "m1.small"

CLOSE_NAMES_MAX = 4


class InstanceType(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    vcpus: int
    memory_mib: int
    threads_per_core: int = 1
    current_generation: bool = False
    burstable: bool = False
    free_tier: bool = False
    architecture: str = "x86_64"
    hypervisor: str = "xen"  # what Amazon runs it on: tools choose by it; here everything is a QEMU machine
    manufacturer: str = "Intel"
    clock_ghz: float | None = None
    network: str = "Moderate"
    interfaces_max: int = 2
    addresses_per_interface: int = 4
    storage_gb: int = 0  # instance store on Amazon's; Alto has none, and says so
    ebs_optimized: str = "default"  # "default" | "supported" | "unsupported"
    bare_metal: bool = False
    accelerator: str | None = None  # "GPUs": what it has of such beside processors

    @property
    def cores(self) -> int:
        return max(1, self.vcpus // self.threads_per_core)

    @property
    def valid_cores(self) -> tuple[int, ...]:
        """How many cores a launch may ask for ("Supported CPU options for Amazon EC2 instance types"): where a core has two
        threads, cores go in pairs; the oldest types, t2's and bare metal have what they have."""
        if self.bare_metal or (self.threads_per_core == 1 and not self.nitro):
            return (self.cores,)
        pairs = self.threads_per_core == 2 and self.cores > 1
        return tuple(range(2, self.cores + 1, 2)) if pairs else tuple(range(1, self.cores + 1))

    @property
    def valid_threads(self) -> tuple[int, ...]:
        return (self.threads_per_core,) if self.bare_metal else tuple(range(1, self.threads_per_core + 1))

    @property
    def needs(self) -> str | None:
        """What a host must have for it that those of today have not, unless they simulate."""
        if self.architecture != "x86_64":
            return f"processors of {self.architecture}"
        return "machines of bare metal" if self.bare_metal else self.accelerator

    @property
    def nitro(self) -> bool:
        return self.hypervisor == "nitro"

    @property
    def credits(self) -> str | None:
        """The credit option of a new instance (EC2 user guide, "Burstable performance instances"), None when not burstable."""
        if not self.burstable:
            return None
        return "standard" if self.name.startswith("t2.") else "unlimited"


def instance_type(name: str) -> InstanceType:
    """Raises: Refused (InvalidParameterValue), with the names that come close."""
    found = CATALOGUE.get(name)
    if found is None:
        raise Refused("InvalidParameterValue", f"Invalid value '{name}' for InstanceType. {close_names(name)}")
    return found


def close_names(name: str) -> str:
    """A sentence that helps who mistyped: the likeliest types, else the size ladder's first steps."""
    close = difflib.get_close_matches(name.lower(), CATALOGUE, CLOSE_NAMES_MAX, 0.6)
    if not close:
        family = name.partition(".")[0]
        close = [known for known in CATALOGUE if known.partition(".")[0] == family][:CLOSE_NAMES_MAX]
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return "Try m1.small, t3.micro or m5.large; DescribeInstanceTypes lists all."


def _classic() -> list[InstanceType]:
    """The first generation, which the oldest tools still ask for by default."""
    rows = (
        # name, vCPUs, MiB, network, interfaces, addresses each, instance store GB, EBS optimized
        ("m1.tiny", 1, 128, "Low", 2, 4, 0, "unsupported"),  # Alto's own: enough for the tiny image
        ("t1.micro", 1, 627, "Very Low", 2, 2, 0, "unsupported"),
        ("m1.small", 1, 1740, "Low", 2, 4, 160, "unsupported"),
        ("m1.medium", 1, 3788, "Moderate", 2, 6, 410, "unsupported"),
        ("m1.large", 2, 7680, "Moderate", 3, 10, 840, "supported"),
        ("m1.xlarge", 4, 15360, "High", 4, 15, 1680, "supported"),
        ("c1.medium", 2, 1740, "Moderate", 2, 6, 350, "unsupported"),
        ("c1.xlarge", 8, 7168, "High", 4, 15, 1680, "supported"),
        ("m2.xlarge", 2, 17510, "Moderate", 4, 15, 420, "unsupported"),
        ("m2.2xlarge", 4, 35020, "Moderate", 4, 30, 850, "supported"),
        ("m2.4xlarge", 8, 70041, "High", 8, 30, 1680, "supported"),
    )
    return [
        InstanceType(
            name=name,
            vcpus=vcpus,
            memory_mib=memory_mib,
            network=network,
            interfaces_max=interfaces,
            addresses_per_interface=addresses,
            storage_gb=storage_gb,
            ebs_optimized=ebs,
        )
        for name, vcpus, memory_mib, network, interfaces, addresses, storage_gb, ebs in rows
    ]


def _odd_sizes() -> list[InstanceType]:
    """Those of a family that are no multiple of its others: the largest got what was left of their machine."""
    rows = (
        # name, vCPUs, threads a core, MiB, network, interfaces, addresses each, GHz, hypervisor, EBS optimized, current
        ("m3.medium", 1, 1, 3840, "Moderate", 2, 6, 2.5, "xen", "unsupported", False),
        ("r3.large", 2, 2, 15360, "Moderate", 3, 10, 2.5, "xen", "unsupported", False),
        ("c4.8xlarge", 36, 2, 61440, "10 Gigabit", 8, 30, 2.9, "xen", "default", False),
        ("d2.8xlarge", 36, 2, 249856, "10 Gigabit", 8, 30, 2.4, "xen", "default", False),
        ("c5n.9xlarge", 36, 2, 98304, "50 Gigabit", 8, 30, 3.4, "nitro", "default", True),
        ("c5n.18xlarge", 72, 2, 196608, "100 Gigabit", 15, 50, 3.4, "nitro", "default", True),
        ("c5n.metal", 72, 2, 196608, "100 Gigabit", 15, 50, 3.4, "nitro", "default", True),
        ("u-3tb1.56xlarge", 224, 2, 3 << 20, "50 Gigabit", 8, 30, 2.1, "nitro", "default", True),
        ("u-6tb1.56xlarge", 224, 1, 6 << 20, "100 Gigabit", 15, 50, 2.1, "nitro", "default", True),
        ("u-6tb1.112xlarge", 448, 2, 6 << 20, "100 Gigabit", 15, 50, 2.1, "nitro", "default", True),
        ("u7i-12tb.224xlarge", 896, 2, 12 << 20, "100 Gigabit", 15, 50, 1.9, "nitro", "default", True),
        ("u7in-32tb.224xlarge", 896, 2, 32 << 20, "200 Gigabit", 16, 50, 1.9, "nitro", "default", True),
    )
    return [
        InstanceType(
            name=name,
            vcpus=vcpus,
            threads_per_core=threads,
            memory_mib=memory_mib,
            network=network,
            interfaces_max=interfaces,
            addresses_per_interface=addresses,
            clock_ghz=clock_ghz,
            hypervisor=hypervisor,
            ebs_optimized=ebs,
            current_generation=current,
            bare_metal=name.endswith(".metal"),
        )
        for name, vcpus, threads, memory_mib, network, interfaces, addresses, clock_ghz, hypervisor, ebs, current in rows
    ]


def _burstable() -> list[InstanceType]:
    sizes = (
        # size, t2's vCPUs, those of t3, t3a and t4g, MiB, interfaces (t2, t3 and t4g, t3a), addresses each
        ("nano", 1, 2, 512, (2, 2, 2), 2),
        ("micro", 1, 2, 1024, (2, 2, 2), 2),
        ("small", 1, 2, 2048, (3, 3, 2), 4),
        ("medium", 2, 2, 4096, (3, 3, 3), 6),
        ("large", 2, 2, 8192, (3, 3, 3), 12),
        ("xlarge", 4, 4, 16384, (3, 4, 4), 15),
        ("2xlarge", 8, 8, 32768, (3, 4, 4), 15),
    )
    t2_clock_ghz = {"nano": 2.4, "micro": 2.5, "small": 2.5}
    types = [
        InstanceType(
            name=f"t2.{size}",
            vcpus=t2_vcpus,
            memory_mib=memory_mib,
            current_generation=True,
            burstable=True,
            network="Moderate" if size.endswith("xlarge") else "Low to Moderate",
            interfaces_max=interfaces[0],
            addresses_per_interface=addresses,
            ebs_optimized="unsupported",
            clock_ghz=t2_clock_ghz.get(size, 2.3),
        )
        for size, t2_vcpus, _, memory_mib, interfaces, addresses in sizes
    ]
    for family, place, clock_ghz, manufacturer in (("t3", 1, 2.5, "Intel"), ("t3a", 2, 2.2, "AMD"), ("t4g", 1, 2.5, "AWS")):
        types += [
            InstanceType(
                name=f"{family}.{size}",
                vcpus=vcpus,
                threads_per_core=1 if family == "t4g" else 2,
                architecture="arm64" if family == "t4g" else "x86_64",
                memory_mib=memory_mib,
                current_generation=True,
                burstable=True,
                free_tier=family in ("t3", "t4g") and size in ("micro", "small"),
                hypervisor="nitro",
                manufacturer=manufacturer,
                network="Up to 5 Gigabit",
                interfaces_max=interfaces[place],
                addresses_per_interface=addresses,
                clock_ghz=clock_ghz,
            )
            for size, _, vcpus, memory_mib, interfaces, addresses in sizes
        ]
    return types


def _regular() -> list[InstanceType]:
    return [
        InstanceType(
            name=size.name,
            vcpus=size.vcpus,
            threads_per_core=size.threads,
            memory_mib=size.memory_mib,
            current_generation=family.current,
            free_tier=size.name in ("c7i-flex.large", "m7i-flex.large"),
            architecture="arm64" if family.made_by == "AWS" else "x86_64",
            hypervisor="xen" if family.xen else "nitro",
            manufacturer=family.made_by,
            network=size.network,
            interfaces_max=size.interfaces,
            addresses_per_interface=size.addresses,
            clock_ghz=family.clock_ghz,
            ebs_optimized=_ebs_optimized(family, size),
            bare_metal=size.bare_metal,
            accelerator=family.accelerator,
        )
        for family in FAMILIES
        for size in sizes(family)
    ]


def _ebs_optimized(family: Family, size: Size) -> str:
    if family.name not in ("m3", "c3", "r3", "i2", "g2"):
        return "default"
    return "supported" if 4 <= size.vcpus <= 16 else "unsupported"


CATALOGUE: Mapping[str, InstanceType] = {
    found.name: found for found in (*_classic(), *_odd_sizes(), *_burstable(), *_regular())
}

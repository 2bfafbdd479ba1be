"""The catalogue of instance types: Amazon's names with Amazon's numbers, and Alto's own `m1.tiny`.

An instance gets exactly the vCPUs and memory that its type says; what a guest cannot tell from Amazon's (network cards,
clock, bandwidth) is described as Amazon describes it, because tools read it. Numbers are from the EC2 user guide's
"Instance types" pages (September 2026), x86_64 only: every host that Alto has today is x86_64.

Not here: which host has room for a type (`plan/placement.py`), and prices.
"""

import difflib
from collections.abc import Mapping

import msgspec

from alto.model.errors import Refused

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

    @property
    def cores(self) -> int:
        return max(1, self.vcpus // self.threads_per_core)

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


def _third_generation() -> list[InstanceType]:
    rows = (
        ("m3.medium", 1, 1, 3840, "Moderate", 2, 6, 4, "unsupported", 2.5),
        ("m3.large", 2, 2, 7680, "Moderate", 3, 10, 32, "unsupported", 2.5),
        ("m3.xlarge", 4, 2, 15360, "High", 4, 15, 80, "supported", 2.5),
        ("m3.2xlarge", 8, 2, 30720, "High", 4, 30, 160, "supported", 2.5),
        ("c3.large", 2, 2, 3840, "Moderate", 3, 10, 32, "unsupported", 2.8),
        ("c3.xlarge", 4, 2, 7680, "Moderate", 4, 15, 80, "supported", 2.8),
        ("c3.2xlarge", 8, 2, 15360, "High", 4, 15, 160, "supported", 2.8),
        ("m4.large", 2, 2, 8192, "Moderate", 2, 10, 0, "default", 2.4),
        ("m4.xlarge", 4, 2, 16384, "High", 4, 15, 0, "default", 2.4),
        ("m4.2xlarge", 8, 2, 32768, "High", 4, 15, 0, "default", 2.4),
        ("m4.4xlarge", 16, 2, 65536, "High", 8, 30, 0, "default", 2.4),
        ("c4.large", 2, 2, 3840, "Moderate", 3, 10, 0, "default", 2.9),
        ("c4.xlarge", 4, 2, 7680, "High", 4, 15, 0, "default", 2.9),
        ("c4.2xlarge", 8, 2, 15360, "High", 4, 15, 0, "default", 2.9),
        ("c4.4xlarge", 16, 2, 30720, "High", 8, 30, 0, "default", 2.9),
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
            storage_gb=storage_gb,
            ebs_optimized=ebs,
            clock_ghz=clock_ghz,
        )
        for name, vcpus, threads, memory_mib, network, interfaces, addresses, storage_gb, ebs, clock_ghz in rows
    ]


def _burstable() -> list[InstanceType]:
    sizes = (
        # size, t2's vCPUs, t3's and t3a's vCPUs, MiB, interfaces (t2, t3, t3a), addresses each
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
    for family, place, clock_ghz, manufacturer in (("t3", 1, 2.5, "Intel"), ("t3a", 2, 2.2, "AMD")):
        types += [
            InstanceType(
                name=f"{family}.{size}",
                vcpus=vcpus,
                threads_per_core=2,
                memory_mib=memory_mib,
                current_generation=True,
                burstable=True,
                free_tier=family == "t3" and size in ("micro", "small"),
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


def _nitro() -> list[InstanceType]:
    families = (
        # family, MiB for each vCPU, GHz, network, manufacturer, current generation as Amazon marks it
        ("m5", 4096, 3.1, "Up to 10 Gigabit", "Intel", False),
        ("m5a", 4096, 2.5, "Up to 10 Gigabit", "AMD", True),
        ("c5", 2048, 3.4, "Up to 10 Gigabit", "Intel", False),
        ("r5", 8192, 3.1, "Up to 10 Gigabit", "Intel", False),
        ("m6i", 4096, 3.5, "Up to 12.5 Gigabit", "Intel", False),
        ("m6a", 4096, 3.6, "Up to 12.5 Gigabit", "AMD", True),
        ("c6i", 2048, 3.5, "Up to 12.5 Gigabit", "Intel", True),
        ("r6i", 8192, 3.5, "Up to 12.5 Gigabit", "Intel", False),
        ("m7i", 4096, 3.2, "Up to 12.5 Gigabit", "Intel", True),
        ("c7i", 2048, 3.2, "Up to 12.5 Gigabit", "Intel", True),
        ("r7i", 8192, 3.2, "Up to 12.5 Gigabit", "Intel", True),
    )
    sizes = (
        # size, vCPUs, interfaces, addresses each
        ("large", 2, 3, 10),
        ("xlarge", 4, 4, 15),
        ("2xlarge", 8, 4, 15),
        ("4xlarge", 16, 8, 30),
    )
    return [
        InstanceType(
            name=f"{family}.{size}",
            vcpus=vcpus,
            threads_per_core=2,
            memory_mib=vcpus * mib_per_vcpu,
            current_generation=current,
            hypervisor="nitro",
            manufacturer=manufacturer,
            network=network,
            interfaces_max=interfaces,
            addresses_per_interface=addresses,
            clock_ghz=clock_ghz,
        )
        for family, mib_per_vcpu, clock_ghz, network, manufacturer, current in families
        for size, vcpus, interfaces, addresses in sizes
    ]


CATALOGUE: Mapping[str, InstanceType] = {
    found.name: found for found in (*_classic(), *_third_generation(), *_burstable(), *_nitro())
}

"""Goal: the instance types are Amazon's. Method: numbers typed from the EC2 user guide and AWS's own answers."""

import pytest

from alto.model.errors import Refused
from alto.model.instance_types import CATALOGUE, DEFAULT_INSTANCE_TYPE, instance_type


@pytest.mark.parametrize(
    ("name", "vcpus", "memory_mib"),
    [
        ("t1.micro", 1, 627),
        ("m1.small", 1, 1740),
        ("m1.xlarge", 4, 15360),
        ("c1.xlarge", 8, 7168),
        ("t2.nano", 1, 512),
        ("t2.medium", 2, 4096),
        ("t3.micro", 2, 1024),
        ("m5.large", 2, 8192),
        ("c5.4xlarge", 16, 32768),
        ("r5.2xlarge", 8, 65536),
        ("m1.tiny", 1, 128),
        ("m5.24xlarge", 96, 393216),
        ("c4.8xlarge", 36, 61440),
        ("c5n.18xlarge", 72, 196608),
        ("p3.2xlarge", 8, 62464),
        ("i3.large", 2, 15616),
        ("x1.32xlarge", 128, 1998848),
        ("t4g.small", 2, 2048),
        ("c7g.medium", 1, 2048),
        ("g4dn.metal", 96, 393216),
        ("u-6tb1.112xlarge", 448, 6291456),
    ],
)
def test_a_type_has_its_size(name: str, vcpus: int, memory_mib: int) -> None:
    found = instance_type(name)
    assert (found.vcpus, found.memory_mib) == (vcpus, memory_mib)


def test_the_default_is_ec2s_first_type() -> None:
    assert DEFAULT_INSTANCE_TYPE == "m1.small"
    assert DEFAULT_INSTANCE_TYPE in CATALOGUE


@pytest.mark.parametrize(("typo", "meant"), [("t3.mico", "t3.micro"), ("M5.Large", "m5.large"), ("m1", "m1.small")])
def test_an_unknown_type_is_refused_with_what_was_meant(typo: str, meant: str) -> None:
    with pytest.raises(Refused, match=f"Invalid value '{typo}' for InstanceType") as refusal:
        instance_type(typo)
    assert refusal.value.aws_code == "InvalidParameterValue"
    assert meant in str(refusal.value)


def test_t3_is_unlimited_and_t2_standard() -> None:
    assert instance_type("t3.micro").credits == "unlimited"
    assert instance_type("t2.micro").credits == "standard"
    assert instance_type("m5.large").credits is None

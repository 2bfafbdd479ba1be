"""Containers and virtual machines in VPCs with equal ranges, all at once. Goal: who reaches whom is what groups and VPCs say,
for every pair. Method: real connections between all (crowd.py, which plays it with fifty and ten as well)."""

from pathlib import Path

import pytest

from tests.e2e.cloud import Cloud
from tests.e2e.crowd import play
from tests.e2e.test_containers import both

__all__ = ["both"]

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]


def test_everybody_reaches_just_whom_the_rules_say(both: Cloud, tmp_path: Path) -> None:
    wrong, counted = play(both, tmp_path, containers=15, machines=3, vpcs=5)
    assert wrong == []
    assert all(counted[kind] for kind in ("answered", "refused", "of another VPC", "refused from outside")), counted

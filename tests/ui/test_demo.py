"""The demo itself, with real machines: its checks pass, and this machine is as it was.

Goal: what a stranger types first works, and leaves nothing. Method: the real command; that nothing is left is looked at
here without asking which names are Alto's, as the demo has to on a machine that does other things too.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alto.ui.cli.demo.machine import traces

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="apt-get install qemu-system-x86 qemu-utils"),
]


def test_the_demo_keeps_its_word_and_leaves_nothing() -> None:
    before = traces()
    done = subprocess.run(
        [sys.executable, "-m", "alto.ui.cli.main", "demo", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=850,
    )
    result = json.loads(done.stdout)
    assert [check for check in result["checks"] if not check["passed"]] == [], done.stderr
    assert done.returncode == 0
    assert result["requests"] > 500
    deadline = time.monotonic() + 20
    # Other tests' namespaces may come and go beside this one.
    while left := {name: now - then for name, now, then in zip(before._fields, traces(), before, strict=True) if now - then}:
        assert time.monotonic() < deadline, left
        time.sleep(1)

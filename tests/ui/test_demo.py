"""The demo itself, with real machines: its checks pass, and this machine is as it was.

Goal: what a stranger types first works, and leaves nothing. Method: the real command, where nobody else changes the network;
that nothing is left is looked at without asking which names are Alto's, as the demo has to on a machine that does other things.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="apt-get install qemu-system-x86 qemu-utils"),
]


# Where nobody else's networks, namespaces and mounts come and go. There is no way out, so images are made before.
ALONE = ("unshare", "--net", "--mount", "sh", "-c", 'mount -t tmpfs none /run/netns && ip link set lo up && exec "$@"', "sh")
WATCHED = """
import json, subprocess, sys
from alto.ui.cli.demo.machine import traces
before = traces()
done = subprocess.run([sys.executable, "-m", "alto.ui.cli.main", "demo", "--json"], stdout=subprocess.PIPE, timeout=850)
left = {name: sorted(now - then) for name, now, then in zip(before._fields, traces(), before, strict=True) if now - then}
print(json.dumps({"code": done.returncode, "result": json.loads(done.stdout), "left": left}))
"""


def test_the_demo_keeps_its_word_and_leaves_nothing(image_cache: Path) -> None:
    Path("/run/netns").mkdir(exist_ok=True)
    done = subprocess.run(
        [*ALONE, sys.executable, "-c", WATCHED],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ALTO_CACHE": str(image_cache)},
        timeout=870,
    )
    assert done.stdout, done.stderr
    seen = json.loads(done.stdout)
    assert [check for check in seen["result"]["checks"] if not check["passed"]] == [], done.stderr
    assert seen["code"] == 0
    assert seen["result"]["requests"] > 500
    assert seen["left"] == {}

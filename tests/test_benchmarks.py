"""Goal: the benchmarks that measure this code from within still run to their table of goals.

Method: each as its reader starts it, as small as it goes. Whether goals are met is said by a run on a quiet machine."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.long
@pytest.mark.parametrize("words", [("store", "--sizes", "100,200"), ("rules", "--hosts", "6")], ids=["store", "rules"])
def test_a_benchmark_comes_to_its_goals(words: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]]
    done = subprocess.run(
        command, cwd=ROOT, env={"TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=240, check=False
    )
    assert "\nGoals" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr

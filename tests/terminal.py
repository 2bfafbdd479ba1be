"""A command as a person has it: in a terminal of its own."""

import os
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Terminal:
    def __init__(self, command: Sequence[str], *, wait_s: float = 60.0) -> None:
        """`wait_s`: how long it may be silent when something must come."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ALTO_"))}
        self.said, self._read, self._wait_s = "", 0, wait_s
        self._ours, theirs = os.openpty()
        self._process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**clean, "PYTHONPATH": str(ROOT)}
        )
        os.close(theirs)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def types(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def reads(self, words: str) -> None:
        """Until they are there, behind all that was read before."""
        while words not in self.said[self._read :]:
            assert self._more(), f"no {words!r} in {self.said!r}"
        self._read = self.said.index(words, self._read) + len(words)

    def ends(self, code: int) -> None:
        while self._more():
            pass
        assert self._process.wait(timeout=self._wait_s) == code, self.said

    def _more(self) -> bool:
        if not select.select([self._ours], [], [], self._wait_s)[0]:
            return False
        try:
            data = os.read(self._ours, 4096)
        except OSError:  # nobody has the other end any more
            return False
        self.said += data.decode(errors="replace").replace("\r", "")  # of which some lines have more than one
        return bool(data)

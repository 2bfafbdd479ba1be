"""The claims of the story, each found true or false, and the table of them at its end."""

from collections.abc import Callable
from typing import NamedTuple


class Check(NamedTuple):
    claim: str
    passed: bool
    seen: str  # what was measured


class Checks:
    """Collects; a claim that is false does not end the story, so that the table says all that went wrong."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.all: list[Check] = []
        self._tell = tell

    def check(self, claim: str, passed: bool, seen: str) -> None:
        self.all.append(Check(claim, passed, seen))
        self._tell(f"   {'ok' if passed else 'NOT SO'}: {claim} ({seen})")

    @property
    def passed(self) -> bool:
        return bool(self.all) and all(check.passed for check in self.all)

    def table(self) -> list[str]:
        width = max((len(check.claim) for check in self.all), default=0)
        return [f"{'ok' if check.passed else 'NOT SO':<7} {check.claim:<{width}}  {check.seen}" for check in self.all]

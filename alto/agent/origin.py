"""Which process of which machine this agent is: told at each hello, so that copies of a machine or of its disk are noticed.

The count of starts is on the disk before the first hello: two copies of one disk count from the same number, and the server
sees the same number twice.
"""

import hashlib
from pathlib import Path

from alto.kit.world import World
from alto.model.sessions import Origin

STARTS = "starts"


def begin(world: World, folder: Path, *, machine: str, place: str) -> Origin:
    """Counts this start in `folder`. `machine` and `place`: what tells machines, and copies of the folder, apart."""
    path = folder / STARTS
    try:
        before = int(world.files.read(path))
    except (FileNotFoundError, ValueError):
        before = 0
    world.files.write(path, b"%d\n" % (before + 1))
    return Origin(machine=machine, place=place, run=world.chance.hex(32), starts=before + 1)


def fingerprint(*facts: str) -> str:
    """One word for what tells two apart; nobody need read the facts in it."""
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32]

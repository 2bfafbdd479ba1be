"""How long a loop rests between two passes, so that under load one pass serves many changes.

A change that comes alone is served at once, and the next within `LONE_S`. Where changes come in numbers, each waits a little
longer for company: what a pass costs whatever it is for (a look around, a commit, a message) is then shared by all of them.
"""

LONE_S = 0.02
MANY_S = 0.1
MANY = 8


def rest_s(changes: int) -> float:
    """Seconds until the next pass, after one that was for so many changes."""
    return MANY_S if changes >= MANY else LONE_S

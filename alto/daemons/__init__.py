"""The processes we ship: wiring and supervision, no decisions."""

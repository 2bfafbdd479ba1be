"""Decisions as pure functions: same input, same answer; no clock, no chance, no I/O."""

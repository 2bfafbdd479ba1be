"""Machines: QEMU, and a fake."""

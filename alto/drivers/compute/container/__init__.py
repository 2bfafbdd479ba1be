"""Machines as system containers, by LXC."""

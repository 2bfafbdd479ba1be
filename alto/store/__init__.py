"""Typed rows with versions, transactions, indexes, watches and leases."""

"""The alto command."""

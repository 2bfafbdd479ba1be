"""Alto: an AWS-compatible cloud that starts in seconds; read ARCHITECTURE.md for the walk of a request."""

__version__ = "0.1.0"

"""Alto: an AWS-compatible cloud that starts in seconds; read ARCHITECTURE.md for the walk of a request."""

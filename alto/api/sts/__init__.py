"""STS operations: who am I."""

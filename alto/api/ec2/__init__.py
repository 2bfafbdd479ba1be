"""EC2's operations: wishes in, truth out."""

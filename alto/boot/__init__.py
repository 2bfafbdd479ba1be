"""What a machine asks when it wakes: instance metadata."""

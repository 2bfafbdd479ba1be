"""What runs inside an instance: the unit agent; empty until charms arrive."""

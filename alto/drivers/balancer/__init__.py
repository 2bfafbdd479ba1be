"""Load balancers: HAProxy through its runtime API, and a fake."""

"""Load balancers by HAProxy: one detached process for all of a host's balancers, steered over its runtime socket."""

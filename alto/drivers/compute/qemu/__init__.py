"""QEMU over QMP: detached from the agent, re-adopted after its death."""

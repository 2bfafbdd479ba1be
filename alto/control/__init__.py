"""The loops: watch the store, ask plan, write the store; one reconciler per kind."""

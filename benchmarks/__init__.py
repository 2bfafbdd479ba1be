"""What Alto costs, measured beside its peers in one run. Prints tables; nothing here is a timed test."""

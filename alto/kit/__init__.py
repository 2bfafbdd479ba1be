"""Domain-free tools: the World (time, chance, files, processes, network), backoff, supervision, logs."""

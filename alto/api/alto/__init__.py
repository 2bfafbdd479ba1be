"""What AWS has no word for: hosts, services, accounts, audit; JSON under /alto/v1."""

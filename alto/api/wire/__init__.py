"""AWS protocols, driven by botocore's service models: bytes to parameters, results to bytes."""

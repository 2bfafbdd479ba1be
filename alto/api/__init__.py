"""The only door in: every request is parsed, authenticated and answered here."""

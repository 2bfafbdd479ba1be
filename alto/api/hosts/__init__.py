"""Agent sessions: assignments out, reports in."""

"""Whole calls against a cloud that moves: its loops run, and its simulated hosts do what they are told."""

"""Metrics and official protocols; NumPy only."""

"""Benchmarks: they print figures, and have no limits to pass or fail."""

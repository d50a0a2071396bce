"""Chaos experiments: faults injected into real processes under a steady load."""

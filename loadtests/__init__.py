"""Load tests: the real service in processes of its own, and clients that load it."""

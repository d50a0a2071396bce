"""Load, soak and abuse: the real service in processes of its own, and clients that press it."""

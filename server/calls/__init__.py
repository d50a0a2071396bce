"""The monitor of calls: what each call is, which rules it breaks, and its end."""

"""The keys that token signatures are verified with, and where they come from."""

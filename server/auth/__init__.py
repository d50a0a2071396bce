"""Authentication: from a bearer token to a verified principal."""

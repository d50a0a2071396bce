"""Patient proofs: signed statements for the assistant's tools, and the keys to verify them."""

"""State shared between processes through Redis."""

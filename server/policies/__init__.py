"""What decides whether a patient gets a session now, in memory or in Redis."""

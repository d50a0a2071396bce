"""The playground and Vapi's real web SDK, in a real browser."""

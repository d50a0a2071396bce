"""The session-credential broker: a patient's token in, Vapi configuration out."""

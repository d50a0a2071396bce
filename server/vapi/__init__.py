"""Vapi: its health and the credentials issued for it."""

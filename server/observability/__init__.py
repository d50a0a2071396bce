"""Logs, audit lines and metrics."""

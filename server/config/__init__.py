"""The configuration: `load_settings` reads it, `Settings` contains it."""

from server.config.loader import load_settings
from server.config.settings import Settings

__all__ = ["Settings", "load_settings"]

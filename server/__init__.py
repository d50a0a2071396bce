"""The session-credential broker: a patient's token in, Vapi configuration out."""

from typing import Final

__version__: Final = "2.0.0.dev0"

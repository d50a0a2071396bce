"""JSON from whoever sends it: read before anybody knows whether they may."""

from typing import Final

import msgspec

decode_json: Final = msgspec.json.Decoder(float_hook=lambda _: None).decode
"""Read JSON strictly (RFC 8259); a number with a fraction or exponent is read as None.

Nothing here asks for one, and to read a thousand of them exactly can take milliseconds. Raises
ValueError or RecursionError.
"""

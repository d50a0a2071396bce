"""Strict JSON for unauthenticated input: token headers and request bodies."""

from typing import Final

import msgspec

decode_json: Final = msgspec.json.Decoder(float_hook=lambda _: None).decode
"""Decode JSON strictly (RFC 8259); a number with a fraction or an exponent becomes None.

No field of this input is such a number, and an exact conversion of a thousand of them can take
milliseconds. Raises ValueError or RecursionError.
"""

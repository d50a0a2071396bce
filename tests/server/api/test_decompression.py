"""Decompression of bodies: complete and limited."""

import gzip
import zlib

import pytest

from middlewares.errors import ApiError, ErrorCode
from server.api.body import DecompressionError, Decompressor, make_decompressor

PLAIN = b'{"patientContext":{"id":"pt_1"}}' + b" " * 500


def made(coding: str) -> Decompressor:
    """Return the decompressor of a supported coding."""
    decompressor = make_decompressor([coding])
    assert decompressor is not None
    return decompressor


def whole(coding: str, compressed: bytes) -> bytes:
    """Decompress a body byte by byte."""
    decompressor = made(coding)
    plain = b"".join(
        decompressor.decompress(compressed[at : at + 1], 10_000) for at in range(len(compressed))
    )
    decompressor.finish()
    return plain


@pytest.mark.parametrize(
    ("coding", "compressed"),
    [("gzip", gzip.compress(PLAIN)), (" Deflate ", zlib.compress(PLAIN))],
    ids=["gzip", "deflate"],  # gzip data contains its time
)
def test_round_trip(coding: str, compressed: bytes) -> None:
    assert whole(coding, compressed) == PLAIN


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("missing", [1, 4, 8, 12])
def test_truncated_body(coding: str, missing: int) -> None:
    compressed = gzip.compress(PLAIN) if coding == "gzip" else zlib.compress(PLAIN)
    with pytest.raises(DecompressionError):
        whole(coding, compressed[:-missing])


@pytest.mark.parametrize(
    "compressed",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x1f\x8b", id="a beginning"),
        pytest.param(b"no gzip", id="something else"),
        pytest.param(zlib.compress(PLAIN), id="another container"),
        pytest.param(gzip.compress(PLAIN) + b"x", id="more than a body"),
        pytest.param(gzip.compress(PLAIN)[:-8] + b"\0" * 8, id="another body's checksum"),
    ],
)
def test_invalid_gzip(compressed: bytes) -> None:
    with pytest.raises(DecompressionError):
        whole("gzip", compressed)


def test_decompression_bomb_stops_at_the_limit() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    assert len(made("gzip").decompress(bomb, 16_385)) == 16_385


@pytest.mark.parametrize("codings", [[], ["identity"], ["IDENTITY"]])
def test_identity_needs_no_decompressor(codings: list[str]) -> None:
    assert make_decompressor(codings) is None


@pytest.mark.parametrize("codings", [["br"], ["zstd"], ["gzip, gzip"], ["gzip", "gzip"], [""]])
def test_unsupported_coding(codings: list[str]) -> None:
    with pytest.raises(ApiError) as caught:
        make_decompressor(codings)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert caught.value.details == "The content coding is not supported; use gzip or deflate"

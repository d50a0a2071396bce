"""Compressed bodies: whole, or refused; and never more of them than is asked for."""

import gzip
import zlib

import pytest

from middlewares.api_errors import ApiError
from server.api.decompression import DecompressionError, Decompressor, make_decompressor

PLAIN = b'{"patientContext":{"id":"pt_1"}}' + b" " * 500


def made(coding: str) -> Decompressor:
    """Make the decompressor of a coding that there is."""
    decompressor = make_decompressor([coding])
    assert decompressor is not None
    return decompressor


def whole(coding: str, packed: bytes) -> bytes:
    """Unpack a body a byte at a time, to its end."""
    decompressor = made(coding)
    plain = b"".join(
        decompressor.decompress(packed[at : at + 1], 10_000) for at in range(len(packed))
    )
    decompressor.finish()
    return plain


@pytest.mark.parametrize(
    ("coding", "packed"),
    [("gzip", gzip.compress(PLAIN)), (" Deflate ", zlib.compress(PLAIN))],
    ids=["gzip", "deflate"],  # what is packed holds the second that it was packed in
)
def test_what_was_packed_comes_out_again(coding: str, packed: bytes) -> None:
    assert whole(coding, packed) == PLAIN


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("missing", [1, 4, 8, 12])
def test_a_body_cut_short_does_not_unpack(coding: str, missing: int) -> None:
    packed = gzip.compress(PLAIN) if coding == "gzip" else zlib.compress(PLAIN)
    with pytest.raises(DecompressionError):
        whole(coding, packed[:-missing])


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x1f\x8b", id="a beginning"),
        pytest.param(b"no gzip", id="something else"),
        pytest.param(gzip.compress(PLAIN) + b"x", id="more than a body"),
        pytest.param(gzip.compress(PLAIN)[:-8] + b"\0" * 8, id="another body's checksum"),
    ],
)
def test_what_is_no_gzip_does_not_unpack(packed: bytes) -> None:
    with pytest.raises(DecompressionError):
        whole("gzip", packed)


def test_a_bomb_is_unpacked_no_further_than_it_takes_to_tell() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    assert len(made("gzip").decompress(bomb, 16_385)) == 16_385


@pytest.mark.parametrize("codings", [[], ["identity"], ["IDENTITY"]])
def test_what_is_not_packed_needs_no_unpacking(codings: list[str]) -> None:
    assert make_decompressor(codings) is None


@pytest.mark.parametrize("codings", [["br"], ["zstd"], ["gzip, gzip"], ["gzip", "gzip"], [""]])
def test_a_coding_that_nobody_here_unpacks_is_refused(codings: list[str]) -> None:
    with pytest.raises(ApiError, match="INVALID_REQUEST"):
        make_decompressor(codings)

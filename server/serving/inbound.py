"""Gives received bytes to the HTTP parser in pieces, so that the parser's memory is limited.

aiohttp's parser limits each header field, but neither a whole head nor the trailer of a chunked
body. It keeps each field twice: as bytes, and as text with up to four bytes a character.
"""

import re
from typing import Final

from aiohttp import EMPTY_PAYLOAD, StreamReader, web

from server.serving.connection_limits import MAX_HEAD_BYTES

NOT_HTTP: Final = b"\0"
"""The parser rejects this byte in any part of a head."""

_EARLY_BYTES: Final = 4096
_BODY_PIECE_BYTES: Final = 1024
_MAX_FRAMING_BYTES: Final = 1024
_END: Final = b"\r\n\r\n"
_PROTOCOL: Final = re.compile(rb" (?:HTTP|RTSP|ICE)/")  # all that the parser accepts
_REQUEST_LINE_END: Final = re.compile(rb" HTTP/1\.[0-9]\r?\n$")
_LINE_END_BYTES: Final = 11
_TO_ASCII: Final = bytes(range(128)) + b"@" * 128


class Inbound:
    """The bytes received and not yet parsed, and what is arriving: a head or a body."""

    __slots__ = (
        *("_body", "_framing", "_head", "_last", "_line", "_received"),
        *("is_receiving", "is_too_large", "unparsed"),
    )

    def __init__(self) -> None:
        self.unparsed = b""
        self.is_receiving = False  # a body; otherwise a head
        self.is_too_large = False  # the head that was rejected
        self._body: StreamReader = EMPTY_PAYLOAD
        self._received = 0
        self._framing = 0
        self._head = 0
        self._last = b""
        self._line = b""  # the last bytes of the request line, as far as it has been parsed

    @property
    def has_incomplete_body(self) -> bool:
        """Whether the last request lacks a part of its body, also while a piece is parsed."""
        return not self._body.is_eof()

    @property
    def head_bytes(self) -> int:
        """The bytes of the next request's head that have been parsed."""
        return self._head

    @property
    def has_partial_head(self) -> bool:
        """Whether the next request has begun to arrive."""
        return bool(self._head or self.unparsed)

    def next_piece(self) -> bytes:
        """Take the next piece for the parser; it is empty when more of a head has to arrive.

        A piece contains at most one head, because the parser forgets the heads that it has read
        when it rejects what follows them; and also the body if nothing else has arrived. The first
        4 KiB of a head are parsed without waiting for the rest, so that what is not HTTP is soon
        rejected. A head that is too large ends with `NOT_HTTP`.
        """
        if self.is_receiving:
            return self._take(self._body_piece_size())
        end = (self._last + self.unparsed).find(_END)
        size = len(self.unparsed) if end < 0 else end + len(_END) - len(self._last)
        if self._head + size > MAX_HEAD_BYTES:
            self.is_too_large = True
            return NOT_HTTP
        if end < 0:
            size = max(0, _EARLY_BYTES - self._head)
        elif self._is_one_request(size):
            return self._take(_EARLY_BYTES)
        head = self._take(size)
        # As text, a character outside ASCII multiplies the memory of its field. `@` replaces it: it
        # is just as invalid in a method, a field name, and each value that the service reads.
        return head if head.isascii() else head.translate(_TO_ASCII)

    def _body_piece_size(self) -> int:
        """Return the size of a piece that ends with the first head after the body."""
        found = _PROTOCOL.search(self.unparsed, 0, _BODY_PIECE_BYTES)
        end = self.unparsed.find(_END, found.start(), _BODY_PIECE_BYTES) if found else -1
        return _BODY_PIECE_BYTES if end < 0 else end + len(_END)

    def _is_one_request(self, head: int) -> bool:
        """Return whether a small request in ASCII is all that has arrived: no byte follows it."""
        if self._head + len(self.unparsed) > _EARLY_BYTES or not self.unparsed.isascii():
            return False
        length = len(self.unparsed) - head
        announced = b"\r\ncontent-length: %d\r\n" % length
        return length > 0 and announced in self.unparsed[:head].lower()

    def _take(self, size: int) -> bytes:
        piece, self.unparsed = self.unparsed[:size], self.unparsed[size:]
        return piece

    def is_http_head(self, piece: bytes) -> bool:
        """Return whether the request line of the head that `piece` completes names HTTP/1.x.

        The parser takes RTSP/1.0 and ICE/1.0 for HTTP/1.0.
        """
        self._read_line(self._head_in(piece))
        return _REQUEST_LINE_END.search(self._line) is not None

    def begin_body(self, body: StreamReader) -> None:
        """Note that a head is complete; `body` follows."""
        self._body, self._received, self._framing = body, body.total_bytes, 0
        self.is_receiving = not body.is_eof()
        self._begin_head(b"")

    def _head_in(self, piece: bytes) -> bytes:
        """Return the part of `piece` that belongs to the head that it completes."""
        if self._head:
            return piece
        if self.is_receiving:  # the end of a body comes first
            content = self._body.total_bytes - self._received
            before_end = (self._last + piece)[: -len(_END)]
            size = len(before_end.rpartition(_END)[2]) + len(_END)  # chunks end like a head
            piece = piece[len(piece) - min(size, len(piece) - content) :]
        return piece.lstrip(b"\r\n")

    def _read_line(self, part: bytes) -> None:
        if not self._line.endswith(b"\n"):
            self._line = (self._line + part[: part.find(b"\n") + 1 or None])[-_LINE_END_BYTES:]

    def advance(self, piece: bytes) -> bool:
        """Note that the parser has read `piece`, which completed no head.

        Return False when a body's framing (sizes and extensions of chunks, trailer fields) fills
        over 1 KiB of pieces without content.
        """
        if not self.is_receiving:
            if self._head:
                self._head += len(piece)
                self._last = (self._last + piece)[-3:]
                self._read_line(piece)
            else:
                self._begin_head(piece)
            return True
        content, self._received = self._body.total_bytes - self._received, self._body.total_bytes
        if self.has_incomplete_body:
            self._framing = 0 if content else self._framing + len(piece)
            self._last = (self._last + piece)[-3:]
            return self._framing <= _MAX_FRAMING_BYTES
        self.is_receiving = False
        after_chunks = (self._last + piece).rpartition(_END)[2]  # a chunked body ends like a head
        self._begin_head(piece[len(piece) - min(len(after_chunks), len(piece) - content) :])
        return True

    def _begin_head(self, start: bytes) -> None:
        """Count the first bytes of a head; empty lines before it are ignored (RFC 9112 2.2)."""
        start = start.lstrip(b"\r\n")
        self._head, self._last, self._line = len(start), start[-3:], b""
        if start:
            self._read_line(start)

    def end_body(self) -> None:
        """End the body that is arriving, for who reads it."""
        self._body.feed_eof()

    def discard(self) -> None:
        """Drop what is not parsed, and fail the body that is arriving; the parser does not."""
        self.unparsed = b""
        if self.has_incomplete_body:
            self._body.set_exception(web.RequestPayloadError("malformed framing"))

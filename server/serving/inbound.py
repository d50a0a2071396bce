"""What has arrived on a connection: gives it to aiohttp's parser, one head or body at a time.

The parser keeps each field of a head twice: as bytes, and as text with up to four bytes a
character. It limits neither a whole head nor the trailer of a chunked body, and it takes RTSP/1.0
and ICE/1.0 for HTTP/1.0. So it gets pieces that end where a head or a body may end.
"""

import asyncio
import re
from typing import Final

from aiohttp import EMPTY_PAYLOAD, HttpVersion10, StreamReader, hdrs, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError

from server.serving import connection_limits as limits

_END: Final = b"\r\n\r\n"
_LINE_BREAKS: Final = b"\r\n"
_EARLY_BYTES: Final = 4096
_CHUNKED_BYTES: Final = 1024
_MAX_FRAMING_BYTES: Final = 1024
_TOO_MANY_FIELDS: Final = "Too many headers received"  # the parser's words
_OVER_MAX_FIELDS: Final = f"The request has over {limits.MAX_HEADER_FIELDS} header fields"
_OVER_MAX_BYTES: Final = f"The request head is larger than {limits.MAX_HEAD_BYTES} bytes"
_PROTOCOL: Final = b" HTTP/1."
_WHITE_SPACE_OR_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")
_TO_ASCII: Final = bytes(range(128)) + b"@" * 128
"""As text, a character outside ASCII multiplies the memory of its field. `@` replaces it: it is
just as invalid in a method, a field name, and each value that the service reads."""


class LimitError(ValueError):
    """A request exceeds a limit of the connection; the text names it, for the client."""


class Inbound:
    """The bytes received and not yet parsed, and the body that is arriving, or arrived last.

    `received` begins with the next head if the body is complete. The parser pauses and resumes
    `protocol` for a body that is not read.
    """

    __slots__ = ("_framing", "_length", "_parsed", "_parser", "body", "received")

    def __init__(self, protocol: BaseProtocol) -> None:
        self.received = b""
        self.body: StreamReader = EMPTY_PAYLOAD
        self._parsed = 0  # bytes of `received`, which the parser has got
        self._length: int | None = 0  # of the body, in bytes; None: chunked
        self._framing = 0  # bytes of a chunked body since the last that had content
        self._parser = HttpRequestParser(
            protocol,
            asyncio.get_running_loop(),
            limits.READ_BYTES,  # of a body; reading pauses at twice as much
            max_line_size=limits.MAX_HEAD_BYTES,
            max_field_size=limits.MAX_HEAD_BYTES,  # a token that is too large gets its own error
            max_headers=limits.MAX_HEADER_FIELDS,
            payload_exception=web.RequestPayloadError,
            auto_decompress=False,  # the application does, after authentication
        )

    def parse_head(self, *, is_last: bool) -> tuple[RawRequestMessage, StreamReader, int] | None:
        """Return a request, its body and the size of its head; None if more has to arrive.

        The first 4 KiB are parsed at once, so that what is not HTTP is soon rejected; the rest
        waits for the end of the head. Nothing more arrives if `received` is the last. Raises
        ValueError (also LimitError) or HttpProcessingError for what is not a request; `reason`
        explains it.
        """
        if not self._parsed:  # empty lines before a head are ignored (RFC 9112 2.2)
            self.received = self.received.lstrip(_LINE_BREAKS)
        received, start = self.received, self._parsed
        end = received.find(_END, max(0, start - len(_END)))
        size = len(received) if end < 0 else end + len(_END)
        if size > limits.MAX_HEAD_BYTES:
            raise LimitError(_OVER_MAX_BYTES)
        piece = received[start : _EARLY_BYTES if end < 0 else size]
        if not piece.isascii():
            piece = piece.translate(_TO_ASCII)
        messages, _, _ = self._parser.feed_data(piece)
        if end < 0:
            if is_last and received:
                raise ValueError("the head is incomplete")
            self._parsed = max(start, min(size, _EARLY_BYTES))
            return None
        self.received, self._parsed = received[size:], 0
        if not messages or not _is_well_formed(messages[0][0], received):
            raise ValueError("not HTTP/1.x")
        message, self.body = messages[0]
        self._framing = 0
        length = message.headers.get(hdrs.CONTENT_LENGTH, "0")
        self._length = None if message.chunked else int(length)
        return message, self.body, size

    def parse_body(self) -> bool:
        """Parse a part of the body; return False if it is malformed, for its reader too.

        It is when its framing (sizes and extensions of chunks, trailer fields) fills over 1 KiB of
        pieces without content.
        """
        body, before = self.body, self.body.total_bytes
        size = self._chunked_size() if self._length is None else self._length - before
        piece, self.received = self.received[:size], self.received[size:]
        try:
            self._parser.feed_data(piece)
        except HttpProcessingError:
            return self._fail_body()
        self._framing = 0 if body.total_bytes > before else self._framing + len(piece)
        return self._framing <= _MAX_FRAMING_BYTES or body.is_eof() or self._fail_body()

    def _fail_body(self) -> bool:
        self.body.set_exception(web.RequestPayloadError("malformed framing"))
        self.body = EMPTY_PAYLOAD
        return False

    def end(self) -> None:
        """Release what refers to the protocol; who reads the body gets an error."""
        self.received = b""
        self.body.set_exception(ConnectionResetError("Connection lost"))
        self.body = EMPTY_PAYLOAD
        del self._parser

    def _chunked_size(self) -> int:
        """Return the size of a piece that ends where the chunked body may end.

        Line breaks at its beginning may complete such an end; those after the body do no harm.
        """
        start = self.received[: len(_END) - 1]
        if breaks := len(start) - len(start.lstrip(_LINE_BREAKS)):
            return breaks
        end = self.received.find(_END, 0, _CHUNKED_BYTES)
        return _CHUNKED_BYTES if end < 0 else end + len(_END)


def reason(error: Exception) -> Exception:
    """Return the error without what was sent, or the LimitError that it stands for."""
    error.__traceback__ = None
    return LimitError(_OVER_MAX_FIELDS) if str(error).endswith(_TOO_MANY_FIELDS) else error


def _is_well_formed(message: RawRequestMessage, head: bytes) -> bool:
    """Return whether what the parser does not check agrees with RFC 9112 and RFC 9110.

    The protocol is HTTP/1.x. A transfer coding needs HTTP/1.1, and can only be `chunked`.
    """
    headers = message.headers
    line_end = head.index(b"\n")
    if head[line_end - 10 : line_end - 2] != _PROTOCOL:
        return False
    if (host := headers.get(hdrs.HOST)) is not None and _WHITE_SPACE_OR_CONTROL.search(host):
        return False
    if hdrs.TRANSFER_ENCODING not in headers:
        return True
    codings = headers.getall(hdrs.TRANSFER_ENCODING)
    return message.version != HttpVersion10 and [each.lower() for each in codings] == ["chunked"]

"""A pipe whose reader can stop."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

FILLER = b"filled\n"


@dataclass(frozen=True, slots=True)
class Pipe:
    """The descriptors of the two ends."""

    reader: int
    writer: int

    def fill(self) -> None:
        """Write until the pipe is full."""
        os.set_blocking(self.writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self.writer, FILLER)
        os.set_blocking(self.writer, True)

    @contextmanager
    def duplicate(self) -> Iterator[int]:
        """Duplicate the descriptor of the writer: the copy can be redirected to another file."""
        descriptor = os.dup(self.writer)
        yield descriptor
        os.close(descriptor)

    def read(self) -> bytes:
        """Read what is there, at least one byte."""
        return os.read(self.reader, 2**20)

    def read_until(self, end: bytes) -> list[bytes]:
        """Read until the output ends with these bytes; return the lines, except the filler."""
        output = b""
        while not output.endswith(end):
            output += self.read()
        return [line for line in output.splitlines(keepends=True) if line != FILLER]

    def read_lines(self, count: int) -> list[bytes]:
        """Read until there are `count` lines beside the filler; return them."""
        lines: list[bytes] = []
        rest = b""
        while len(lines) < count:
            *whole, rest = (rest + self.read()).split(b"\n")
            lines += [line + b"\n" for line in whole if line + b"\n" != FILLER]
        return lines

    def read_rest(self) -> list[bytes]:
        """Read to the end, when the writers have closed; return the lines, except the filler."""
        os.close(self.writer)
        output = b"".join(iter(lambda: os.read(self.reader, 2**20), b""))
        return [line for line in output.splitlines(keepends=True) if line != FILLER]


@contextmanager
def pipe() -> Iterator[Pipe]:
    """Open a pipe, and close it."""
    made = Pipe(*os.pipe())
    yield made
    for descriptor in (made.reader, made.writer):
        with suppress(OSError):
            os.close(descriptor)

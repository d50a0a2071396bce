"""A `.env` file: its values, duplicates with their lines, and lines that cannot be read."""

import codecs
from pathlib import Path

import pytest

from server.config.sources import DotenvFile, read_dotenv


def read(folder: Path, content: bytes | str) -> DotenvFile:
    """Write a file and read it."""
    path = folder / ".env"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_dotenv(path)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"A=b", "b"),
        (b"A=b\r\n", "b"),
        (b"\xef\xbb\xbfA=b", "b"),
        (b"export A=b # comment", "b"),
        (b"A=${HOME}x", "${HOME}x"),
        (b"A='${HOME}'", "${HOME}"),
        (b'A="a#b"', "a#b"),
        (b"A='a # b'", "a # b"),
        (b'A="a\nb"', "a\nb"),
        ("A=é".encode(), "é"),
        (b"A=", ""),
        (b"# A=b", None),
        (b"", None),
    ],
)
def test_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, value: str | None
) -> None:
    monkeypatch.setenv("HOME", "expanded")
    file = read(tmp_path, content)
    assert file.values == ({} if value is None else {"A": value})
    assert file.faults == {}


def test_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert read_dotenv(tmp_path / ".env") == DotenvFile({}, {})


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("A=1\nA=2\n", "1 and 2"),
        ("A=1\nA=1\n", "1 and 2"),
        ("A=1\nA=\n", "1 and 2"),
        ("\n\n# A=0\nA=1\n\n  \n# comment\n\nexport A=2\n", "4 and 9"),
        ("B='x\n\ny'\nA=1\r\n\r\nA=2\r\n", "4 and 6"),
        ("A=1\nA=2\nB=3\nA=4", "1, 2 and 4"),
    ],
)
def test_a_variable_given_twice_is_a_fault_with_both_lines(
    tmp_path: Path, content: str, lines: str
) -> None:
    file = read(tmp_path, content)
    assert file.faults == {"A": f"is given more than once in .env, on lines {lines}; keep one"}


BEGIN, FINISH = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
QUOTE = "close the quote and end the line"


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        ('A="secret\nB=1\n', {"A": f"cannot be read on line 1 of .env; {QUOTE}"}),
        ("\nexport A='secret' x\n", {"A": f"cannot be read on line 2 of .env; {QUOTE}"}),
        ("A: secret\n", {".env": "cannot be read on line 1 of .env; write NAME=value"}),
        ("A\n", {".env": "cannot be read on line 1 of .env; write NAME=value"}),
        (
            "AUDIT\nB=1\nC3VjcmV0\n",
            {".env": "cannot be read on lines 1 and 3 of .env; write NAME=value"},
        ),
        ("A secret=\n", {".env": "cannot be read on line 1 of .env; write NAME=value"}),
        (
            "<<<<<<< HEAD\nA=1\n=======\n",
            {".env": "cannot be read on lines 1 and 3 of .env; write NAME=value"},
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_a_fault_without_its_content(
    tmp_path: Path, content: str, faults: dict[str, str]
) -> None:
    assert read(tmp_path, content).faults == faults


LINES = "MIGHAgEAMBMGByqGSM49\nAgEGCCqGSM49AwEHBG0w\nawIBAQQg==\n"


@pytest.mark.parametrize(
    ("content", "values", "faulty"),
    [
        (f"A={BEGIN}\n{LINES}{FINISH}\nB=1\n", {"A": BEGIN, "B": "1"}, set()),
        (f"A={BEGIN}\n{LINES}B=1\n", {"A": BEGIN, "B": "1"}, set()),
        (f'A="{BEGIN}\n{LINES}B=1\n', {"B": "1"}, {"A"}),
        (f"A={BEGIN}\nProc-Type: 4,ENCRYPTED\n\n{LINES}{FINISH}\n", {"A": BEGIN}, set()),
        (f"A={BEGIN}\n{LINES}{FINISH}\n" * 2, {"A": BEGIN}, {"A"}),
        (f"A='{BEGIN}\n{LINES}{FINISH}'\n", {"A": f"{BEGIN}\n{LINES}{FINISH}"}, set()),
    ],
    ids=["no quotes", "no end", "unclosed quote", "encrypted", "twice", "quotes"],
)
def test_lines_of_a_pem_without_quotes_are_not_names(
    tmp_path: Path, content: str, values: dict[str, str], faulty: set[str]
) -> None:
    file = read(tmp_path, content)
    assert file.values == values
    assert file.faults.keys() == faulty
    assert "MIG" not in str(file.faults)


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b""])
def test_utf16_is_a_fault(tmp_path: Path, mark: bytes) -> None:
    file = read(tmp_path, mark + b"A\0=\0b\0")
    assert file == DotenvFile({}, {".env": "is encoded in UTF-16; save it in UTF-8"})


def test_text_that_is_not_utf8_is_a_fault_without_its_content(tmp_path: Path) -> None:
    file = read(tmp_path, b"A=1\nB='\xe9'\n# caf\xe9\n")
    assert file.faults == {".env": "is not UTF-8 on lines 2 and 3; save it in UTF-8"}


@pytest.mark.parametrize(
    ("content", "ends"),
    [("", True), ("A=1\n", True), ("A=1\r\n", True), ("A=1\r", True), ("A=1", False), ("#", False)],
)
def test_the_end_of_the_file(tmp_path: Path, content: str, ends: object) -> None:
    assert read(tmp_path, content).ends_with_line_break is ends


FOREIGN = b"""neither assignment nor comment
THEIRS='unclosed
THEIRS=caf\xe9
export THEIRS
MIGHAgEAMBMGByqGSM49
"""


@pytest.mark.parametrize(
    ("content", "values", "faults"),
    [
        (b"OUR_A=1\n" + FOREIGN + b"OUR_B='2'\n", {"OUR_A": "1", "OUR_B": "2"}, {}),
        (b"THEIRS=a\0b\nOUR_A=1\n", {"OUR_A": "1"}, {}),
        (b"OUR_A='1\n", {}, {"OUR_A": f"cannot be read on line 1 of .env; {QUOTE}"}),
        (b"OUR_A\n", {}, {".env": "cannot be read on line 1 of .env; write NAME=value"}),
        (
            b"OUR_A=\xe9\n",
            {"OUR_A": "\udce9"},
            {".env": "is not UTF-8 on line 1; save it in UTF-8"},
        ),
        (
            b"THEIRS=1\nTHEIRS=2\nOUR_A=1\nOUR_A=2\n",
            {"OUR_A": "2"},
            {"OUR_A": "is given more than once in .env, on lines 3 and 4; keep one"},
        ),
        (
            b"\n\nTHEIRS='unclosed\n\nOUR_A='1'\nOUR_B='2\n",
            {"OUR_A": "1"},
            {"OUR_B": f"cannot be read on line 6 of .env; {QUOTE}"},
        ),
    ],
    ids=["foreign", "NUL", "quote", "no value", "encoding", "twice", "after an unclosed quote"],
)
def test_in_the_file_of_a_host_only_our_lines_count(
    tmp_path: Path, content: bytes, values: dict[str, str], faults: dict[str, str]
) -> None:
    path = tmp_path / ".env"
    path.write_bytes(content)
    file = read_dotenv(path, lambda name: name.startswith("OUR_"))
    assert (file.values, file.faults) == (values, faults)

"""The limit of open files, and the connections that it allows."""

import resource

import pytest

from server.serving.open_files import connections_within_limit, raise_open_file_limit


@pytest.mark.parametrize(
    ("soft", "hard", "becomes"),
    [
        (1024, 524288, [(65536, 524288)]),
        (1024, resource.RLIM_INFINITY, [(65536, resource.RLIM_INFINITY)]),
        (1024, 4096, [(4096, 4096)]),
        (100_000, 524288, []),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, []),
    ],
)
def test_limit_is_raised_and_never_lowered(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, becomes: list[tuple[int, int]]
) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    raise_open_file_limit()
    assert limits == becomes


@pytest.mark.parametrize(
    ("soft", "maximum", "allowed"),
    [(65536, 10000, 10000), (1024, 10000, 960), (100, 10000, 50), (100, 20, 20), (-1, 9, 9)],
)
def test_connections_leave_files_for_everything_else(
    monkeypatch: pytest.MonkeyPatch, soft: int, maximum: int, allowed: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, -1))
    assert connections_within_limit(maximum) == allowed

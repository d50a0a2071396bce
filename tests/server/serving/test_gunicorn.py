"""The values for gunicorn, and what `tests/multiprocess` cannot show of its hooks."""

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from server.serving import gunicorn as hooks


@pytest.mark.parametrize(
    ("host", "written"), [("0.0.0.0", "0.0.0.0:8080"), ("::1", "[::1]:8080"), ("box", "box:8080")]
)
def test_ipv6_address_has_brackets(host: str, written: str) -> None:
    assert hooks.address(host, 8080) == written


@pytest.mark.parametrize(("grace", "whole"), [(0.0, 1), (0.5, 1), (10.0, 10), (10.1, 11)])
def test_grace_is_rounded_up(grace: float, whole: int) -> None:
    assert hooks.whole_seconds(grace) == whole


def test_gunicorn_records_propagate() -> None:
    loggers = hooks.log_config("WARNING")["loggers"]
    assert loggers["gunicorn.error"] == {"level": "WARNING", "handlers": [], "propagate": True}


class Master(SimpleNamespace):
    """A stand-in for gunicorn's master; it records what it is called for."""

    def __init__(self, *, systemd: bool = False) -> None:
        super().__init__(reexec_pid=0, master_pid=0, systemd=systemd)
        self.LISTENERS = [SimpleNamespace(sock="socket")]
        self.calls: list[object] = []
        self.kill_workers = self.calls.append
        self.reload = None


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Record which sockets stop accepting, and restore the state of the process."""
    sockets: list[Any] = []
    monkeypatch.setattr(hooks, "stop_accepting", sockets.extend)
    monkeypatch.setattr(hooks._process, "end", hooks.EndOfService())
    before = {number: signal.signal(number, lambda *_: None) for number in hooks._ENDING}
    yield sockets
    for number, handler in before.items():
        signal.signal(number, handler)


def prepare(master: Master, *, delay: float = 0) -> Master:
    hooks.prepare_master(master, may_reload=lambda: True, delay=lambda: delay)
    return master


@pytest.mark.parametrize(("delay", "filtered"), [(0, ["socket"]), (2, [])])
@pytest.mark.parametrize("systemd", [False, True])
def test_sigterm_tells_the_workers_that_the_service_ends(
    stopped: list[Any], delay: float, filtered: list[str], *, systemd: bool
) -> None:
    master = prepare(Master(systemd=systemd), delay=delay)
    signal.raise_signal(signal.SIGTERM)
    end = hooks._process.end
    assert (end.is_announced, end.closes_sockets) == (True, not systemd)
    assert stopped == ([] if systemd else filtered)
    assert (master.calls, master.num_workers) == ([signal.SIGTERM], 0)


def test_second_sigint_kills_workers_and_master(
    stopped: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    master = prepare(Master())
    monkeypatch.setattr(os, "kill", lambda *sent: master.calls.append(sent))
    signal.raise_signal(signal.SIGINT)
    assert master.calls == []
    signal.raise_signal(signal.SIGINT)
    assert master.calls == [signal.SIGKILL, (os.getpid(), signal.SIGINT)]
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL

"""What gunicorn is told, and what is done on its occasions; tests/fleet runs it for real."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.observability import multiprocess
from server.serving import gunicorn_hooks as fleet
from tests.support import make_settings


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the process back as it was: its variable, its signals."""
    monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, "placeholder")
    monkeypatch.delenv(multiprocess.METRICS_DIRECTORY)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


@pytest.mark.parametrize(
    ("host", "written"), [("0.0.0.0", "0.0.0.0:8080"), ("::1", "[::1]:8080"), ("box", "box:8080")]
)
def test_the_address_is_written_as_gunicorn_reads_it(host: str, written: str) -> None:
    assert fleet.address(host, 8080) == written


@pytest.mark.parametrize(("grace", "whole"), [(0.0, 1), (0.5, 1), (10.0, 10), (10.1, 11)])
def test_the_grace_is_never_cut_short(grace: float, whole: int) -> None:
    assert fleet.whole_seconds(grace) == whole


def test_gunicorns_lines_join_the_services() -> None:
    loggers = fleet.log_config(make_settings(LOG_LEVEL="WARNING"))["loggers"]
    assert loggers["gunicorn.error"] == {"level": "WARNING", "handlers": [], "propagate": True}


class TestSharedMetrics:
    def test_have_a_folder_of_their_own(self) -> None:
        multiprocess.prepare_metrics_directory(enabled=True)
        folder = Path(os.environ[multiprocess.METRICS_DIRECTORY])
        assert folder.is_dir()
        fleet.on_exit(None)
        assert not folder.exists()

    def test_keep_that_folder_when_gunicorn_reads_its_configuration_anew(self) -> None:
        multiprocess.prepare_metrics_directory(enabled=True)
        folder = os.environ[multiprocess.METRICS_DIRECTORY]
        multiprocess.prepare_metrics_directory(enabled=True)
        assert os.environ[multiprocess.METRICS_DIRECTORY] == folder
        fleet.on_exit(None)

    def test_go_where_the_operator_says_and_stay_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "deep" / "down"
        monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(folder))
        multiprocess.prepare_metrics_directory(enabled=True)
        assert folder.is_dir()
        fleet.on_exit(None)
        assert folder.is_dir()

    def test_are_not_kept_when_they_are_off(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(tmp_path / "none"))
        multiprocess.prepare_metrics_directory(enabled=False)
        assert multiprocess.METRICS_DIRECTORY not in os.environ
        fleet.on_starting(None)
        fleet.child_exit(None, SimpleNamespace(pid=1))
        fleet.on_exit(None)

    def test_begin_at_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(tmp_path))
        old = tmp_path / "counter_1.db"
        old.touch()
        fleet.on_starting(None)
        assert not old.exists()

    def test_go_on_under_a_second_master(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(tmp_path))
        monkeypatch.setenv("GUNICORN_PID", "1")
        old = tmp_path / "counter_1.db"
        old.touch()
        fleet.on_starting(None)
        assert old.exists()

    @pytest.mark.parametrize(
        ("folder", "left"),
        [
            ("/tmp/vapi-sessions-metrics-1", {}),
            ("/of/the/operator", {multiprocess.METRICS_DIRECTORY: ...}),
        ],
    )
    def test_are_kept_by_a_second_master_where_the_first_does_not_remove_them(
        self, folder: str, left: dict[str, object]
    ) -> None:
        environment = {multiprocess.METRICS_DIRECTORY: folder}
        fleet.pre_exec(SimpleNamespace(cfg=SimpleNamespace(env_orig=environment)))
        assert environment.keys() == left.keys()

    def test_lose_the_states_of_a_process_that_is_gone_but_not_its_counts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(tmp_path))
        for name in ("counter_7.db", "gauge_livemax_7.db", "gauge_livemax_8.db"):
            (tmp_path / name).touch()
        fleet.child_exit(None, SimpleNamespace(pid=7))
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {"counter_7.db", "gauge_livemax_8.db"}


@pytest.fixture
def shut(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Record which sockets are shut."""
    seen: list[socket.socket] = []
    monkeypatch.setattr(fleet, "stop_accepting", seen.extend)
    return seen


def master(*, reexec_pid: int = 0, master_pid: int = 0, systemd: bool = False) -> SimpleNamespace:
    """Stand in for gunicorn's master: by itself, unless told of another."""
    listeners = [SimpleNamespace(sock="door")]
    return SimpleNamespace(
        LISTENERS=listeners, reexec_pid=reexec_pid, master_pid=master_pid, systemd=systemd
    )


class TestTheMaster:
    def test_shuts_the_door_and_then_does_as_gunicorn_does(self, shut: list[Any]) -> None:
        told: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
        fleet.when_ready(master())
        signal.raise_signal(signal.SIGTERM)
        assert (shut, told) == (["door"], [signal.SIGTERM])

    def test_leaves_the_rest_to_nobody_when_nobody_listened(self, shut: list[Any]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        fleet.when_ready(master())
        signal.raise_signal(signal.SIGTERM)
        assert shut == ["door"]

    @pytest.mark.parametrize(
        "others", [{"reexec_pid": 7}, {"master_pid": 7}, {"systemd": True}], ids=str
    )
    def test_leaves_the_door_open_to_those_who_go_on_with_it(
        self, shut: list[Any], others: dict[str, Any]
    ) -> None:
        told: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
        fleet.when_ready(master(**others))
        signal.raise_signal(signal.SIGTERM)
        assert (shut, told) == ([], [signal.SIGTERM])

    def test_is_not_a_worker_which_ends_at_once_when_it_is_just_being_born(
        self, shut: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        fleet.when_ready(master())
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        assert shut == []


class Loop:
    """Runs what it is given when it is told to."""

    def __init__(self) -> None:
        self.soon: list[tuple[Callable[..., object], Any]] = []
        self.handlers: dict[int, tuple[Callable[..., object], Any]] = {}

    def call_soon(self, call: Callable[..., object], *args: Any) -> None:
        self.soon.append((call, args))

    def add_signal_handler(self, number: int, call: Callable[..., object], *args: Any) -> None:
        self.handlers[number] = (call, args)


def test_a_worker_hears_sigterm_only_once_its_loop_runs_and_then_leaves_at_once() -> None:
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    fleet.post_fork(None, None)
    signal.raise_signal(signal.SIGTERM)
    assert told == []

    worker = SimpleNamespace(loop=Loop(), handle_quit="leaves")
    fleet.post_worker_init(worker)
    assert worker.loop.handlers[signal.SIGTERM][0] == "leaves"
    for call, args in worker.loop.soon:
        call(*args)
    assert told == [signal.SIGTERM]

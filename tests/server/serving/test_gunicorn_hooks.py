"""The values and hooks for gunicorn; `tests/multiprocess` runs them in real processes."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rig.service import NO_FILE, VARIABLES, make_settings
from server.config.loader import Configuration, load_configuration
from server.observability import multiprocess
from server.serving import gunicorn_hooks as hooks
from server.serving.master_configuration import MasterConfiguration

MASTER_OF_ONE = SimpleNamespace(cfg=SimpleNamespace(workers=1))


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the variable and the signals of the process."""
    monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, "placeholder")
    monkeypatch.delenv(multiprocess.METRICS_DIRECTORY)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def configuration(**changed: str) -> Configuration:
    """Return the configuration with the variables of the tests."""
    return load_configuration({**VARIABLES, **changed}, NO_FILE)


@pytest.fixture(autouse=True)
def master(
    monkeypatch: pytest.MonkeyPatch, unloaded_master: MasterConfiguration
) -> MasterConfiguration:
    """Restore the state of the process."""
    unloaded_master._current = configuration()
    monkeypatch.setattr(hooks, "MASTER", unloaded_master)
    return unloaded_master


@pytest.mark.parametrize(
    ("host", "written"), [("0.0.0.0", "0.0.0.0:8080"), ("::1", "[::1]:8080"), ("box", "box:8080")]
)
def test_ipv6_address_has_brackets(host: str, written: str) -> None:
    assert hooks.address(host, 8080) == written


@pytest.mark.parametrize(("grace", "whole"), [(0.0, 1), (0.5, 1), (10.0, 10), (10.1, 11)])
def test_grace_is_rounded_up(grace: float, whole: int) -> None:
    assert hooks.whole_seconds(grace) == whole


def test_gunicorn_records_propagate() -> None:
    loggers = hooks.log_config(make_settings(LOG_LEVEL="WARNING"))["loggers"]
    assert loggers["gunicorn.error"] == {"level": "WARNING", "handlers": [], "propagate": True}


class TestMetricsFolder:
    def test_is_created_and_deleted(self) -> None:
        multiprocess.prepare_metrics_directory(enabled=True)
        folder = Path(os.environ[multiprocess.METRICS_DIRECTORY])
        assert folder.is_dir()
        hooks.on_exit(None)
        assert not folder.exists()

    def test_survives_a_reload(self) -> None:
        multiprocess.prepare_metrics_directory(enabled=True)
        folder = os.environ[multiprocess.METRICS_DIRECTORY]
        multiprocess.prepare_metrics_directory(enabled=True)
        assert os.environ[multiprocess.METRICS_DIRECTORY] == folder
        hooks.on_exit(None)

    def test_of_the_operator_is_not_deleted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "deep" / "down"
        monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(folder))
        multiprocess.prepare_metrics_directory(enabled=True)
        assert folder.is_dir()
        hooks.on_exit(None)
        assert folder.is_dir()

    def test_is_not_used_without_metrics(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(tmp_path / "none"))
        multiprocess.prepare_metrics_directory(enabled=False)
        assert multiprocess.METRICS_DIRECTORY not in os.environ
        hooks.on_starting(MASTER_OF_ONE)
        hooks.child_exit(None, SimpleNamespace(pid=1))
        hooks.on_exit(None)

    def test_is_emptied_at_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(tmp_path))
        old = tmp_path / "counter_1.db"
        old.touch()
        hooks.on_starting(MASTER_OF_ONE)
        assert not old.exists()

    def test_is_not_emptied_by_a_second_master(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(tmp_path))
        monkeypatch.setenv("GUNICORN_PID", "1")
        old = tmp_path / "counter_1.db"
        old.touch()
        hooks.on_starting(MASTER_OF_ONE)
        assert old.exists()

    @pytest.mark.parametrize(
        ("folder", "left"),
        [
            ("/tmp/vapi-sessions-metrics-1", {}),
            ("/of/the/operator", {multiprocess.METRICS_DIRECTORY: ...}),
        ],
    )
    def test_of_a_first_master_is_not_inherited(self, folder: str, left: dict[str, object]) -> None:
        environment = {multiprocess.METRICS_DIRECTORY: folder}
        hooks.pre_exec(SimpleNamespace(cfg=SimpleNamespace(env_orig=environment)))
        assert environment.keys() == left.keys()

    def test_loses_the_gauges_of_a_process_that_ended(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(tmp_path))
        for name in ("counter_7.db", "gauge_livemax_7.db", "gauge_livemax_8.db"):
            (tmp_path / name).touch()
        hooks.child_exit(None, SimpleNamespace(pid=7))
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {"counter_7.db", "gauge_livemax_8.db"}


Signals = list[int]


class Master(SimpleNamespace):
    """A stand-in for gunicorn's master; it records what it is called for."""

    def __init__(self, **state: object) -> None:
        none = {"reexec_pid": 0, "master_pid": 0, "systemd": False}
        super().__init__(**{**none, **state})
        self.LISTENERS = [SimpleNamespace(sock="socket")]
        self.killed: Signals = []
        self.kill_workers = self.killed.append
        self.reload = None


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record which sockets stop accepting."""
    sockets: list[Any] = []
    monkeypatch.setattr(hooks, "stop_accepting", sockets.extend)
    return sockets


class TestSigterm:
    @pytest.mark.parametrize(("delay", "filtered"), [("0", ["socket"]), ("2", [])])
    @pytest.mark.parametrize("systemd", [False, True])
    def test_tells_the_workers_that_the_service_ends(
        self,
        master: MasterConfiguration,
        stopped: list[Any],
        delay: str,
        filtered: list[str],
        *,
        systemd: bool,
    ) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        master._current = configuration(SHUTDOWN_DELAY_SECONDS=delay)
        hooks.when_ready(Master(systemd=systemd))
        signal.raise_signal(signal.SIGTERM)
        assert (master.end.is_announced, master.end.closes_sockets) == (True, not systemd)
        assert stopped == ([] if systemd else filtered)

    def test_stops_accepting_and_reaches_the_workers_at_once(self, stopped: list[Any]) -> None:
        handled: Signals = []
        signal.signal(signal.SIGTERM, lambda number, _: handled.append(number))
        master = Master()
        hooks.when_ready(master)
        signal.raise_signal(signal.SIGTERM)
        assert (stopped, master.killed, handled) == (["socket"], [signal.SIGTERM], [signal.SIGTERM])

    def test_needs_no_handler_of_gunicorn(self, stopped: list[Any]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        hooks.when_ready(Master())
        signal.raise_signal(signal.SIGTERM)
        assert stopped == ["socket"]

    @pytest.mark.parametrize("other", [{"reexec_pid": 7}, {"master_pid": 7}])
    def test_leaves_shared_sockets_open(
        self, master: MasterConfiguration, stopped: list[Any], other: dict[str, Any]
    ) -> None:
        handled: Signals = []
        signal.signal(signal.SIGTERM, lambda number, _: handled.append(number))
        hooks.when_ready(Master(**other))
        signal.raise_signal(signal.SIGTERM)
        assert (stopped, handled) == ([], [signal.SIGTERM])
        assert not master.end.is_announced

    def test_ends_a_worker_that_is_being_started(
        self, stopped: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        hooks.when_ready(Master())
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        assert stopped == []


class Loop:
    """A stand-in for a worker's event loop that records callbacks."""

    def __init__(self) -> None:
        self.soon: list[tuple[Callable[..., object], Any]] = []
        self.handlers: dict[int, tuple[Callable[..., object], Any]] = {}

    def call_soon(self, call: Callable[..., object], *args: Any) -> None:
        self.soon.append((call, args))

    def call_later(self, _: float, call: Callable[..., object], *args: Any) -> None:
        self.soon.append((call, args))

    def run_callbacks(self) -> None:
        callbacks, self.soon = self.soon, []
        for call, args in callbacks:
            call(*args)

    def add_signal_handler(self, number: int, call: Callable[..., object], *args: Any) -> None:
        self.handlers[number] = (call, args)


class Worker(SimpleNamespace):
    """A stand-in for a worker; it records the backlogs that it listens with."""

    def __init__(self) -> None:
        super().__init__(loop=Loop(), handle_quit="quit", booted=False)
        self.cfg = SimpleNamespace(backlog=7)
        self.backlogs: list[int] = []
        self.sockets = [SimpleNamespace(sock=SimpleNamespace(listen=self.backlogs.append))]


def test_worker_receives_sigterm_only_when_its_loop_runs() -> None:
    handled: Signals = []
    signal.signal(signal.SIGTERM, lambda number, _: handled.append(number))
    hooks.post_fork(None, None)
    signal.raise_signal(signal.SIGTERM)
    assert handled == []

    worker = Worker()
    hooks.post_worker_init(worker)
    assert worker.loop.handlers[signal.SIGTERM][0] == "quit"
    worker.loop.run_callbacks()
    assert handled == [signal.SIGTERM]


def test_backlog_is_set_when_the_worker_listens() -> None:
    worker = Worker()
    hooks.post_worker_init(worker)
    worker.loop.run_callbacks()
    assert worker.backlogs == []
    worker.booted = True
    worker.loop.run_callbacks()
    assert worker.backlogs == [7]


def test_application_of_a_worker_gets_its_sockets(master: MasterConfiguration) -> None:
    worker = Worker()
    hooks.post_worker_init(worker)
    assert master.listeners == tuple(each.sock for each in worker.sockets)

"""The directory in which several processes share their metrics."""

import errno
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.observability import multiprocess


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the variable of the process."""
    monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, "placeholder")
    monkeypatch.delenv(multiprocess.METRICS_DIRECTORY)


def test_directory_is_created_and_deleted() -> None:
    multiprocess.prepare_metrics_directory(enabled=True)
    folder = Path(os.environ[multiprocess.METRICS_DIRECTORY])
    assert folder.is_dir()
    assert folder.parent in {Path("/dev/shm"), Path(tempfile.gettempdir())}
    multiprocess.on_exit(None)
    assert not folder.exists()


def test_directories_of_killed_masters_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocess, "_IN_MEMORY", tmp_path)
    new, old = tmp_path / "vapi-sessions-metrics-new", tmp_path / "vapi-sessions-metrics-old"
    for folder in (new, old):
        folder.mkdir()
    multiprocess.prepare_metrics_directory(enabled=True)
    used = Path(os.environ.pop(multiprocess.METRICS_DIRECTORY))
    for folder in (old, used):
        os.utime(folder, (0, 0))
    multiprocess.prepare_metrics_directory(enabled=True)
    assert (new.exists(), old.exists(), used.exists()) == (True, False, True)


def test_directory_without_room_is_left_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(tmp_path))
    assert multiprocess.take_room()
    assert {path.stat().st_size for path in tmp_path.iterdir()} == {65536}
    monkeypatch.setattr(os, "posix_fallocate", fail)
    assert not multiprocess.take_room()
    assert list(tmp_path.iterdir()) == []
    assert "has no room: this process has no metrics" in caplog.text


def test_directory_survives_a_reload() -> None:
    multiprocess.prepare_metrics_directory(enabled=True)
    folder = os.environ[multiprocess.METRICS_DIRECTORY]
    multiprocess.prepare_metrics_directory(enabled=True)
    assert os.environ[multiprocess.METRICS_DIRECTORY] == folder
    multiprocess.on_exit(None)


def test_directory_of_the_operator_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "deep" / "down"
    monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(folder))
    multiprocess.prepare_metrics_directory(enabled=True)
    assert folder.is_dir()
    multiprocess.on_exit(None)
    assert folder.is_dir()


def test_directory_is_not_used_without_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(tmp_path / "none"))
    multiprocess.prepare_metrics_directory(enabled=False)
    assert multiprocess.METRICS_DIRECTORY not in os.environ
    multiprocess.delete_earlier_metrics()
    multiprocess.child_exit(None, SimpleNamespace(pid=1))
    multiprocess.on_exit(None)


def test_directory_is_emptied_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(tmp_path))
    old = tmp_path / "counter_1.db"
    old.touch()
    multiprocess.delete_earlier_metrics()
    assert not old.exists()


def test_directory_is_not_emptied_by_a_second_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(tmp_path))
    monkeypatch.setenv("GUNICORN_PID", "1")
    old = tmp_path / "counter_1.db"
    old.touch()
    multiprocess.delete_earlier_metrics()
    assert old.exists()


@pytest.mark.parametrize(
    ("folder", "left"),
    [
        ("/tmp/vapi-sessions-metrics-1", {}),
        ("/of/the/operator", {multiprocess.METRICS_DIRECTORY: ...}),
    ],
)
def test_directory_of_a_first_master_is_not_inherited(folder: str, left: dict[str, object]) -> None:
    environment = {multiprocess.METRICS_DIRECTORY: folder}
    multiprocess.pre_exec(SimpleNamespace(cfg=SimpleNamespace(env_orig=environment)))
    assert environment.keys() == left.keys()


def test_directory_loses_the_gauges_of_a_process_that_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(multiprocess.METRICS_DIRECTORY, str(tmp_path))
    for name in ("counter_7.db", "gauge_livemax_7.db", "gauge_livemax_8.db"):
        (tmp_path / name).touch()
    multiprocess.child_exit(None, SimpleNamespace(pid=7))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"counter_7.db", "gauge_livemax_8.db"}

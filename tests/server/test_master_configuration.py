"""The configuration of gunicorn's master: it is loaded once, and reloaded only when it is valid."""

import pytest

from server.master_configuration import MasterConfiguration
from tests.server.config.test_proof_key import PROOF


@pytest.fixture
def master(configured: pytest.MonkeyPatch) -> MasterConfiguration:
    """Return the configuration of a master that has started with valid variables."""
    configuration = MasterConfiguration()
    configuration.get()
    return configuration


def test_reload_replaces_a_valid_configuration(
    master: MasterConfiguration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_BODY_BYTES", "7")
    assert master.get().settings.max_body_bytes == 16384
    assert master.reload()
    assert master.get().settings.max_body_bytes == 7


def test_reload_keeps_the_last_valid_configuration(
    master: MasterConfiguration, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MAX_BODY_BYTES", "many")
    assert not master.reload()
    assert master.get().settings.max_body_bytes == 16384
    [record] = caplog.records
    assert "MAX_BODY_BYTES: must be a whole number" in record.getMessage()


def test_several_processes_need_redis_for_what_they_share(
    master: MasterConfiguration,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    master.prepare_for(2)
    for name, value in {**PROOF, "CALL_MONITOR": "report"}.items():
        monkeypatch.setenv(name, value)
    assert not master.reload()
    assert "CALL_MONITOR: needs REDIS_URL" in caplog.text
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1")
    assert master.reload()
    monkeypatch.setenv("JWT_DPOP", "require")
    monkeypatch.setenv("PUBLIC_URL", "https://sessions.test")
    monkeypatch.delenv("REDIS_URL")
    alone = MasterConfiguration()
    alone.prepare_for(1)
    with pytest.raises(SystemExit) as ended:
        alone.prepare_for(2)
    assert ended.value.code == 78
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()[1:3]] == [
        "JWT_DPOP",
        "CALL_MONITOR",
    ]

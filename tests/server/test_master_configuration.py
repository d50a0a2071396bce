"""The configuration of gunicorn's master: it is loaded once, and reloaded only when it is valid."""

from pathlib import Path

import pytest

from rig.service import ASSISTANT_ID, NO_FILE, SECRET, VARIABLES, make_settings
from server.config import load_settings
from server.config.loader import Configuration, load_configuration
from server.master_configuration import (
    MasterConfiguration,
    find_changed,
    find_refusals,
    find_weakened,
)
from tests.egress import Authority
from tests.pems import PROOF


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


# --- the rules of a reload ------------------------------------------------------------

HASH_KEY = "an-audit-hash-key-of-the-tests-32"


def load(folder: Path, content: str, **environ: str) -> Configuration:
    path = folder / ".env"
    path.write_text(content)
    return load_configuration({**VARIABLES, **environ}, path)


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        ("JWT_ISSUER=us\n", "JWT_ISSUER=us\n", []),
        ("JWT_ISSUER=us\n", "JWT_ISSUER=\n", []),
        ("JWT_ISSUER=us\n", "JWT_ISSUER=us\nJWT_AUDIENCE=voice\n", []),
        ("JWT_ISSUER=us", "JWT_ISSUER=us\n", []),
        ("", "", []),
        (
            "JWT_ISSUER=us\n",
            "JWT_ISSUER=u",
            [".env: does not end with a line break; it may have been cut off"],
        ),
        (
            "JWT_ISSUER=us\nJWT_AUDIENCE=\nOTHER=1\n",
            "",
            [
                "JWT_AUDIENCE: is missing in .env; write JWT_AUDIENCE= to drop it",
                "JWT_ISSUER: is missing in .env; write JWT_ISSUER= to drop it",
                "OTHER: is missing in .env; write OTHER= to drop it",
            ],
        ),
    ],
)
def test_a_file_that_was_cut_off_is_refused(
    tmp_path: Path, before: str, after: str, reasons: list[str]
) -> None:
    last = load(tmp_path, before)
    assert list(find_refusals(last, load(tmp_path, after))) == reasons


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    last = load(tmp_path, "JWT_ISSUER=us\n")
    new = load_configuration(VARIABLES, tmp_path / "gone")
    assert [each.split(":")[0] for each in find_refusals(last, new)] == ["JWT_ISSUER"]


@pytest.mark.parametrize(
    ("before", "after", "previous", "refused"),
    [
        ("", "", "", 0),
        ("", HASH_KEY, "", 0),
        (HASH_KEY, HASH_KEY, "", 0),
        (HASH_KEY, HASH_KEY[::-1], HASH_KEY, 0),
        (HASH_KEY, HASH_KEY[::-1], "", 1),
        (HASH_KEY, "", "", 1),
    ],
)
def test_the_hash_key_changes_only_beside_the_previous_one(
    tmp_path: Path, before: str, after: str, previous: str, refused: int
) -> None:
    last = load(tmp_path, "", AUDIT_HASH_KEY=before)
    new = load(tmp_path, "", AUDIT_HASH_KEY=after, AUDIT_HASH_KEY_PREVIOUS=previous)
    reasons = list(find_refusals(last, new))
    assert [each.split(":")[0] for each in reasons] == ["AUDIT_HASH_KEY"] * refused
    assert HASH_KEY not in str(reasons)


@pytest.mark.parametrize(
    ("name", "strong", "weak"),
    [
        ("RATE_LIMIT", "1/day", "off"),
        ("JWT_ROLE_CLAIM", "type", "off"),
        ("VAPI_CREDENTIAL", "session_token", "public_key"),
        ("SESSIONS_PAUSED", "true", "false"),
        ("JWT_MAX_LIFETIME_SECONDS", "60", "0"),
        ("CALL_MONITOR", "enforce", "report"),
        ("CALL_MONITOR", "report", "off"),
        ("REDIS_URL", "redis://127.0.0.1", ""),
        ("JWT_ISSUER", "us", ""),
        ("JWT_AUDIENCE", "voice", ""),
        ("JWT_REQUIRED_SCOPE", "start", ""),
        ("JWT_REQUIRED_CLAIMS", "azp=app", ""),
        ("JWT_REQUIRED_TYPE", "at+jwt", ""),
        ("JWT_CONSENT_CLAIM", "consents", ""),
        ("CONSENT_REQUIRED", "voice@1", ""),
        ("VAPI_ASSISTANT_CLAIM", "assistants", ""),
        ("CALL_LIMITS", "active:1", ""),
        ("JWT_DPOP", "require", "accept"),
        ("JWT_DPOP", "accept", "off"),
        ("VAPI_ALLOWED_ORIGINS", "https://app.test", ""),
        ("PROOF_KEY", PROOF["PROOF_KEY"], ""),
    ],
)
def test_a_weaker_value_is_found(name: str, strong: str, weak: str) -> None:
    others = {
        **PROOF,
        "VAPI_ORG_ID": "org",
        "VAPI_ASSISTANTS": f"nurse:{ASSISTANT_ID}",
        "PUBLIC_URL": "https://sessions.test",
        "CALL_MONITOR": "report" if name == "CALL_LIMITS" else "off",
    }
    stronger = make_settings(**{**others, name: strong})
    weaker = make_settings(**{**others, name: weak})
    assert find_changed(stronger, weaker) == [name]
    assert find_weakened(stronger, weaker) == [name]
    assert find_weakened(weaker, stronger) == []
    assert find_weakened(weaker, weaker) == []


def test_other_changes_are_not_weaker() -> None:
    last = make_settings(PORT="1", RATE_LIMIT="1/day", JWT_ISSUER="us")
    new = make_settings(PORT="2", RATE_LIMIT="2/day", JWT_ISSUER="other", JWT_SECRET=SECRET[::-1])
    assert find_changed(last, new) == ["JWT_SECRET", "JWT_ISSUER", "PORT", "RATE_LIMIT"]
    assert find_weakened(last, new) == []


def test_dropping_a_name_in_lower_case_on_purpose_is_no_refusal(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("https_proxy=p:1\n")
    last = load_configuration(VARIABLES, path)
    path.write_text("https_proxy=\n")
    new = load_configuration(VARIABLES, path)
    assert list(find_refusals(last, new)) == []
    assert find_changed(last.settings, new.settings) == ["HTTPS_PROXY"]
    path.write_text("")
    assert list(find_refusals(last, load_configuration(VARIABLES, path))) == [
        "https_proxy: is missing in .env; write https_proxy= to drop it"
    ]


def test_another_bundle_in_the_same_file_is_a_change(tmp_path: Path) -> None:
    path = Authority(tmp_path).bundle
    variables = {**VARIABLES, "SSL_CERT_FILE": str(path)}
    last = load_settings(variables, NO_FILE)
    assert "# Soci" in last.ssl_cert_file
    path.write_bytes(Authority(tmp_path).bundle.read_bytes())
    assert find_changed(last, load_settings(variables, NO_FILE)) == ["SSL_CERT_FILE"]

"""Development mode as a whole, on real sockets."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jwt
import pytest

from middlewares.errors import ErrorCode
from rig.service import Service
from sandbox import __main__ as entry
from sandbox import settings as sandbox_settings
from sandbox.banner import banner
from sandbox.playground import STATIC
from sandbox.serving import bind, bind_if_free, origin
from sandbox.settings import development_settings, is_configured
from sandbox.tokens import Kind, patient_token
from server.config.loader import SettingsError
from tests.sandbox.support import SECRET, Sandbox


async def test_production_has_no_playground(service: Service) -> None:
    for path in ("/playground", "/playground/config.json"):
        answer = await service.ask("GET", path)
        assert (answer.status, answer.code) == (404, "NOT_FOUND")


async def test_banner_names_the_stand_in(sandbox: Sandbox) -> None:
    assert f"Vapi's stand-in  {sandbox.config['vapiUrl']}\n" in banner(sandbox.settings, SECRET)
    assert "iOS, Android     port 3001 is taken" in banner(sandbox.settings, SECRET)
    with bind() as mobile:
        assert "iOS, Android     the stand-in too" in banner(
            sandbox.settings, SECRET, mobile=mobile
        )


async def test_stand_in_has_a_second_port_for_mobile_sdks(sandbox: Sandbox) -> None:
    mobile = sandbox.companions.mobile
    assert mobile is not None
    headers = {"Authorization": f"Bearer {sandbox.settings.vapi_public_api_key}"}
    body = {"assistantId": sandbox.settings.vapi_assistant_id, "metadata": {}}
    rooms = []
    for listener in sandbox.companions.all_vapi:
        url = f"{origin(listener)}/call/web"
        async with sandbox.client.post(url, json=body, headers=headers) as answer:
            assert answer.status == 201
            rooms.append((await answer.json())["webCallUrl"])
    assert rooms[0].startswith(sandbox.config["vapiUrl"])
    assert rooms[1].startswith(origin(mobile))


def test_mobile_port_in_use_is_skipped() -> None:
    with bind() as taken, bind_if_free(taken.getsockname()[1]) as mobile:
        assert mobile is None


def test_mobile_port_is_taken_when_free() -> None:
    with bind() as listener:
        port = listener.getsockname()[1]
    with bind_if_free(port) as mobile:
        assert mobile is not None
        assert mobile.getsockname() == ("127.0.0.1", port)


async def test_both_credential_types(sandbox: Sandbox) -> None:
    token = await sandbox.token("valid")
    for kind in ("public_key", "session_token"):
        status, answer = await sandbox.start(token, kind)
        assert (status, answer["data"]["credentialType"]) == (200, kind)


async def test_page_connects_only_to_loopback(sandbox: Sandbox) -> None:
    async with sandbox.client.get(f"{sandbox.url}/playground") as page:
        policy = page.headers["Content-Security-Policy"]
        text = await page.text()
    allowed = re.search(r"connect-src ([^;]+)", policy)
    assert allowed is not None
    assert all(
        source == "'self'" or source.startswith(("http://127.0.0.1:", "ws://127.0.0.1:"))
        for source in allowed[1].split()
    )
    assert "https://" not in text
    for path in re.findall(r'(?:src|href)="(/playground/[^"#]+)"', text):
        async with sandbox.client.get(sandbox.url + path) as file:
            assert file.status == 200, path


async def test_root_leads_to_the_playground(sandbox: Sandbox) -> None:
    async with sandbox.client.get(f"{sandbox.url}/", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "/playground")
    async with sandbox.client.get(f"{sandbox.url}/playground/") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
    async with sandbox.client.post(f"{sandbox.url}/") as answer:
        assert answer.status == 404


async def test_page_stays_with_the_name_that_it_was_reached_by(sandbox: Sandbox) -> None:
    url = f"http://localhost:{sandbox.settings.port}"
    async with sandbox.client.get(f"{url}/playground/config.json") as answer:
        config = await answer.json()
    addresses = [config["lab"], config["vapiUrl"], *config["endpoints"].values()]
    assert all(each.startswith("http://localhost:") for each in addresses)
    headers = {"Authorization": f"Bearer {await sandbox.token('valid')}", "Origin": url}
    for endpoint in config["endpoints"].values():
        async with sandbox.client.post(endpoint, headers=headers) as answer:
            assert answer.status == 200
    async with sandbox.client.post(
        f"{config['lab']}/credentials", json={}, headers=headers
    ) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == url


async def test_class_for_apps_is_served(sandbox: Sandbox) -> None:
    for name in ("vapi", "vapi-events", "vapi-room", "clients/session"):
        async with sandbox.client.get(f"{sandbox.url}/playground/{name}.js") as answer:
            assert (answer.status, answer.content_type.endswith("/javascript")) == (200, True)
    async with sandbox.client.get(f"{sandbox.url}/playground/bundle.js") as answer:
        assert answer.status == 404


ERRORS = {
    "expired": (401, "AUTH_TOKEN_EXPIRED"),
    "forged": (401, "AUTH_TOKEN_INVALID"),
    "nurse": (403, "FORBIDDEN"),
    "scopeless": (403, "INSUFFICIENT_SCOPE"),
    "revoked": (401, "AUTH_TOKEN_REVOKED"),
    "no_consent": (403, "CONSENT_REQUIRED"),
    "used_up": (429, "CALL_LIMIT_REACHED"),
    "crash": (500, "INTERNAL_ERROR"),
    "unavailable": (503, "AUTH_UNAVAILABLE"),
    "unrecorded": (503, "AUDIT_UNAVAILABLE"),
}


async def test_each_token_kind_gets_its_error(sandbox: Sandbox) -> None:
    found = {kind: await sandbox.start(await sandbox.token(kind)) for kind in ERRORS}
    assert {kind: (each[0], each[1]["error"]["code"]) for kind, each in found.items()} == ERRORS


async def test_stuck_request_is_504(sandbox: Sandbox) -> None:
    token = await sandbox.token("stuck")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await sandbox.start(token)


async def test_lab_stalls_a_request(sandbox: Sandbox) -> None:
    headers = {"Content-Type": "application/json"}  # no token: refused before the body is read
    body = {"url": sandbox.config["endpoints"]["public_key"], "headers": headers}
    status, answer = await sandbox.lab("stall", body)
    assert status == 200
    assert answer["status"] == 401
    assert ["content-type", "application/json; charset=utf-8"] in answer["headers"]
    assert "AUTH_TOKEN_MISSING" in answer["text"]


async def test_lab_switches_vapi_off_and_on(sandbox: Sandbox) -> None:
    token = await sandbox.token("valid")
    assert await sandbox.lab("vapi", {"status": 503}) == (200, {"up": False})
    status, answer = await sandbox.start(token)
    assert (status, answer["error"]["code"]) == (503, "VAPI_SESSION_FAILED")
    assert await sandbox.lab("vapi", {"status": 200}) == (200, {"up": True})
    assert (await sandbox.start(token))[0] == 200


async def test_lab_issues_an_expired_credential(sandbox: Sandbox) -> None:
    _, answer = await sandbox.lab("credentials", {})
    headers = {"Authorization": f"Bearer {answer['apiKey']}"}
    body = {"assistantId": sandbox.settings.vapi_assistant_id}
    url = f"{sandbox.config['vapiUrl']}/call/web"
    async with sandbox.client.post(url, json=body, headers=headers) as refused:
        assert refused.status == 401


async def test_lab_rejects_unknown_requests(sandbox: Sandbox) -> None:
    elsewhere = {"url": "http://127.0.0.1:1/", "headers": {}}
    for path, body in (
        ("tokens", {"kind": "other", "patient": "pt_1"}),
        ("tokens", {"kind": "valid", "patient": "not an id"}),
        ("stall", elsewhere),
    ):
        status, _ = await sandbox.lab(path, body)
        assert status == 400


@pytest.mark.parametrize(
    ("environ", "dotenv", "configured"),
    [
        ({}, False, False),
        ({"PORT": "9000", "LOG_LEVEL": "DEBUG", "HOME": "/home/somebody"}, False, False),
        ({"CORS_ALLOWED_ORIGINS": "http://localhost:3000"}, False, False),
        ({"JWT_SECRET": ""}, False, False),
        ({"JWT_SECRET": "x"}, False, True),
        ({}, True, True),
    ],
)
def test_any_configuration_disables_development_mode(
    tmp_path: Path, environ: dict[str, str], *, dotenv: bool, configured: bool
) -> None:
    file = tmp_path / ".env"
    if dotenv:
        file.touch()
    assert is_configured(environ, file) is configured


def test_default_port_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with bind() as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(sandbox_settings, "PORT", port)
        assert development_settings({}, "http://127.0.0.1:1").port not in {0, port}
        assert development_settings({"PORT": "0"}, "http://127.0.0.1:1").port not in {0, port}
    assert development_settings({}, "http://127.0.0.1:1").port == port


def test_cors_origins_are_honoured() -> None:
    environ = {"PORT": "1", "CORS_ALLOWED_ORIGINS": "http://localhost:3000"}
    settings = development_settings(environ, "http://127.0.0.1:1")
    assert settings.cors_allowed_origins == ("http://localhost:3000",)
    with pytest.raises(SettingsError, match="CORS_ALLOWED_ORIGINS"):
        development_settings({**environ, "CORS_ALLOWED_ORIGINS": "*"}, "http://127.0.0.1:1")


def test_tokens_name_the_assistants_of_a_patient() -> None:
    settings = development_settings({"PORT": "1"}, "http://127.0.0.1:1")
    for patient, assistants in (("pt_1003", ["english", "german"]), ("pt_new", ["english"])):
        claims = jwt.decode(patient_token(settings, patient), options={"verify_signature": False})
        assert claims["assistants"] == assistants
    without = replace(settings, vapi_assistant_claim="")
    claims = jwt.decode(patient_token(without, "pt_1003"), options={"verify_signature": False})
    assert "assistants" not in claims


def test_tokens_are_distinct() -> None:
    settings = development_settings({"PORT": "1"}, "http://127.0.0.1:1")
    assert patient_token(settings, "pt_1") != patient_token(settings, "pt_1", Kind.CRASH)


def test_configured_service_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(arguments: list[str]) -> int:
        asked.append(arguments)
        return 7

    monkeypatch.setenv("VAPI_API_KEY", "x")
    monkeypatch.setattr("server.cli.main.main", run)
    assert entry.main() == 7
    assert asked == [[]]


def test_invalid_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "none")
    assert entry.main() == 78
    assert "PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "warnings"),
    [
        ("", []),
        ("localhost", []),
        ("0.0.0.0", ["HOST is ignored: development mode serves on 127.0.0.1 only."]),
    ],
)
def test_unavailable_port_or_host(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    host: str,
    warnings: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOST", host)
    with bind() as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("PORT", str(port))
        assert entry.main() == 1
    *before, last = capsys.readouterr().err.splitlines()
    assert before == warnings
    assert last.startswith(f"Cannot serve on port {port}: Address already in use")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_printed_curl_line_works_in_a_shell(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environ = {**os.environ, "PYTHONPATH": str(root), "PORT": "0"}
    command = [sys.executable, "-m", "sandbox"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True
    ) as it:
        assert it.stdout is not None
        try:
            line = next(line for line in it.stdout if line.startswith("curl "))
            pasted = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
        finally:
            it.send_signal(signal.SIGTERM)
            it.stdout.read()
    assert pasted.stdout.startswith('{"success":true')
    assert pasted.stdout.endswith("}\n")
    assert it.returncode == 0


def test_catalogue_has_every_code() -> None:
    codes = re.findall(r'code: "([A-Z_]+)"', (STATIC / "catalogue.js").read_text("utf-8"))
    assert codes == ["OK", *ErrorCode]

"""No secret is disclosed: failures are triggered with marked values and all output is searched."""

import asyncio
from pathlib import Path
from traceback import format_exception

import pytest
from aiohttp import ClientSession, web
from aiohttp.typedefs import Handler

from rig.process import ALONE, started
from rig.service import NO_FILE, VARIABLES, Service, claims, make_settings, running, sign
from rig.vapi import vapi
from rig.wire import exchange, head
from sandbox.vapi.behaviour import Behaviour, Fault
from server.cli.main import main
from server.config import load_settings
from server.config.loader import SettingsError
from server.config.settings import VARIABLES as NAMES
from tests.table import TABLE

MARK = "M4RK"
SECRET = f"{MARK}-jwt-secret-that-is-long-enough-for-any-of-them-64-bytes-or-more"
SECRETS = {
    "VAPI_API_KEY": f"{MARK}-private-key-of-at-least-32-characters",
    "JWT_SECRET": SECRET,
    "AUDIT_HASH_KEY": f"{MARK}-audit-hash-key-of-at-least-32-bytes",
}


def marked(**more: object) -> str:
    """Sign a token with marked claims, except for the patient id."""
    own = {"name": f"{MARK}-name", "jti": f"{MARK}-jti", "sub": f"{MARK}-sub"}
    return sign(claims(**{**own, **more}), key=SECRET)


GRANTED = marked()
TOKENS = [
    GRANTED,
    marked(exp=1),
    marked(nbf=2**40),
    marked(type=f"{MARK}-role"),
    marked(scope=f"{MARK}-scope"),
    marked(id=f"{MARK} id"),
    marked(jti=[f"{MARK}-jti"]),
    marked(exp=f"{MARK}-exp"),
    sign(claims(), key=SECRET, crit=[f"{MARK}-crit"]),
    sign(claims(name=MARK), key=f"{MARK}-other" * 8),
    sign(claims(name=MARK), key=SECRET, algorithm="HS512"),
    sign(claims(), key=SECRET, kid=f"{MARK}-kid"),
    sign(f"[{MARK}".encode(), key=SECRET),
    f"{MARK}.{MARK}.{MARK}",
    MARK,
]
# The payload and the signature of each token; the header is not secret.
SECRET_PARTS = {part for token in TOKENS for part in token.split(".")[1:] if len(part) > 8} | {MARK}


BODIES = [
    b"{}",
    f'{{"{MARK}":'.encode(),
    f'["{MARK}"]'.encode(),
    f'{{"patientContext":"{MARK}"}}'.encode(),
    f'{{"patientContext":{{"id":"{MARK} id"}}}}'.encode(),
    f'{{"patientContext":{{"id":"{MARK}"}}}}'.encode(),
    b"[" * 20_000,
]


async def provoke(service: Service) -> list[str]:
    """Trigger every failure that requests can cause; return all responses."""
    answers = []
    sent_bodies = [
        *((token, b"{}", "application/json") for token in (None, *TOKENS)),
        *(
            (GRANTED, body, kind)
            for body in BODIES
            for kind in ("application/json", f"text/{MARK}")
        ),
    ]
    for token, body, media_type in sent_bodies:
        answer = await service.start(token, data=body, headers={"Content-Type": media_type})
        answers.append(f"{answer.response.raw_headers!r} {answer.body!r}")
    token = GRANTED
    for sent in (
        *(row.sent() for row in TABLE),
        head(f"Authorization: Basic {MARK}"),
        head(f"Authorization: Bearer {token}", "no colon"),
        head(path=f"/{MARK}?token={token}"),
        head(path=f"http://[{token}/"),
        head(method="GET", token=token),
        head(f"X-Request-ID: {MARK} {token}", token=token),
        head(f"Origin: https://{MARK}.test", f"Cookie: token={token}"),
        token.encode() + b"\r\n\r\n",
        head("Content-Length: 3", "Content-Type: application/json", token=token) + b"{",
        head("Transfer-Encoding: chunked", token=token) + MARK.encode() + b"\r\n",
    ):
        answer_ = await exchange(service, sent)
        answers.append(f"{answer_.headers!r} {answer_.body!r}")
    return answers


def secrets_in(text: str) -> list[str]:
    """Return marked values found in the text, with their context."""
    return [text[max(0, text.find(each) - 80) :][:200] for each in SECRET_PARTS if each in text]


SETTINGS: dict[str, dict[str, str]] = {
    "public key": {},
    "session token": {"VAPI_CREDENTIAL": "session_token"},
    "scope": {"JWT_REQUIRED_SCOPE": "voice"},
    "names": {"JWT_ISSUER": "us", "JWT_AUDIENCE": "us", "JWT_MAX_LIFETIME_SECONDS": "60"},
    "limit": {"RATE_LIMIT": "1/day"},
    "redis": {"REDIS_URL": f"redis://:{MARK}-password@127.0.0.1:1/0"},
}
SOON = {"SESSION_BUDGET_SECONDS": "0.1", "VAPI_TIMEOUT_SECONDS": "0.05", "RATE_LIMIT": "off"}


@pytest.mark.parametrize(
    ("variables", "status"),
    [*((each, 200) for each in SETTINGS.values()), ({}, 500), ({}, 401)],
    ids=[*SETTINGS, "Vapi fails", "Vapi rejects"],
)
async def test_responses_and_logs_contain_no_secret(
    variables: dict[str, str],
    status: int,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("DEBUG")
    async with vapi(Behaviour(Fault.STATUS, status=status)) as stand_in:
        settings = make_settings(
            **{**SOON, **SECRETS, **variables},
            VAPI_BASE_URL=stand_in.url,
            VAPI_CHECK_SECONDS="0.05",
        )
        async with running(settings) as service:
            answers = await provoke(service)
    out, err = capfd.readouterr()
    assert len(answers) > 150
    assert '"outcome":"denied"' in out
    for text in (*answers, out, err, caplog.text, repr(settings)):
        assert secrets_in(text) == []


async def test_stack_trace_contains_no_values(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    @web.middleware
    async def crash(request: web.Request, handler: Handler) -> web.StreamResponse:
        at_hand = request.headers["Authorization"]
        raise ZeroDivisionError(len(at_hand))

    @web.middleware
    async def stick(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.get_running_loop().create_future()
        return await handler(request)

    caplog.set_level("DEBUG")
    for link, status in ((crash, 500), (stick, 504)):
        settings = make_settings(**SECRETS, **SOON)
        async with running(settings, link) as service:
            answer = await service.start(GRANTED)
        assert answer.status == status
        assert secrets_in(f"{answer.response.raw_headers!r} {answer.body!r}") == []
    assert "ZeroDivisionError" in caplog.text
    out, err = capfd.readouterr()
    assert secrets_in(out + err + caplog.text) == []


async def test_error_outside_the_middlewares_discloses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @web.middleware
    async def forget(request: web.Request, handler: Handler) -> web.StreamResponse:
        return None  # type: ignore[return-value]  # a fault that the type checker would find

    async with running(make_settings(**SECRETS), forget) as service:
        answer = await service.start(GRANTED)
    assert (answer.status, answer.code) == (500, "INTERNAL_ERROR")
    assert "request failed" in caplog.text
    assert secrets_in(f"{answer.response.raw_headers!r} {answer.body!r} {caplog.text}") == []


# --- settings --------------------------------------------------------------------------------

BROKEN = {
    "a marked word": f"{MARK} value",
    "a marked control character": f"{MARK}\n\x1b[0m\udcff",
    "a marked number": f"{MARK}7",
    "a marked address": f"http://user:{MARK}@host/?{MARK}#{MARK}",
    "the private key": f"{MARK}",
    "a private PEM": f"-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----",
    "a public PEM": f"-----BEGIN PUBLIC KEY-----\n{MARK}\n-----END PUBLIC KEY-----",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_configuration_fault_does_not_repeat_the_value(kind: str) -> None:
    faults = {"JWT_SECRET": MARK, "VAPI_ASSISTANT_ID": ""}
    for name in NAMES:
        with pytest.raises(SettingsError) as caught:
            load_settings({**VARIABLES, **faults, name: BROKEN[kind]}, NO_FILE)
        assert MARK not in repr(caught.value), name
        assert MARK not in "".join(format_exception(caught.value)), name


@pytest.mark.parametrize("command", ["serve", "check", "token --patient pt_1"])
def test_commands_do_not_print_values(
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"JWT_SECRET={MARK}\nnonsense {MARK}\nPORT='{MARK}\n")
    for name in NAMES:
        monkeypatch.setenv(name, f"{MARK} x")
    with pytest.raises(SystemExit) as caught:
        main(command.split())
    assert caught.value.code == 78
    out, err = capfd.readouterr()
    assert MARK not in out + err
    assert "Traceback" not in err


async def test_process_output_contains_no_secret(tmp_path: Path) -> None:
    async with vapi(Behaviour(Fault.STATUS, status=500)) as stand_in:
        variables = {**VARIABLES, **SECRETS, **SOON, "LOG_LEVEL": "DEBUG"}
        variables |= {"VAPI_BASE_URL": stand_in.url, "VAPI_CHECK_SECONDS": "0.05"}
        async with started(ALONE, tmp_path, variables) as served, ClientSession() as client:
            answers = await provoke(Service(served.url, client, web.Application()))
            ended = await served.terminate()
    for text in (*answers, ended.out, ended.err):
        assert secrets_in(text) == []
    assert ended.status == 0
    assert "Traceback" not in ended.err

"""Wrong configurations that people write: each gets one clear message."""

import json
from pathlib import Path

import pytest

from rig.process import ONE_WORKER, ROOT, TWO_WORKERS, Ended, launch, started
from rig.service import ASSISTANT_ID, PRIVATE_KEY, PUBLIC_KEY, SECRET, VARIABLES
from tests import pems
from tests.conftest import Command

PEM = pems.public(pems.P256)
REQUIRED = f"""
VAPI_API_KEY={PRIVATE_KEY}
VAPI_PUBLIC_API_KEY={PUBLIC_KEY}
VAPI_ASSISTANT_ID={ASSISTANT_ID}
VAPI_CHECK_SECONDS=0
"""
AUTH0 = """JWT_JWKS_URL=https://clinic.eu.auth0.com/.well-known/jwks.json
JWT_ISSUER=https://clinic.eu.auth0.com/
JWT_AUDIENCE=https://voice.clinic.example
"""
HMAC = f"JWT_SECRET={SECRET}\n"
END = "config.example.env documents each variable."

NOTHING = dict.fromkeys(VARIABLES, "")

# A name, the content of `.env`, variables of the environment, and the one message.
FAULTS: list[tuple[str, str, dict[str, str], str]] = [
    (
        "a provider's block above the empty lines of an older example",
        REQUIRED + AUTH0 + "JWT_SECRET=\n\n# What aud must hold.\nJWT_AUDIENCE=\n",
        {},
        "JWT_AUDIENCE: is given more than once in .env, on lines 8 and 12; keep one",
    ),
    (
        "a PEM without quotes",
        f"{REQUIRED}JWT_PUBLIC_KEY={PEM}",
        {},
        "JWT_PUBLIC_KEY: PEM block 1 has no END line: put the PEM in double quotes or in a file",
    ),
    (
        "the private key in place of the public one",
        REQUIRED,
        {"JWT_PUBLIC_KEY": pems.private(pems.P256)},
        "JWT_PUBLIC_KEY: PEM block 1 is a private key: give its public key (openssl pkey -pubout)",
    ),
    (
        "a line break at the end of a secret",
        REQUIRED,
        {"JWT_SECRET": f"{SECRET}\n"},
        "JWT_SECRET: must not begin or end with white space",
    ),
    (
        "a secret as a variable and as a file",
        REQUIRED + HMAC,
        {"JWT_SECRET_FILE": "/run/secrets/jwt"},
        "JWT_SECRET_FILE: conflicts with JWT_SECRET: set only one of the two",
    ),
    (
        "a secret's file that is not mounted",
        REQUIRED,
        {"JWT_SECRET_FILE": "/nonexistent/jwt"},
        "JWT_SECRET_FILE: the file cannot be read (No such file or directory)",
    ),
    (
        "a secret beside a provider whose algorithm alone is named",
        REQUIRED + HMAC + AUTH0 + "JWT_ALGORITHMS=RS256",
        {},
        "JWT_ALGORITHMS: has none for JWT_SECRET, which needs HS256 or HS384 or HS512",
    ),
    (
        "a provider without its issuer",
        REQUIRED + AUTH0.replace("JWT_ISSUER", "#JWT_ISSUER"),
        {},
        "JWT_ISSUER: is required with JWT_JWKS_URL",
    ),
    (
        "the provider's algorithm with a secret",
        REQUIRED + HMAC + "JWT_ALGORITHMS=RS256",
        {},
        "JWT_ALGORITHMS: must be some of HS256, HS384, HS512 with JWT_SECRET",
    ),
    (
        "session tokens without the organization",
        REQUIRED + HMAC + "VAPI_CREDENTIAL=session_token",
        {},
        "VAPI_ORG_ID: is required with VAPI_CREDENTIAL=session_token",
    ),
    (
        "an unclosed quote",
        f'{REQUIRED}{HMAC}JWT_AUDIENCE="voice\n',
        {},
        "JWT_AUDIENCE: cannot be read on line 7 of .env; close the quote and end the line",
    ),
    (
        "a rate limit in words",
        REQUIRED + HMAC + "RATE_LIMIT=30 per minute",
        {},
        "RATE_LIMIT: must be N/second, N/minute, N/hour or N/day with N at least 1, or off",
    ),
    (
        "an origin with a slash",
        REQUIRED + HMAC + "CORS_ALLOWED_ORIGINS=https://app.clinic.example/",
        {},
        "CORS_ALLOWED_ORIGINS: must be origins like https://app.example.com, in lower case",
    ),
    (
        "an address of Redis without its scheme",
        REQUIRED + HMAC + "REDIS_URL=redis:6379",
        {},
        "REDIS_URL: must start with redis://, rediss:// or unix://",
    ),
    (
        "a flag in other words",
        REQUIRED + HMAC + "METRICS_ENABLED=yes",
        {},
        "METRICS_ENABLED: must be true or false",
    ),
    (
        "the public key as the secret",
        REQUIRED.replace(PUBLIC_KEY, SECRET) + HMAC,
        {},
        "VAPI_PUBLIC_API_KEY: must differ from JWT_SECRET, which never leaves the service",
    ),
    (
        "the rotated secret as the previous one",
        REQUIRED + HMAC + f"JWT_SECRET_PREVIOUS={SECRET}",
        {},
        "JWT_SECRET_PREVIOUS: must differ from JWT_SECRET: each secret has one purpose",
    ),
    (
        "a secret's file that is empty for a moment",
        REQUIRED,
        {"JWT_SECRET_FILE": "/dev/null"},
        "JWT_SECRET_FILE: the file is empty",
    ),
    (
        "a line without an equals sign",
        REQUIRED + HMAC + "RATE_LIMIT off\n",
        {},
        ".env: cannot be read on line 7 of .env; write NAME=value",
    ),
    (
        "the private key twice",
        REQUIRED.replace(PUBLIC_KEY, PRIVATE_KEY) + HMAC,
        {},
        "VAPI_PUBLIC_API_KEY: must differ from VAPI_API_KEY, which never leaves the service",
    ),
]


@pytest.mark.parametrize(
    ("dotenv", "variables", "message"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS]
)
async def test_a_mistake_gets_one_message(
    command: Command, tmp_path: Path, dotenv: str, variables: dict[str, str], message: str
) -> None:
    (tmp_path / ".env").write_text(dotenv)
    ended = await command(**{**NOTHING, **variables})
    assert ended == Ended(78, "", f"Invalid configuration:\n{message}\n{END}\n")


QUESTIONABLE: list[tuple[str, str, dict[str, str], str]] = [
    (
        "a misspelled name",
        REQUIRED + HMAC,
        {"JWT_AUDIANCE": "voice"},
        "JWT_AUDIANCE: unknown; did you mean JWT_AUDIENCE?",
    ),
    (
        "quotes of an environment file for Docker",
        REQUIRED.replace(ASSISTANT_ID, "$") + HMAC,
        {"VAPI_ASSISTANT_ID": ASSISTANT_ID, "JWT_ISSUER": '"us"'},
        "JWT_ISSUER: has quotation marks around it, which are part of the value",
    ),
    (
        "the name of the assistant",
        REQUIRED.replace(ASSISTANT_ID, "nurse") + HMAC,
        {},
        "VAPI_ASSISTANT_ID: is not a UUID; copy the id of the assistant from the dashboard",
    ),
    (
        "a PEM with escaped line breaks, which is none",
        REQUIRED + "JWT_PUBLIC_KEY=" + PEM.strip().replace("\n", "\\n"),
        {},
        "",
    ),
]


@pytest.mark.parametrize(
    ("dotenv", "variables", "message"),
    [row[1:] for row in QUESTIONABLE],
    ids=[row[0] for row in QUESTIONABLE],
)
async def test_a_questionable_value_gets_one_warning(
    command: Command, tmp_path: Path, dotenv: str, variables: dict[str, str], message: str
) -> None:
    (tmp_path / ".env").write_text(dotenv)
    ended = await command("check", "--json", **{**NOTHING, "PORT": "0", **variables})
    assert (ended.status, ended.err) == (0, "")
    assert json.loads(ended.out)["warnings"] == [message] * bool(message)


# --- under gunicorn --------------------------------------------------------------------------


async def test_gunicorn_logs_each_warning_once_for_all_workers(tmp_path: Path) -> None:
    misspelled = {"JWT_AUDIANCE": "voice", "VAPI_ASSISTANT_ID": "nurse"}
    async with started(TWO_WORKERS, tmp_path, {**VARIABLES, **misspelled}) as running:
        await running.log.find("Booting worker.*")
        running.process.terminate()
        assert await running.left() == 0
    records = [json.loads(line) for line in running.log.lines if line.startswith("{")]
    warnings = [each["message"] for each in records if each["level"] == "WARNING"]
    assert warnings == ["JWT_AUDIANCE: unknown; did you mean JWT_AUDIENCE?"]


async def test_gunicorn_ends_with_the_same_messages(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").symlink_to(ROOT / "gunicorn.conf.py")
    invalid = {"PORT": "x", "JWT_SECRET": "short", "JWT_AUDIANCE": "voice"}
    process = await launch(tmp_path, {**VARIABLES, **invalid}, *ONE_WORKER)
    out, err = await process.communicate()
    assert (process.returncode, out) == (78, b"")
    assert err.decode().splitlines() == [
        "Invalid configuration:",
        "JWT_SECRET: must be at least 32 bytes for HS256; try openssl rand -base64 48",
        "PORT: must be a whole number",
        "JWT_AUDIANCE: unknown; did you mean JWT_AUDIENCE?",
        END,
    ]

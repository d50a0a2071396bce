"""docs/operations.md, word by word: from nothing to one clinic, and from one clinic to two."""

import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rig.issuer import Issuer, issuing, key
from rig.machine import Machine
from rig.process import ROOT
from rig.redis_server import RedisServer, free_port
from rig.service import claims
from rig.vapi import StandIn, vapi
from sandbox.vapi.app import create_vapi

PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
HOSTS = ("voice.clinic.example", "north.clinic.example")
FORGED_ADDRESS = "-H 'X-Forwarded-For: 203.0.113.9'"
PROGRAMS = ("nginx", "openssl", "curl", "git")


def section(heading: str) -> str:
    """Return the text below a heading, up to the next one of its level."""
    level = heading.partition(" ")[0]
    return PAGE.partition(f"\n{heading}\n")[2].partition(f"\n{level} ")[0]


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the code blocks with their languages, in their order."""
    return re.findall(r"^```(sh|env)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@dataclass
class Clinic:
    """A clinic: its folder of settings, its identity provider, its account at Vapi."""

    folder: str
    issuer: Issuer
    vapi: StandIn
    private_key: str
    settings: dict[str, str]

    def token(self, patient: str = "pt_1") -> str:
        """Sign a token of a patient, as the settings of the document demand."""
        payload = claims(
            id=...,
            type=...,
            sub=patient,
            jti=f"token-{patient}",
            iss=self.settings["JWT_ISSUER"],
            aud=self.settings["JWT_AUDIENCE"],
            **{self.settings["JWT_ROLE_CLAIM"]: ["patient"]},
        )
        return self.issuer.keys[0].token(payload)


@asynccontextmanager
async def clinic(text: str, folder: str) -> AsyncIterator[Clinic]:
    """Run the upstreams that the settings of a section name."""
    (block,) = [code for language, code in blocks(text) if language == "env"]
    settings = dict(line.split("=", 1) for line in block.splitlines())
    private = f"private-key-of-{settings['VAPI_ORG_ID']}"
    account = create_vapi(
        private_key=private,
        public_key="public",
        org_id=settings["VAPI_ORG_ID"],
        assistant_id=settings["VAPI_ASSISTANT_ID"],
    )
    async with issuing(key(algorithm="RS256")) as issuer, vapi(app=account) as stand_in:
        yield Clinic(folder, issuer, stand_in, private, settings)


def configure(machine: Machine, clinic: Clinic, block: str) -> None:
    """Write the key and the settings as the document says, with the addresses of this machine."""
    folder = machine.root / "etc/vapi-sessions" / clinic.folder
    (folder / "secrets/VAPI_API_KEY").write_text(clinic.private_key)
    local = re.sub("JWT_JWKS_URL=.*", f"JWT_JWKS_URL={clinic.issuer.url}", machine.local(block))
    (folder / ".env").write_text(f"{local}VAPI_BASE_URL={clinic.vapi.url}\n")


async def follow(machine: Machine, clinic: Clinic, text: str) -> list[str]:
    """Run the code blocks of a text; return their outputs."""
    machine.environ["TOKEN"] = clinic.token()
    outputs = []
    for language, code in blocks(text):
        if language == "env":
            configure(machine, clinic, code)
        else:
            outputs.append(await machine.sh(code, stdin=clinic.token()))
    return outputs


async def start(machine: Machine, address: str, token: str) -> Any:
    """Start a session over TLS; return the answer."""
    return json.loads(
        await machine.sh(
            f"curl -sS -X POST {address} -H 'Authorization: Bearer {token}' {FORGED_ADDRESS}"
        )
    )


needs_programs = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)), reason=f"needs {', '.join(PROGRAMS)}"
)


def content(folder: Path) -> dict[Path, bytes]:
    """Return the files of a folder, without what Python caches."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return {file: file.read_bytes() for file in files if ".git" not in file.parts}


@pytest.mark.redis
@pytest.mark.timeout(180)
@needs_programs
async def test_operations_page_leads_from_nothing_to_two_clinics(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    ports = {"8080": free_port(), "8081": free_port(), "443": free_port()}
    machine = Machine(tmp_path, HOSTS, {**ports, "6379": redis_server.port})
    machine.publish("2.0.0")
    one, two = section("## From zero to production"), section("## From one clinic to two")
    async with AsyncExitStack() as stack:
        stack.callback(machine.stop)
        first = await stack.enter_async_context(clinic(one, "."))
        north = await stack.enter_async_context(clinic(two, "north"))

        outputs = await follow(machine, first, one)
        line = json.loads(outputs[-1].splitlines()[-1])
        assert (line["outcome"], line["patient"]) == ("granted", "pt_1")

        outputs = await follow(machine, north, two)
        by_host, by_path = map(json.loads, outputs[-1].splitlines())
        for answer in (by_host, by_path):
            assert answer["success"], answer
            assert answer["data"]["assistantId"] == north.settings["VAPI_ASSISTANT_ID"]

        path = "/api/v1/sessions/vapi/start"
        here, there = f"https://{HOSTS[0]}{path}", f"https://{HOSTS[1]}{path}"
        prefixed = f"https://{HOSTS[0]}/north{path}"
        for address, clinic_ in ((here, north), (there, first), (prefixed, first)):
            answer = await start(machine, address, clinic_.token())
            assert answer["error"]["code"] == "AUTH_TOKEN_INVALID"

        folder = tmp_path / "etc/vapi-sessions/north"
        program = "/opt/vapi-sessions/.venv/bin/python -m server"
        await machine.sh(f"cd {folder} && {program} revoke --patient pt_1")
        answer = await start(machine, there, north.token())
        assert answer["error"]["code"] == "AUTH_TOKEN_REVOKED"
        assert (await start(machine, here, first.token()))["success"]  # a database of its own
        line = json.loads(await machine.sh("journalctl -u vapi-sessions -n 1 -o cat"))
        assert (line["outcome"], line["client"]) == ("granted", "127.0.0.1")


@pytest.mark.redis
@pytest.mark.timeout(180)
@needs_programs
async def test_upgrade_and_rollback_leave_the_running_version_alone(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    ports = {"8080": free_port(), "443": free_port(), "6379": redis_server.port}
    machine = Machine(tmp_path, HOSTS, ports)
    machine.publish("2.0.0")
    machine.publish("2.1.0")
    one = section("## From zero to production").partition("### 5.")[0]
    install_and_check, switch, back = (
        code for _, code in blocks(section("## Upgrade and rollback"))
    )

    def runs(version: str) -> bool:
        log = (tmp_path / "vapi-sessions.journal").read_text()
        versions: list[str] = re.findall(r'"message": "version ([\d.]+)"', log)
        return versions[-1] == version

    async with clinic(section("## From zero to production"), ".") as first:
        try:
            await follow(machine, first, one)
            assert runs("2.0.0")
            pid, old = machine.pid("vapi-sessions"), tmp_path / "opt/vapi-sessions-2.0.0"
            before = content(old)

            await machine.sh(install_and_check)
            assert machine.pid("vapi-sessions") == pid
            assert runs("2.0.0")

            await machine.sh(switch)
            assert runs("2.1.0")
            await machine.sh(back)
            assert runs("2.0.0")
            assert content(old) == before
        finally:
            machine.stop()

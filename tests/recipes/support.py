"""Lays the recipes of docs/clients out as files, and runs them against the service."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import ClientSession, web
from verify_patient import verify_patient

from rig.service import (
    PATH,
    make_settings,
    running,
)
from rig.vapi import make_vapi
from sandbox.playground import SDK
from sandbox.serving import bind, origin, serving
from sandbox.vapi.calls import Call, CallStore
from tests import npm
from tests.pems import PROOF

HERE = Path(__file__).parent
CLIENTS = HERE.parents[1] / "docs" / "clients"
MODULES = HERE / "node_modules"
SHARED = ("session.js", "voice-call.js")
PAGES = ("web", "react-native")


def install_packages() -> None:
    """Install the packages from the lock file, unless that was done since it changed."""
    npm.update(HERE, MODULES / ".package-lock.json")


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page of docs/clients in one language."""
    text = (CLIENTS / f"{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def lay_out(folder: Path, *, module: bool = True) -> None:
    """Write the JavaScript recipes into a folder, with the drivers and the packages beside them.

    `module` makes its files ES modules for Node.js, as an app's `package.json` may or may not.
    """
    for name in SHARED:
        shutil.copy(CLIENTS / name, folder)
    for page in PAGES:
        (code,) = blocks(page, "js")
        (folder / f"{page}.js").write_text(code)
    for file in SDK.glob("vapi*.js"):
        shutil.copy(file, folder)
    shutil.copytree(HERE / "drivers", folder / "drivers")
    (folder / "package.json").write_text(json.dumps({"type": "module"} if module else {}))
    (folder / "node_modules").symlink_to(MODULES)


def bundle(folder: Path, driver: str, *options: str) -> Path:
    """Bundle a driver with esbuild, as an app's build does; give the bundle's path."""
    output = folder / f"{driver}.bundle.cjs"
    esbuild = str(MODULES / ".bin" / "esbuild")
    entry = f"drivers/{driver}.js"
    command = (esbuild, entry, "--bundle", f"--outfile={output}", "--log-level=warning", *options)
    subprocess.run(command, cwd=folder, check=True)
    return output


async def run_node(script: Path, options: object, *flags: str) -> Any:
    """Run a script in Node.js with options; give the report that it prints."""
    command = ("node", *flags, str(script), json.dumps(options))
    node = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await node.communicate()
    assert node.returncode == 0
    return json.loads(output)


@dataclass(frozen=True, slots=True)
class Backend:
    """The service at `origin`, and the stand-in for Vapi that it is configured for."""

    origin: str
    vapi: web.Application
    vapi_url: str
    calls: CallStore

    @property
    def url(self) -> str:
        """The service's endpoint."""
        return self.origin + PATH

    def options(self, *tokens: str, **more: Any) -> dict[str, Any]:
        """Return a driver's options; `tokens` are what getToken and refreshToken give."""
        return {"url": self.url, "vapiUrl": self.vapi_url, "tokens": tokens, **more}


@asynccontextmanager
async def backend(**variables: str) -> AsyncIterator[Backend]:
    """Start the service and the stand-in."""
    calls = CallStore()
    vapi = make_vapi(calls)
    with bind() as port:
        variables = {"VAPI_BASE_URL": origin(port), "VAPI_CHECK_SECONDS": "1", **variables}
        async with serving(vapi, port), running(make_settings(**variables)) as service:
            yield Backend(service.url, vapi, origin(port), calls)


async def verified_patient(service: Backend, call: Call) -> str:
    """Return the patient that a tool verifies in a call, with the service's published keys."""
    url = f"{service.origin}/.well-known/jwks.json"
    async with ClientSession() as client, client.get(url) as answer:
        jwks = await answer.json()
    proof = call.assistant_overrides["variableValues"]["patientProof"]
    issuer, audience = PROOF["PROOF_ISSUER"], PROOF["PROOF_AUDIENCE"]
    webhook_call = msgspec.to_builtins(call)
    return verify_patient(proof, webhook_call, jwks=jwks, issuer=issuer, audience=audience)

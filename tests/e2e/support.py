"""What the browser tests stand on: the bundle, processes, the browser."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import ClientError, ClientSession, web
from playwright.async_api import Browser, Page, async_playwright

from sandbox.development import ENDPOINT
from sandbox.lab import Lab, create_lab
from sandbox.playground import PATH, STATIC, Addresses, create_playground
from sandbox.sabotage import Saboteur
from sandbox.serving import bind, origin, serving
from sandbox.vapi import CALLS, WebCall, create_vapi
from server.settings import Settings
from tests.support import ASSISTANT_ID, ORG_ID, PRIVATE_KEY, PUBLIC_KEY, VARIABLES, make_settings

ROOT = Path(__file__).parents[2]
SDK = ROOT / "sandbox" / "sdk"
BUNDLE = STATIC / "vapi-sdk.js"
AXE = SDK / "node_modules" / "axe-core" / "axe.min.js"
DESKTOP = (1360, 1000)
PHONE = (390, 844)
# Without a sandbox of its own, as root needs, and without calls home, as a closed network needs.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def build_sdk() -> None:
    """Install from the lock file and bundle the SDK, unless that was done since it changed."""
    lock = SDK / "package-lock.json"
    if BUNDLE.exists() and AXE.exists() and BUNDLE.stat().st_mtime > lock.stat().st_mtime:
        return
    for command in (["ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["run", "build"]):
        subprocess.run(["npm", *command], cwd=SDK, check=True)


def chromium() -> str:
    """Find the browser. Raises RuntimeError with what to do when there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        raise RuntimeError("No Chromium: on Debian, apt-get install chromium; or set CHROMIUM")
    return found


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Start the browser, without a window."""
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=chromium(), args=_FLAGS)
        yield launched
        await launched.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Clinic:
    """A service, a stand-in for Vapi and a page, each on an origin of its own."""

    environ: Mapping[str, str]
    vapi: web.Application
    page: str
    service: str

    @property
    def calls(self) -> list[WebCall]:
        """The web calls that the stand-in accepted."""
        return self.vapi[CALLS]


@asynccontextmanager
async def clinic(**variables: str) -> AsyncIterator[Clinic]:
    """Start everything; the service is a process of its own, configured as by an operator."""
    vapi = create_vapi(
        private_key=PRIVATE_KEY, public_key=PUBLIC_KEY, org_id=ORG_ID, assistant_id=ASSISTANT_ID
    )
    with bind() as vapi_port, bind() as lab_port, bind() as page_port, free_port() as port:
        page = origin(page_port)
        environ = {
            **VARIABLES,
            "PORT": str(port),
            "VAPI_BASE_URL": origin(vapi_port),
            "VAPI_CHECK_SECONDS": "1",
            "VAPI_ALLOWED_ORIGINS": page,
            "CORS_ALLOWED_ORIGINS": page,
            **variables,
        }
        service = f"http://127.0.0.1:{port}"
        settings = make_settings(**environ)
        addresses = Addresses(
            endpoints={settings.vapi_credential: service + ENDPOINT},
            lab=origin(lab_port),
            vapi=origin(vapi_port),
        )
        async with (
            serving(vapi, vapi_port),
            serving(_lab(settings, vapi, page), lab_port),
            serving(_page(addresses, settings), page_port),
            process(environ, service),
        ):
            yield Clinic(environ=environ, vapi=vapi, page=page + PATH, service=service)


def _lab(settings: Settings, vapi: web.Application, page: str) -> web.Application:
    lab = Lab(settings=settings, vapi=vapi, saboteur=Saboteur(), endpoints=())
    return create_lab(lab, page_origin=page)


def _page(addresses: Addresses, settings: Settings) -> web.Application:
    app = web.Application()
    app.add_subapp(PATH, create_playground(addresses, settings))
    return app


@contextmanager
def free_port() -> Iterator[int]:
    """Give a port that nobody has."""
    with bind() as listener:
        port: int = listener.getsockname()[1]
    yield port


@asynccontextmanager
async def process(environ: Mapping[str, str], url: str) -> AsyncIterator[None]:
    """Run `python -m server`, from when it is ready until it has left of its own accord."""
    command = (sys.executable, "-m", "server")
    environ = {**os.environ, **environ}
    running = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environ)
    try:
        async with ClientSession() as client:
            await until(partial(_is_ready, client, url))
        yield
    finally:
        running.terminate()
        assert await running.wait() == 0


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until something holds; the test's time limit stands over it."""
    while not await holds():  # noqa: ASYNC110  it is another process
        await asyncio.sleep(0.05)


async def _is_ready(client: ClientSession, url: str) -> bool:
    try:
        async with client.get(f"{url}/readyz") as response:
            return response.status == 200
    except ClientError:
        return False


async def open_page(
    launched: Browser, url: str, *, size: tuple[int, int] = DESKTOP, scheme: str = "light"
) -> Page:
    """Open the playground, ready to be used."""
    context = await launched.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_selector("body[data-ready]")
    return page

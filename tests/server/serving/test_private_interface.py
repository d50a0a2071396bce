"""What the service uses of aiohttp's private interface still exists."""

import ast
import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from server.serving import connection

USED = {
    "_buffer_paused": "True while reading is paused until a request is answered",
    "_keepalive_handle": "the timer that closes an idle connection",
    "_loop": "the event loop",
    "_message_tail": "the bytes that follow a request to upgrade the protocol",
    "_messages": "the parsed requests that are not yet handled, each with its body",
    "_msg_queue_resume_size": "the number of parsed requests at which reading resumes",
    "_pause_reading_for_buffer": "pauses reading until a request is answered",
    "_reading_paused": "True while reading is paused until a body is read",
    "_task_handler": "the task that handles the requests, which the end of the connection cancels",
    "_request_count": "the number of parsed requests, malformed ones included",
}


@pytest.fixture
async def handler() -> RequestHandler:
    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    return RequestHandler(web.Server(handle), loop=asyncio.get_running_loop())


@pytest.mark.parametrize("name", USED)
def test_attribute_exists(handler: RequestHandler, name: str) -> None:
    assert hasattr(handler, name), (
        f"aiohttp's RequestHandler no longer has {name} ({USED[name]}): "
        "read aiohttp/web_protocol.py and adapt server/serving/connection.py"
    )


def test_parser_error_has_a_status_and_an_exception() -> None:
    error = _ErrInfo(400, ValueError(), "text")
    assert (error.status, str(error.exc), error.message) == (400, "", "text")


def test_list_of_attributes_is_complete() -> None:
    own = set(vars(connection.Connection))
    used = {
        node.attr
        for node in ast.walk(ast.parse(Path(connection.__file__).read_text()))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr not in own
    }
    assert used - {"__traceback__", "__init__"} == set(USED)

"""What docs/tools offers around the verifiers, in Python and in JavaScript alike."""

import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep, time
from typing import Any

import pytest
import vapi_webhook

from server.proof import changed_overrides
from tests.tools.drivers import Driver
from tests.tools.proofs import (
    AUDIENCE,
    GOOD,
    ISSUER,
    NEXT,
    OVERRIDES,
    PATIENT,
    call,
    claims,
    header,
    jwk,
    proof,
)

SECRET = "the secret of the HMAC credential"
BODY = json.dumps({"message": {"type": "tool-calls"}}).encode()
EXPECTED = {"issuer": ISSUER, "audience": AUDIENCE}
BY_NEXT = proof(header(kid="next"), key=NEXT)


def signature(
    timestamp: Any, body: bytes = BODY, secret: str = SECRET, digest: str = "sha256"
) -> str:
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, digest).hexdigest()


@pytest.mark.parametrize("scale", [1, 1000], ids=["seconds", "milliseconds"])
def test_signed_webhook_is_accepted(driver: Driver, scale: int) -> None:
    for age in (0, 290, -290):
        timestamp = str(int((time() - age) * scale))
        options = {"signature": signature(timestamp), "timestamp": timestamp, "secret": SECRET}
        assert driver.run("hmac", body=BODY, **options) == {"value": None}


def test_unsigned_webhook_is_refused(driver: Driver) -> None:
    now = str(int(time()))
    good = {"body": BODY, "signature": signature(now), "timestamp": now, "secret": SECRET}
    old, early = str(int(time() - 310)), str(int(time() + 310))
    changes: dict[str, dict[str, Any]] = {
        "no signature": {"signature": None},
        "empty signature": {"signature": ""},
        "no timestamp": {"timestamp": None},
        "empty timestamp": {"timestamp": ""},
        "timestamp is not a number": {"timestamp": "now", "signature": signature("now")},
        "timestamp with a sign": {"timestamp": f"+{now}", "signature": signature(f"+{now}")},
        "timestamp in other digits": {"timestamp": "١٨", "signature": signature("١٨")},
        "another timestamp": {"timestamp": str(int(now) - 1)},
        "old": {"timestamp": old, "signature": signature(old)},
        "from the future": {"timestamp": early, "signature": signature(early)},
        "in microseconds": {"timestamp": now + "000000", "signature": signature(now + "000000")},
        "another body": {"body": BODY + b" "},
        "empty body": {"body": b""},
        "another secret": {"signature": signature(now, secret="other")},
        "another digest": {"signature": signature(now, digest="sha512")},
        "in upper case": {"signature": signature(now).upper()},
        "cut short": {"signature": signature(now)[:-1]},
        "prefix": {"signature": "sha256=" + signature(now)},
        "letters of other scripts": {"signature": "é" * 64},
        "half of a surrogate pair": {"signature": "\udce9" * 64},
        "no secret configured": {"secret": "", "signature": signature(now, secret="")},
    }
    reasons = {name: driver.run("hmac", **{**good, **each}) for name, each in changes.items()}
    assert {name: found.get("reason") for name, found in reasons.items()} == dict.fromkeys(
        changes, "webhook"
    )


def test_bearer_token_is_compared(driver: Driver) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        found = driver.run("bearer", authorization=f"{scheme} {SECRET}", token=SECRET)
        assert found == {"value": None}
    wrong = [
        None,
        "",
        "Bearer",
        "Bearer ",
        SECRET,
        f"Basic {SECRET}",
        f"Bearer  {SECRET}",
        f"Bearer {SECRET} ",
        f"Bearer {SECRET[:-1]}",
        f"Bearer {SECRET.upper()}",
        "Bearer é",
        "Bearer \udce9",
    ]
    for authorization in wrong:
        found = driver.run("bearer", authorization=authorization, token=SECRET)
        assert found.get("reason") == "webhook", authorization
    assert driver.run("bearer", authorization="Bearer ", token="")["reason"] == "webhook"


@pytest.mark.parametrize(
    "tool_call",
    [
        {"function": {"name": "book", "arguments": {"day": "Monday"}}},
        {"type": "function", "function": {"name": "book", "arguments": '{"day": "Monday"}'}},
        {"name": "book", "arguments": {"day": "Monday"}},
        {"name": "book", "parameters": {"day": "Monday"}},
    ],
)
def test_tool_calls_are_read_in_every_documented_shape(
    driver: Driver, tool_call: dict[str, Any]
) -> None:
    message = {"toolCallList": [{"id": "toolu_1", **tool_call}]}
    found = driver.run("tool_calls", message=message)
    assert found == {"value": [["toolu_1", "book", {"day": "Monday"}]]}


def test_tool_call_without_arguments(driver: Driver) -> None:
    for empty in ({}, {"arguments": None}, {"arguments": "{}"}):
        message = {"toolCallList": [{"id": "1", "function": {"name": "book", **empty}}]}
        assert driver.run("tool_calls", message=message) == {"value": [["1", "book", {}]]}


def test_a_proof_is_good_for_one_call(driver: Driver) -> None:
    mine = claims(jti="used by one call")
    for _ in range(2):  # a call may call several tools
        assert driver.run("replay", claims=mine, call=call(id="call-1")) == {"value": None}
    assert driver.run("replay", claims=mine, call=call(id="call-2"))["reason"] == "replayed"
    other = claims(jti="used by another call")
    assert driver.run("replay", claims=other, call=call(id="call-2")) == {"value": None}
    for call_id in (..., None, "", 1):
        assert driver.run("replay", claims=other, call=call(id=call_id))["reason"] == "call"


def test_used_proofs_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(vapi_webhook, "monotonic", lambda: clock[0])
    first_use = vapi_webhook.UsedProofs()
    assert first_use("jti", "call-1") == "call-1"
    clock[0] = 13 * 3600
    assert first_use("jti", "call-2") == "call-1"
    clock[0] = 14 * 3600
    assert first_use("jti", "call-2") == "call-2"


class KeyServer:
    """Serves a key set as the service does, fails on command, and counts requests."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.fetches = 0
        self.pause = 0.0
        self.drips_next = self.stopped = False
        self.publish(jwk())
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.fetches += 1
                sleep(server.pause)
                drips, server.drips_next = server.drips_next, False
                if drips:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Header: ")
                while drips and not server.stopped:
                    self.wfile.write(b"x")
                    sleep(0.05)
                self.send_response(server.status)
                self.end_headers()
                self.wfile.write(server.body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/.well-known/jwks.json"

    def publish(self, *keys: dict[str, Any]) -> None:
        """Serve these keys from now on."""
        self.body = json.dumps({"keys": keys}).encode()

    @contextmanager
    def running(self) -> Iterator["KeyServer"]:
        """Answer in a thread."""
        thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.stopped = True
            self._http.shutdown()
            thread.join()
            self._http.server_close()


@pytest.fixture
def key_server() -> Iterator[KeyServer]:
    with KeyServer().running() as server:
        yield server


def verify(driver: Driver, text: str = GOOD, times: int = 1) -> Any:
    """Return the patient, or the reason of the refusal."""
    found = driver.run("verify", times=times, proof=text, call=call(), **EXPECTED)
    return found["reason"] if "reason" in found else found["value"]["sub"]


def open_keys(driver: Driver, server: KeyServer, **seconds: float) -> None:
    options = {"max_age": 300, "cooldown": 5, "max_stale": 86_400, **seconds}
    driver.run("keys", url=server.url, **options)


def test_keys_are_fetched_once_and_cached(driver: Driver, key_server: KeyServer) -> None:
    open_keys(driver, key_server)
    assert key_server.fetches == 0
    assert verify(driver, times=8) == PATIENT
    assert verify(driver) == PATIENT
    assert key_server.fetches == 1


def test_keys_are_fetched_again_when_they_are_old(driver: Driver, key_server: KeyServer) -> None:
    open_keys(driver, key_server, max_age=0, cooldown=0)
    for fetches in (1, 2):
        assert verify(driver) == PATIENT
        assert key_server.fetches == fetches


def test_a_new_key_is_found_at_once(driver: Driver, key_server: KeyServer) -> None:
    open_keys(driver, key_server, cooldown=0)
    assert verify(driver) == PATIENT
    key_server.publish(jwk(), jwk(NEXT, "next"))
    assert verify(driver, BY_NEXT) == PATIENT
    assert key_server.fetches == 2
    key_server.publish(jwk(NEXT, "next"))
    assert [verify(driver), verify(driver, BY_NEXT)] == [PATIENT, PATIENT]  # cached
    assert key_server.fetches == 2


def test_a_dropped_key_is_refused_once_the_cache_is_old(
    driver: Driver, key_server: KeyServer
) -> None:
    open_keys(driver, key_server, max_age=0, cooldown=0)
    assert verify(driver) == PATIENT
    key_server.publish(jwk(NEXT, "next"))
    assert verify(driver) == "key"


def test_unknown_key_ids_do_not_flood_the_service(driver: Driver, key_server: KeyServer) -> None:
    open_keys(driver, key_server, cooldown=3600)
    for number in range(5):
        assert verify(driver, proof(header(kid=f"unknown {number}"))) == "key"
    assert key_server.fetches == 1


def test_an_outage_does_not_stop_verification(driver: Driver, key_server: KeyServer) -> None:
    open_keys(driver, key_server, max_age=0, cooldown=0)
    assert verify(driver) == PATIENT
    good = key_server.body
    for status, body in [
        (500, good),
        (404, b"{}"),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"keys": {}}'),
        (200, b"null"),
        (200, b"\xff"),
    ]:
        key_server.status, key_server.body = status, body
        assert verify(driver) == PATIENT
        assert verify(driver, BY_NEXT) == "key"
    assert key_server.fetches == 1 + 8 * 3


def test_without_keys_nothing_is_verified(driver: Driver, key_server: KeyServer) -> None:
    open_keys(driver, key_server, max_age=0, cooldown=0)
    key_server.status = 503
    assert verify(driver) == "unavailable"
    key_server.status = 200
    assert verify(driver) == PATIENT


def test_keys_expire_during_an_outage(driver: Driver, key_server: KeyServer) -> None:
    open_keys(driver, key_server, max_age=0, cooldown=0, max_stale=0.5)
    assert verify(driver) == PATIENT
    key_server.status = 503
    found = {PATIENT}
    while "unavailable" not in found:  # under the test's time limit
        found.add(verify(driver))
    assert found <= {PATIENT, "unavailable"}


def test_unreachable_service_is_not_requested_each_time(driver: Driver) -> None:
    with KeyServer().running() as server:
        pass
    open_keys(driver, server, cooldown=3600)
    assert [verify(driver), verify(driver)] == ["unavailable", "unavailable"]


def test_changed_overrides_are_named(driver: Driver) -> None:
    for members, more, changed in OVERRIDES:
        allowed = ["variableValues.patientProof", *more]
        found = driver.run("changed", call=call(**members), allowed=allowed)
        assert found == {"value": changed}, members
        assert changed_overrides(call(**members), allowed) == changed, members  # the service's


def test_bad_arguments_spoil_only_their_call(driver: Driver) -> None:
    bad = ["{", "[]", "null", "1", [], 1, "x" * 10, "[" * 100_000]
    message = {
        "toolCallList": [
            {"id": str(number), "name": "book", "arguments": value}
            for number, value in enumerate([*bad, {"day": "Monday"}])
        ]
    }
    found = driver.run("tool_calls", message=message)["value"]
    assert [arguments for _, _, arguments in found] == [*[None] * len(bad), {"day": "Monday"}]


def test_other_webhooks_are_ignored(driver: Driver) -> None:
    ignored = [
        driver.run("ignores", message=message)["value"]
        for message in (None, {}, {"type": "end-of-call-report"}, {"type": "tool-calls"})
    ]
    assert ignored == [True, True, True, False]


def test_large_bodies_are_refused_by_their_length(driver: Driver) -> None:
    lengths = [None, "", "x", "-1", "1e3", "1048577", "9" * 16, "0", "1048576"]
    found = [driver.run("too_large", length=length)["value"] for length in lengths]
    assert found == [True] * 7 + [False] * 2


def test_cached_keys_are_used_while_the_service_hangs(
    driver: Driver, key_server: KeyServer
) -> None:
    open_keys(driver, key_server, max_age=0.01, cooldown=0)
    assert verify(driver) == PATIENT
    key_server.pause = 1.0
    started = time()
    for _ in range(3):
        assert verify(driver) == PATIENT
    assert time() - started < 0.9
    key_server.pause = 0
    key_server.publish(jwk(NEXT, "next"))
    while verify(driver, BY_NEXT) != PATIENT:  # under the test's time limit
        sleep(0.02)


def test_answer_that_drips_is_given_up_after_two_seconds(
    driver: Driver, key_server: KeyServer
) -> None:
    open_keys(driver, key_server, cooldown=0)
    key_server.drips_next = True
    started = time()
    assert verify(driver) == "unavailable"
    assert 1.9 <= time() - started < 10
    assert verify(driver) == PATIENT
    assert key_server.fetches == 2

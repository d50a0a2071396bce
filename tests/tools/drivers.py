"""One interface to `vapi_webhook.py` and `vapi-webhook.mjs`, so that the same tests run both."""

import json
import subprocess
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from vapi_webhook import (
    ProofKeys,
    UsedProofs,
    authenticate_bearer,
    authenticate_hmac,
    is_too_large,
    is_tool_calls,
    read_tool_calls,
    refuse_replay,
)
from verify_patient import ProofError, changed_overrides


class Driver(Protocol):
    """Runs one function of the module; gives `value`, or `reason` and `text` of a refusal."""

    def run(self, command: str, **options: Any) -> dict[str, Any]: ...


class PythonDriver:
    """Calls `vapi_webhook.py`."""

    def __init__(self) -> None:
        self._keys: ProofKeys
        self._used = UsedProofs()

    def run(self, command: str, **options: Any) -> dict[str, Any]:
        try:
            return {"value": getattr(self, command)(**options)}
        except ProofError as error:
            return {"reason": error.reason, "text": str(error)}

    def hmac(self, *, body: bytes, signature: Any, timestamp: Any, **options: Any) -> None:
        authenticate_hmac(body, signature, timestamp, **options)

    def bearer(self, *, authorization: Any, token: str) -> None:
        authenticate_bearer(authorization, token=token)

    def tool_calls(self, *, message: Any) -> list[list[Any]]:
        return [list(each) for each in read_tool_calls(message)]

    def keys(self, **options: Any) -> None:
        self._keys = ProofKeys(**options)

    def verify(self, *, times: int, proof: str, call: Any, **expected: str) -> dict[str, Any]:
        with ThreadPoolExecutor(times) as pool:
            verified = [
                pool.submit(self._keys.verify, proof, call, **expected) for _ in range(times)
            ]
            results = [each.result() for each in verified]
        return results[0]

    def changed(self, *, call: Any, allowed: list[str]) -> list[str]:
        return changed_overrides(call, allowed)

    def ignores(self, *, message: Any) -> bool:
        return not is_tool_calls(message)

    def too_large(self, *, length: str | None) -> bool:
        return is_too_large(length)

    def replay(self, *, claims: Any, call: Any) -> None:
        refuse_replay(claims, call, self._used)


class NodeDriver:
    """Calls `vapi-webhook.mjs` in a process of Node.js."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, command: str, **options: Any) -> dict[str, Any]:
        if isinstance(options.get("body"), bytes):
            options["body"] = b64encode(options["body"]).decode()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"command": command, **options}), file=self._process.stdin, flush=True)
        result: dict[str, Any] = json.loads(self._process.stdout.readline())
        return result

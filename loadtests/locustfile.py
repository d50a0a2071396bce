"""The behaviour of patients' apps, for locust. `loadtests/load.py` starts it.

Every request has a new patient and a new token. One in five must be refused, and counts as a
failure if it is not.
"""

import os

from locust import FastHttpUser, constant_throughput, events, task
from locust.env import Environment

from loadtests import tokens
from rig.service import PATH

SECRET = os.environ["JWT_SECRET"]
BUDGET_SECONDS = float(os.environ.get("SESSION_BUDGET_SECONDS", "3"))


class App(FastHttpUser):
    """Patients' apps that together send ten requests a second."""

    wait_time = constant_throughput(10)

    def _start(self, name: str, make: tokens.Make, status: int, code: str | None) -> None:
        patient, token = make(SECRET)
        with self.client.post(
            PATH,
            name=name,
            headers={"Authorization": f"Bearer {token}"},
            json={"patientContext": {"id": patient}},
            catch_response=True,
        ) as response:
            answer = response.json() or {}
            found = answer.get("error", {}).get("code")
            if (response.status_code, found) == (status, code):
                response.success()
            else:
                response.failure(f"{response.status_code} {found} instead of {status} {code}")

    @task(16)
    def granted(self) -> None:
        """Send a valid token."""
        self._start("granted", tokens.good, 200, None)

    @task(1)
    def expired(self) -> None:
        """Send an expired token."""
        self._start("refused: expired", tokens.expired, 401, "AUTH_TOKEN_EXPIRED")

    @task(1)
    def forged(self) -> None:
        """Send a token with an invalid signature."""
        self._start("refused: forged", tokens.forged, 401, "AUTH_TOKEN_INVALID")

    @task(1)
    def other_role(self) -> None:
        """Send a token of another role."""
        self._start("refused: not a patient", tokens.other_role, 403, "FORBIDDEN")

    @task(1)
    def malformed(self) -> None:
        """Send a value that is not a token."""
        self._start("refused: malformed", tokens.malformed, 401, "AUTH_TOKEN_INVALID")


@events.quitting.add_listener  # type: ignore[untyped-decorator]  # locust's
def set_exit_status(environment: Environment, **_: object) -> None:
    """Fail after an unexpected response, with p99 above the budget, or without any request."""
    total = environment.stats.total
    p99 = total.get_response_time_percentile(0.99) / 1000
    good = total.num_requests > 0 and total.num_failures == 0 and p99 <= BUDGET_SECONDS
    print(f"{total.num_requests} requests, {total.num_failures} unexpected responses, ", end="")
    print(f"p99 {p99:.3f} s of a budget of {BUDGET_SECONDS:g} s: {'ok' if good else 'FAILED'}")
    environment.process_exit_code = 0 if good else 1

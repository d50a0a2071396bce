"""What patients' apps do, for locust; `make load` runs it, and `loadtests/load.py` starts it.

Every request is another patient's, with a token of its own. One in five is to be refused, and
counts as a failure if it is not.
"""

import os

from locust import FastHttpUser, constant_throughput, events, task
from locust.env import Environment

from loadtests import tokens
from loadtests.target import PATH

SECRET = os.environ["JWT_SECRET"]
BUDGET_SECONDS = float(os.environ.get("SESSION_BUDGET_SECONDS", "3"))


class App(FastHttpUser):
    """A patient's app: asks ten times a second, the way a crowd of patients does."""

    wait_time = constant_throughput(10)

    def _ask(self, name: str, make: tokens.Make, status: int, code: str | None) -> None:
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
                response.failure(f"{response.status_code} {found} in place of {status} {code}")

    @task(16)
    def granted(self) -> None:
        """Ask as a patient whose token is good."""
        self._ask("granted", tokens.good, 200, None)

    @task(1)
    def expired(self) -> None:
        """Ask with a token that ran out."""
        self._ask("refused: expired", tokens.expired, 401, "AUTH_TOKEN_EXPIRED")

    @task(1)
    def forged(self) -> None:
        """Ask with a token that somebody else signed."""
        self._ask("refused: forged", tokens.forged, 401, "AUTH_TOKEN_INVALID")

    @task(1)
    def nurse(self) -> None:
        """Ask as somebody who is no patient."""
        self._ask("refused: not a patient", tokens.of_a_nurse, 403, "FORBIDDEN")

    @task(1)
    def junk(self) -> None:
        """Ask with what is no token."""
        self._ask("refused: no token", tokens.junk, 401, "AUTH_TOKEN_INVALID")


@events.quitting.add_listener  # type: ignore[untyped-decorator]  # locust's
def judge(environment: Environment, **_: object) -> None:
    """Fail when a request failed unexpectedly, when p99 passed the budget, or nobody asked."""
    total = environment.stats.total
    p99 = total.get_response_time_percentile(0.99) / 1000
    good = total.num_requests > 0 and total.num_failures == 0 and p99 <= BUDGET_SECONDS
    print(f"{total.num_requests} requests, {total.num_failures} unexpected answers, ", end="")
    print(f"p99 {p99:.3f} s of a budget of {BUDGET_SECONDS:g} s: {'ok' if good else 'FAILED'}")
    environment.process_exit_code = 0 if good else 1

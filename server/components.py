"""The components with the lifetime of the application, built from the settings."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from aiohttp import ClientSession, DummyCookieJar

from middlewares.rate_limit import AcquireRateLimit
from middlewares.revocation import IsRevoked
from server.auth.claims import ClaimRules
from server.auth.keys.factory import make_jwks_provider, make_static_provider
from server.auth.keys.provider import KeyProvider
from server.config import Settings
from server.observability.audit_log import AuditLog
from server.observability.metrics import EventCount
from server.observability.standard_streams import standard_output
from server.redis.client import RedisClient
from server.redis.pause import SessionPause
from server.redis.rate_limiter import InMemoryRateLimiter, RedisRateLimiter
from server.redis.revocation_list import RevocationList
from server.serving.supervisor import Run, supervise
from server.vapi.health import VapiHealthMonitor

_AUDIT_SHARE: Final = 0.1
"""The share of the shutdown grace for writing the audit lines that still wait."""


class Components:
    """Everything behind the middlewares that has state or calls another service."""

    def __init__(self, settings: Settings) -> None:
        self.audit_log = AuditLog(standard_output())
        self._audit_seconds = settings.shutdown_grace_seconds * _AUDIT_SHARE
        self.limiter_failures = EventCount()
        self.revocation_failures = EventCount()
        self.rules = ClaimRules(
            patient_id_claim=settings.jwt_patient_id_claim,
            role_claim=settings.jwt_role_claim,
            leeway=settings.jwt_leeway_seconds,
            max_lifetime=settings.jwt_max_lifetime_seconds,
        )
        self.vapi = VapiHealthMonitor(
            base_url=settings.vapi_base_url,
            api_key=settings.vapi_api_key,
            assistant_id=settings.vapi_assistant_id,
            interval=settings.vapi_check_seconds,
            timeout=settings.vapi_timeout_seconds,
        )
        self.jwks = make_jwks_provider(settings) if settings.jwt_jwks_url else None
        self.keys: KeyProvider = self.jwks or make_static_provider(settings)
        self.pause = SessionPause(always=settings.sessions_paused)
        self.redis = RedisClient(settings.redis_url) if settings.redis_url else None
        self.is_revoked = self._revocation_check(settings)
        self.acquire_rate_limit = self._rate_limiter(settings)

    def _revocation_check(self, settings: Settings) -> IsRevoked | None:
        if self.redis is None:
            return None
        return RevocationList(
            self.redis,
            seconds=settings.session_budget_seconds / 2,
            serve_without=settings.redis_failure == "serve",
            record_pause=self.pause.record,
            on_failure=self.revocation_failures,
        ).is_revoked

    def _rate_limiter(self, settings: Settings) -> AcquireRateLimit | None:
        if settings.rate_limit == "off":
            return None
        in_memory = InMemoryRateLimiter(settings.rate_limit).acquire
        if self.redis is None:
            return in_memory
        return RedisRateLimiter(
            self.redis,
            settings.rate_limit,
            seconds=settings.session_budget_seconds / 4,
            fallback=in_memory,
            on_failure=self.limiter_failures,
        ).acquire

    async def ensure_available(self) -> None:
        """Return if a session can be started and recorded now.

        Raises `ApiError`: VAPI_SESSION_FAILED while sessions are paused or Vapi is not available;
        last, AUDIT_UNAVAILABLE. The place for the audit line is kept until the caller suspends.
        """
        self.pause.ensure_not_paused()
        await self.vapi.ensure_available()
        self.audit_log.ensure_writable()

    def states(self) -> dict[str, str]:
        """Return the state of each component for `/readyz`."""
        redis = "off" if self.redis is None else self.redis.state
        return {
            "vapi": self.vapi.state,
            "keys": self.keys.state,
            "redis": redis,
            "audit": self.audit_log.state,
        }

    def has_started(self) -> bool:
        """Return whether the verification keys have been available once, and Vapi and Redis have
        not rejected our configuration from the beginning.
        """
        has_had_keys = self.jwks is None or self.jwks.age is not None
        redis_accepted = self.redis is None or self.redis.has_started
        return has_had_keys and self.vapi.has_verdict and redis_accepted

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the background tasks of all components and write the audit log."""
        self.audit_log.start()
        self.pause.log_setting()
        try:
            async with self._tasks():
                yield
        finally:
            await self.audit_log.stop(self._audit_seconds)

    @asynccontextmanager
    async def _tasks(self) -> AsyncIterator[None]:
        """Run the background tasks with one shared client session."""
        async with ClientSession(cookie_jar=DummyCookieJar()) as session:
            runs: list[Run] = [partial(self.vapi.run, session)]
            if self.jwks is not None:
                runs.append(partial(self.jwks.run, session))
            if self.redis is not None:
                runs.append(self.redis.run)
            tasks = [asyncio.create_task(supervise(run)) for run in runs]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

"""The pieces that live as long as the application: which ones there are is decided here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import ClientSession, DummyCookieJar
from limits.aio.storage import RedisStorage

from middlewares.claims import ClaimRules
from middlewares.rate_limit import Hit
from middlewares.revocation import IsRevoked
from server.background import Run, keep
from server.jwks import JwksKeys
from server.key_set import KeySet
from server.keys import Keys, decoders_for, static_keys
from server.limiter import ProcessLimit, shared_limit, with_fallback
from server.metrics import Metrics
from server.redis_link import RedisLink
from server.revocation import make_is_revoked
from server.settings import Settings
from server.vapi import VapiMonitor, VapiState

_NOTE_SECONDS = 1.0


class Parts:
    """Everything behind the chain that has a state or asks another machine.

    Without `metrics` none are kept: a host application's own scrape would tell them as well.
    """

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        self.metrics = metrics
        self.rules = ClaimRules(
            patient_id_claim=settings.jwt_patient_id_claim,
            role_claim=settings.jwt_role_claim,
            leeway=settings.jwt_leeway_seconds,
            max_lifetime=settings.jwt_max_lifetime_seconds,
        )
        self.vapi = VapiMonitor(
            base_url=settings.vapi_base_url,
            api_key=settings.vapi_api_key,
            assistant_id=settings.vapi_assistant_id,
            interval=settings.vapi_check_seconds,
            timeout=settings.vapi_timeout_seconds,
        )
        self.jwks = _jwks(settings) if settings.jwt_jwks_url else None
        self.keys: Keys = self.jwks or static_keys(settings)
        self.redis = _redis(settings) if settings.redis_url else None
        self.serves_without_redis = settings.redis_failure == "serve"
        self.is_revoked = self._is_revoked()
        self.hit = self._hit(settings.rate_limit)

    def _is_revoked(self) -> IsRevoked | None:
        if self.redis is None:
            return None
        return make_is_revoked(
            self.redis,
            serve_without=self.serves_without_redis,
            on_failure=self.metrics.revocation_failed if self.metrics else lambda: None,
        )

    def _hit(self, limit: str) -> Hit | None:
        if not limit:
            return None
        local = ProcessLimit(limit).hit
        if self.redis is None:
            return local
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix="vapi-sessions",
            connection_pool=self.redis.pool,  # type: ignore[arg-type]  # documented, not typed
        )
        shared = shared_limit(limit, storage)
        on_failure = self.metrics.limiter_failed if self.metrics else lambda: None
        return with_fallback(self.redis, shared, local, on_failure)

    def states(self) -> dict[str, str]:
        """Tell for `/readyz` how each part is."""
        redis = "off" if self.redis is None else "up" if self.redis.is_up else "down"
        return {"vapi": self.vapi.state, "keys": self.keys.state, "redis": redis}

    def can_serve(self) -> bool:
        """Tell whether a good request would be granted as things stand."""
        redis_holds = self.redis is None or self.redis.is_up or self.serves_without_redis
        vapi_holds = self.vapi.state in {VapiState.UP, VapiState.OFF}
        return redis_holds and vapi_holds and self.keys.state != "missing"

    def render_metrics(self) -> bytes:
        """Write the metrics, as things stand now; nothing where there are none."""
        if self.metrics is None:
            return b""
        self._note(self.metrics)
        return self.metrics.render()

    def _note(self, metrics: Metrics) -> None:
        age = self.jwks.age if self.jwks else None
        metrics.note(self.vapi.state, age, redis_up=bool(self.redis and self.redis.is_up))

    async def _keep_noting(self, metrics: Metrics) -> None:
        """Note the states for the process that `/metrics` is next asked of: often another one."""
        while True:
            self._note(metrics)
            await asyncio.sleep(_NOTE_SECONDS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep everything that works in the background working, over one outgoing session."""
        async with ClientSession(cookie_jar=DummyCookieJar()) as session:
            runs: list[Run] = [partial(self.vapi.run, session)]
            if self.metrics is not None and self.metrics.are_shared:
                runs.append(partial(self._keep_noting, self.metrics))
            if self.jwks is not None:
                runs.append(partial(self.jwks.run, session))
            if self.redis is not None:
                runs.append(self.redis.run)
            tasks = [asyncio.create_task(keep(run)) for run in runs]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


def _jwks(settings: Settings) -> JwksKeys:
    def make_key_set(document: object) -> KeySet:
        return KeySet(
            document,
            allowed=frozenset(settings.jwt_algorithms),
            make_decoders=partial(decoders_for, settings=settings),
        )

    return JwksKeys(
        url=settings.jwt_jwks_url,
        algorithms=settings.jwt_algorithms,
        make_key_set=make_key_set,
        cache_seconds=settings.jwks_cache_seconds,
        stale_seconds=settings.jwks_stale_seconds,
        cooldown_seconds=settings.jwks_cooldown_seconds,
        timeout=min(2.0, settings.session_budget_seconds / 2),
    )


def _redis(settings: Settings) -> RedisLink:
    return RedisLink(settings.redis_url, timeout=min(0.5, settings.session_budget_seconds / 4))

"""`python -m server unrevoke`: lifts the revocation of a token or a patient."""

import argparse
import asyncio
from typing import Final

from server.admin_actions import admin_record, report
from server.cli.arguments import fail
from server.cli.revoke import add_subject, find_fault
from server.config import Settings
from server.config.loader import Configuration
from server.policies.patient_names import make_patient_names
from server.policies.revocation_index import token_entry, unrevoke
from server.redis.connection import RedisFailure, describe

HELP: Final = "lift the revocation of a token or a patient"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--jti` or `--patient`."""
    add_subject(parser)


def run(configuration: Configuration, arguments: argparse.Namespace) -> int:
    """Lift a revocation, if there is one; return 1 when Redis failed."""
    return asyncio.run(_unrevoke(configuration.settings, arguments))


async def _unrevoke(settings: Settings, arguments: argparse.Namespace) -> int:
    jti, patient = arguments.jti, arguments.patient
    if fault := find_fault(settings, jti, patient):
        return fail(f"Nothing was changed: {fault}")
    names = make_patient_names(settings)
    entries = [token_entry(jti)] if jti is not None else names.all(patient)
    try:
        lifted = await unrevoke(settings.redis_url, entries)
    except RedisFailure as error:
        return fail(f"Nothing was changed: Redis failed ({describe(error)}); check REDIS_URL")
    print("no longer revoked" if lifted else "there was no revocation")
    record = admin_record("unrevoke", hash_key=settings.audit_hash_key, patient=patient, jti=jti)
    await report(settings.redis_url, record)
    return 0

"""What a call is: known, unknown, reused or altered, and whose."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from server.proof import VerifyProof
from server.vapi.web_call import WebCall


@dataclass(frozen=True, slots=True)
class Classified:
    """A call and its class. `patient` is None for an unknown call.

    `is_ours`: on one of our assistants; `proof_id`: the `jti` of a proof that we signed.
    """

    call: WebCall
    patient: str | None
    proof_id: str | None
    is_ours: bool
    is_known: bool
    is_reused: bool
    is_altered: bool


def classify(
    calls: Iterable[WebCall], verify: VerifyProof, assistant_ids: frozenset[str]
) -> Iterator[Classified]:
    """Yield the calls that concern us, in the order in which they were created."""
    used: set[str] = set()
    for call in sorted(calls, key=lambda each: (each.created_at, each.id)):
        claims = verify(call.proof)
        is_ours = call.assistant_id in assistant_ids
        if not is_ours and claims is None and call.assistant_id is not None:
            continue
        is_known = claims is not None and claims.covers(call.assistant_id, call.created_at)
        yield Classified(
            call=call,
            patient=claims.sub if claims is not None and is_known else None,
            proof_id=None if claims is None else claims.jti,
            is_ours=is_ours,
            is_known=is_known,
            is_reused=claims is not None and claims.jti in used,
            is_altered=(is_ours or claims is not None) and bool(call.changed),
        )
        if claims is not None:
            used.add(claims.jti)

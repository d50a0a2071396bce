"""The end of a connection whose client has left."""

import gc

from aiohttp import web

from rig.issuer import eventually
from rig.service import Service
from rig.wire import dial, head


def requests() -> int:
    return sum(isinstance(each, web.Request) for each in gc.get_objects())


async def test_client_that_leaves_before_its_body_arrived_leaves_no_memory(
    service: Service,
) -> None:
    async def freed() -> bool:
        return requests() == before

    gc.collect()
    before = requests()
    gc.disable()
    try:
        async with dial(service) as wire:
            await wire.send(head("Content-Length: 9"))
            assert (await wire.answer()).status == 401
            wire.leave()
        await eventually(freed)
    finally:
        gc.enable()

"""`python -m loadtests.fake_vapi`: the stand-in for Vapi, as a process of its own."""

import asyncio
import os
import sys

from sandbox.serving import bind, origin, serving
from sandbox.vapi.app import create_vapi


async def main() -> None:
    """Print the address, and serve until terminated."""
    app = create_vapi(
        private_key=os.environ["VAPI_API_KEY"],
        public_key=os.environ["VAPI_PUBLIC_API_KEY"],
        org_id=os.environ["VAPI_ORG_ID"],
        assistant_id=os.environ["VAPI_ASSISTANT_ID"],
    )
    listener = bind()
    async with serving(app, listener):
        sys.stderr.write(f"listening at: {origin(listener)}\n")
        sys.stderr.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

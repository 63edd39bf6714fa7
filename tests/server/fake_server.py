"""A real server around the fake world, for clients that block."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fake_world import FakeWorld

from worldsim.server.app import Running, ServeConfig, running


@contextmanager
def server_of(world: FakeWorld | None = None, **config: Any) -> Iterator[Running]:
    """A server in a thread of its own, for clients that block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    world = world or FakeWorld()
    context = running(world, ServeConfig(port=0, **config))  # type: ignore[arg-type]

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=15)

    async def enter() -> Running:
        return await context.__aenter__()

    try:
        server = run(enter())
        world.arm()
        yield server
        run(context.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)

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
    context = running(world or FakeWorld(), ServeConfig(port=0, **config))  # type: ignore[arg-type]

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=15)

    async def enter() -> Running:
        return await context.__aenter__()

    try:
        yield run(enter())
        run(context.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)

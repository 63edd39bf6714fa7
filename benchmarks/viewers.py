"""Viewers of one game, in a process of their own: `-m worldsim.benchmarks.viewers URL GAME N`.

It says `ready` once all of them watch, and at the end of its input the frames per second of each.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from worldsim.benchmarks.loopback import START_SECONDS
from worldsim.clients.async_client import AsyncClient
from worldsim.errors import MachineError


@asynccontextmanager
async def watching(url: str, game: str, count: int) -> AsyncIterator[list[float]]:
    """`count` viewers for as long as the `async with`; after it, the list has their frames/s.

    Raises MachineError if they do not get in.
    """
    rates: list[float] = []
    if count == 0:
        yield rates
        return
    command = [sys.executable, "-m", __name__, url, game, str(count)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None and process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        if line.strip() != b"ready":
            raise MachineError(f"{count} viewers could not be seated at {url}")
        yield rates
        process.stdin.close()
        rates += json.loads(await asyncio.wait_for(process.stdout.readline(), START_SECONDS))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _watch(url: str, game: str, count: int) -> list[float]:
    """Frames per second of each viewer, from its first frame to the end of the input."""
    loop = asyncio.get_running_loop()
    viewers = [await AsyncClient.connect(url, watch=game) for _ in range(count)]
    times: list[list[float]] = [[] for _ in viewers]

    async def look(viewer: AsyncClient, seen: list[float]) -> None:
        while True:
            await viewer.frame()
            seen.append(loop.time())

    looking = [asyncio.create_task(look(*pair)) for pair in zip(viewers, times, strict=True)]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in looking:
        task.cancel()
    await asyncio.gather(*looking, return_exceptions=True)
    await asyncio.gather(*(viewer.close() for viewer in viewers))
    return [
        round((len(seen) - 1) / (seen[-1] - seen[0]), 3) if len(seen) > 1 else 0.0 for seen in times
    ]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_watch(sys.argv[1], sys.argv[2], int(sys.argv[3])))), flush=True)

"""Clients that behave badly, in a process of their own: `crowd.py URL`.

One reads nothing, one floods with actions at 10 kHz, one sends garbage and comes back whenever it
is thrown out. It says `here` when they begin, and at the end of its input, as JSON, what they did.
"""

import asyncio
import json
import random
import sys
import time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from worldsim.server import protocol as wire

PROTOCOLS: Any = [wire.SUBPROTOCOL]
FLOOD = 10_000  # actions per second
START = wire.encode(wire.Start())


def enter(url: str) -> connect:
    return connect(url, subprotocols=PROTOCOLS, compression=None, close_timeout=0.2)


async def be_stuck(url: str, done: dict[str, int]) -> None:
    async with enter(url) as socket:
        await socket.send(START)
        socket.transport.pause_reading()
        done["stuck"] += 1
        await asyncio.sleep(3600)


async def flood(url: str, done: dict[str, int]) -> None:
    """On a fixed schedule: what could not be sent in time is sent as soon as the line takes it."""
    async with enter(url) as socket:
        await socket.send(START)
        began, seq = time.monotonic(), 0
        reading = asyncio.create_task(drain(socket))
        try:
            while True:
                while seq < FLOOD * (time.monotonic() - began):
                    seq += 1
                    await socket.send(wire.encode(wire.Action(seq, seq % 8)))
                    done["actions"] = seq
                await asyncio.sleep(0.001)
        finally:
            reading.cancel()


async def drain(socket: ClientConnection) -> None:
    async for data in socket:
        if isinstance(data, bytes):
            await socket.send(wire.encode(wire.Ack(frame=wire.decode_frame(data).number)))


async def talk_nonsense(url: str, done: dict[str, int]) -> None:
    dice = random.Random(0)
    while True:
        try:
            async with enter(url) as socket:
                while True:
                    text = dice.randbytes(40).decode("latin-1")
                    await socket.send(text if dice.random() < 0.98 else text.encode())
                    done["garbage"] += 1
        except (ConnectionClosed, InvalidStatus):
            done["thrown_out"] += 1
            await asyncio.sleep(0.1)


async def main(url: str) -> None:
    done = dict.fromkeys(("stuck", "actions", "garbage", "thrown_out"), 0)
    crowd = [asyncio.create_task(who(url, done)) for who in (be_stuck, flood, talk_nonsense)]
    print("here", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps(done), flush=True)
    for task in crowd:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

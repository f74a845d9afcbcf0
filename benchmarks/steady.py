"""The same POST at a steady rate, whatever the answers take; run as a program, prints how long each took.

A request is sent when it is due and not when the one before is answered, and its time counts from when it was
due: a server that stops for a while does not thereby get fewer requests.

    python steady.py PORT PER_SECOND SECONDS REQUEST.json
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Final

import uvloop
from generator import HOST, encoded

N_CONNECTIONS: Final = 16


async def ask(connections: "asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]", request: bytes) -> None:
    reader, writer = connection = await connections.get()
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(head.decode("latin-1"))
    connections.put_nowait(connection)


async def main(port: int, per_s: float, duration_s: float, request: bytes) -> None:
    connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(N_CONNECTIONS):
        connections.put_nowait(await asyncio.open_connection(HOST, port))
    began_s = time.perf_counter()
    times_ms: list[float] = []

    async def one(due_s: float) -> None:
        await ask(connections, request)
        times_ms.append((time.perf_counter() - due_s) * 1e3)

    async with asyncio.TaskGroup() as group:
        for number in range(int(per_s * duration_s)):
            due_s = began_s + number / per_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            group.create_task(one(due_s))
    print(json.dumps(times_ms))


if __name__ == "__main__":
    _, port_text, rate_text, seconds_text, request_file = sys.argv
    asked = json.loads(Path(request_file).read_text(encoding="utf-8"))
    uvloop.run(main(int(port_text), float(rate_text), float(seconds_text), encoded(**asked)))

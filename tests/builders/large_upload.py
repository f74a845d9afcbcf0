"""Take one large model in, in a process of its own, and print by how much its resident memory grew.

Run as `python large_upload.py <folder> <MiB>`. A small model goes the same way first, so that what is loaded once does not
count. All is real but what the confined child computes (`children/large_plan`).
"""

import asyncio
import json
import struct
import sys
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

_TESTS = Path(__file__).parents[1]
_WEIGHTS = b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 4096
_METADATA = b'{"keras_version": "3.15.1", "date_saved": "2026-01-01@00:00:00"}'
_CONFIG = b"""{"module": "keras", "class_name": "Sequential", "registered_name": null, "config": {"name": "m", "layers": [
{"module": "keras.layers", "class_name": "InputLayer", "registered_name": null,
 "config": {"batch_shape": [null, 4], "name": "x", "dtype": "float32"}}]}}"""


def archive(n_bytes: int) -> Iterator[bytes]:
    """Yield a `.keras` archive with so many bytes of weights, as Keras stores it, without holding it."""
    directory, offset = b"", 0
    for name, content in ((b"metadata.json", _METADATA), (b"config.json", _CONFIG), (b"model.weights.h5", None)):
        checksum, size = 0, 0
        for piece in _weights(n_bytes) if content is None else [content]:
            checksum, size = zlib.crc32(piece, checksum), size + len(piece)
        shared = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0x21, checksum, size, size, len(name), 0)
        directory += (
            b"PK\1\2" + struct.pack("<BB", 20, 3) + shared + struct.pack("<HHHII", 0, 0, 0, 0o600 << 16, offset)
        )
        directory += name
        yield b"PK\3\4" + shared + name
        yield from _weights(n_bytes) if content is None else [content]
        offset += 30 + len(name) + size
    yield directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 3, 3, len(directory), offset, 0)


def _weights(n_bytes: int) -> Iterator[bytes]:
    for start in range(0, n_bytes, len(_WEIGHTS)):
        yield _WEIGHTS[: n_bytes - start]


def peak_bytes() -> int:
    """Return the largest resident memory so far, and forget it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return peak << 10


async def main(folder: Path, n_mib: int) -> None:
    """Upload a small model, then the large one."""
    from builders.gateways import running_gateway
    from maas_gateway.confinement.child import run_child
    from maas_gateway.confinement.conversation import Sink
    from maas_gateway.confinement.limits import Limits
    from maas_gateway.controlplane.arriving import Incoming
    from maas_gateway.identifiers import ModelRef
    from maas_gateway.inference.conversion.answer import Conversion, read_answer

    async def convert(
        form: str, upload: AsyncIterator[bytes], *, size_bytes: int, sink: Sink, sample: bytes = b""
    ) -> Conversion:
        n_bytes = 0

        async def count(piece: bytes) -> None:
            nonlocal n_bytes
            n_bytes += len(piece)
            await sink(piece)

        children = Path(__file__).parent / "children"
        more = {"deadline_s": 300, "max_answer_bytes": 2 * size_bytes, "search_paths": [children]}
        answer = await run_child("large_plan", limits=Limits(1 << 29), request=upload, sink=count, **more)  # type: ignore[arg-type]  # a mapping of several types
        return read_answer(form, answer.header, n_bytes=n_bytes, took_ms=1.0)

    async def chunks(n_bytes: int) -> AsyncIterator[bytes]:
        for piece in archive(n_bytes):
            for start in range(0, len(piece), 1 << 16):
                await asyncio.sleep(0)
                yield piece[start : start + (1 << 16)]

    async with running_gateway(folder, uploads={"max_bytes": (n_mib + 1) << 20}) as world:
        await world.tenant("acme")
        owner = await world.principal(world.owners["acme"])
        world.gateway.upload._examiner._convert = convert
        seen = []
        for version, mib in ((1, 8), (2, 8), (3, n_mib)):
            began = time.monotonic()
            incoming = Incoming(format="keras", digest=None, declared_bytes=None, chunks=chunks(mib << 20))
            await world.gateway.upload.upload(owner, ModelRef("large", version), incoming)
            seen.append({"peak_bytes": peak_bytes(), "took_s": time.monotonic() - began})
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    sys.path[0] = str(_TESTS)
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))

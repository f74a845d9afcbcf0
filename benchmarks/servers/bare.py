"""The floor: a bare ASGI server with the same engine and no security, under uvicorn as the gateway runs it.

It opens the same sealed flatbuffer, so that both compute the same thing; then it parses the JSON,
calls the engine right there on the event loop (no thread, no batch) and writes the answer.

    python bare.py DATA_DIR PORT
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvicorn
from ai_edge_litert.interpreter import Interpreter

from maas_gateway.clock import SystemClock
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES, KEYS_CHANGES
from maas_gateway.database.unscoped import read_all
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.keyring.statements import Statements
from maas_gateway.place import open_keyring
from maas_gateway.registry import store
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.registry.directory import DirectoryBlobs
from maas_gateway.registry.memory import MemoryFile
from maas_gateway.registry.model import ArtifactRole
from maas_gateway.settings import load_settings

Message = MutableMapping[str, Any]


async def opened(data_dir: Path) -> MemoryFile:
    """Return the flatbuffer of the one model that is sealed in a gateway's place."""
    settings = load_settings(over={"data_dir": data_dir})
    clock = SystemClock()
    main = Database(settings.main_url, CHANGES)
    key_store = Database(settings.keys_url, KEYS_CHANGES, overwrites_deleted=True)
    try:
        async with read_all(main) as session:
            (model,) = await store.models(session)
        keyring = open_keyring(settings, key_store, clock)
        artifacts = Artifacts(DirectoryBlobs(data_dir / "blobs"), DataKeys(keyring), Statements(keyring))
        return await artifacts.open(model.versions[0], ArtifactRole.LITERT)
    finally:
        await main.close()
        await key_store.close()


class Bare:
    """The application."""

    def __init__(self, memory: MemoryFile) -> None:
        self._interpreter = Interpreter(model_path=f"/proc/self/fd/{memory.descriptor}", num_threads=1)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._interpreter.resize_tensor_input(self._input, (1, 30), strict=True)
        self._interpreter.allocate_tensors()

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        if scope["method"] == "GET":
            answer = b"{}"
        else:
            message = await receive()
            body = message["body"]
            while message["more_body"]:
                message = await receive()
                body += message["body"]
            answer = self._predicted(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _predicted(self, body: bytes) -> bytes:
        rows = np.array(orjson.loads(body)["instances"], dtype=np.float32)
        self._interpreter.set_tensor(self._input, rows)
        self._interpreter.invoke()
        outputs = self._interpreter.get_tensor(self._output)
        return orjson.dumps({"predictions": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)


if __name__ == "__main__":
    uvicorn.run(
        Bare(asyncio.run(opened(Path(sys.argv[1])))),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )

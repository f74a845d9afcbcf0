"""A child that stays and does what each call names: material for the tests of confinement."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from maas_gateway.confinement.channel import Channel
from maas_gateway.confinement.frames import MAX_FRAME_BYTES, PREFIX, FrameKind, pack, pack_json


def serve(channel: Channel) -> None:
    """Answer the request with its own bytes, then every call by what it names."""
    if channel.arguments.get("hangs"):
        time.sleep(60)
    channel.answer({"pid": os.getpid()}, b"".join(channel.request()))
    for header, payload in channel.calls():
        act = str(header["act"])
        if act == "echo":
            channel.answer(header, payload)
        elif act in _ACTS:
            _ACTS[act](channel)
        else:
            _write(channel, _NONSENSE[act])


def _look(channel: Channel) -> None:
    channel.answer(_seen())


def _spin(channel: Channel) -> None:
    while True:
        pass


def _sleep(channel: Channel) -> None:
    time.sleep(60)


def _crash(channel: Channel) -> None:
    sys.stderr.write("secret words on stderr\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGSEGV)


def _help(channel: Channel) -> None:
    helper = os.fork()
    if helper == 0:
        time.sleep(60)
        os._exit(0)
    channel.answer({"helper": helper})


def _leave(channel: Channel) -> None:
    os._exit(0)


def _eat(channel: Channel) -> None:
    eaten = []
    while True:
        eaten.append(bytearray(1 << 26))


def _chat_later(channel: Channel) -> None:
    channel.answer({})
    time.sleep(0.2)
    channel.progress(more="words")


def _shout(channel: Channel) -> None:
    sys.stderr.write("x" * 1_000_000)
    sys.stderr.flush()
    channel.answer({})


_ACTS: dict[str, Callable[[Channel], None]] = {
    "look": _look,
    "spin": _spin,
    "sleep": _sleep,
    "crash": _crash,
    "helper": _help,
    "leave": _leave,
    "eat": _eat,
    "chat-later": _chat_later,
    "shout": _shout,
}

_NONSENSE = {
    "garbage": b"Hello, this is no frame, and some more of it",
    "data-first": pack(FrameKind.DATA, b"x"),
    "started-again": pack_json(FrameKind.STARTED, {"in_force": ["everything"]}),
    "list": pack(FrameKind.ANSWER, b"[1]") + pack(FrameKind.END),
    "empty-data": pack_json(FrameKind.ANSWER, {}) + pack(FrameKind.DATA),
    "end-with-bytes": pack_json(FrameKind.ANSWER, {}) + pack(FrameKind.END, b"x"),
    "long-frame": PREFIX.pack(FrameKind.ANSWER, MAX_FRAME_BYTES + 1) + b"x" * 100,
    "chat": 2 * (pack_json(FrameKind.ANSWER, {}) + pack(FrameKind.END)),
    "half": pack_json(FrameKind.ANSWER, {}),
    "much": pack_json(FrameKind.ANSWER, {}) + 3 * pack(FrameKind.DATA, bytes(500_000)) + pack(FrameKind.END),
}


def _write(channel: Channel, content: bytes) -> None:
    channel._outgoing.write(content)
    channel._outgoing.flush()
    if content is _NONSENSE["half"]:
        os._exit(0)


def _seen() -> dict[str, object]:
    limits = Path("/proc/self/limits").read_text(encoding="ascii")
    return {
        "environment": Path("/proc/self/environ").read_bytes().decode(),
        "command": Path("/proc/self/cmdline").read_bytes().decode(),
        "descriptors": sorted(int(path.name) for path in Path("/proc/self/fd").iterdir()),
        "is_session_leader": os.getsid(0) == os.getpid(),
        "is_dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
        "niceness": os.nice(0),
        "limits": {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()},
    }

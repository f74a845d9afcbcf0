"""A child that does one odd thing, named by its argument: material for the tests of confinement."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from maas_gateway.confinement.channel import Channel
from maas_gateway.confinement.frames import FrameKind, pack, pack_json


def serve(channel: Channel) -> None:
    """Do what the argument `act` names."""
    _ACTS[str(channel.arguments["act"])](channel)


def _echo(channel: Channel) -> None:
    sys.stdout.write("a print of a library, which must not reach the frames\n")
    sys.stdout.flush()
    os.write(1, b"nor one that goes to descriptor 1 directly\n")
    body = b"".join(channel.request())
    for n in range(3):
        channel.progress(step=n)
    channel.answer({"n_bytes": len(body)}, body[::-1])


def _reflect(channel: Channel) -> None:
    channel.answer({}, channel.request())


def _answer_without_reading(channel: Channel) -> None:
    channel.answer({"refused": "too long"})


def _crash(channel: Channel) -> None:
    sys.stderr.write("secret words on stderr\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGSEGV)


def _raise(channel: Channel) -> None:
    raise RuntimeError("secret words in an exception")


def _leave(channel: Channel) -> None:
    return


def _hang(channel: Channel) -> None:
    helper = os.fork()
    if helper == 0:
        time.sleep(60)
        os._exit(0)
    channel.progress(helper=helper, pid=os.getpid())
    while True:
        time.sleep(1)


def _spin(channel: Channel) -> None:
    while True:
        pass


def _eat(channel: Channel) -> None:
    eaten = []
    while True:
        eaten.append(bytearray(1 << 26))


def _eat_natively(channel: Channel) -> None:
    sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
    sys.stderr.flush()
    os.abort()


def _answer_much(channel: Channel) -> None:
    channel.answer({}, bytes(5_000_000))


def _garbage(channel: Channel) -> None:
    channel._outgoing.write(b"Hello, this is no frame")
    channel._outgoing.flush()
    time.sleep(30)


def _broken_json(channel: Channel) -> None:
    channel._write(pack(FrameKind.ANSWER, b"[1]"))


def _out_of_turn(channel: Channel) -> None:
    channel._write(pack(FrameKind.DATA, b"x"))


def _half(channel: Channel) -> None:
    channel._write(pack_json(FrameKind.ANSWER, {}))


def _chatter(channel: Channel) -> None:
    while True:
        channel.progress(more="words")


def _look_around(channel: Channel) -> None:
    environment = Path("/proc/self/environ").read_bytes()
    channel.answer(
        {
            "environment": sorted(name.split(b"=")[0].decode() for name in environment.split(b"\0") if name),
            "descriptors": sorted(int(path.name) for path in Path("/proc/self/fd").iterdir()),
            "homes": [str(Path.home()), tempfile.gettempdir()],
            "cwd": str(Path.cwd()),
            "is_session_leader": os.getsid(0) == os.getpid(),
            "is_dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
        }
    )


def _attempt(act: Callable[[], object]) -> str:
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"


def _misbehave(channel: Channel) -> None:
    secret = Path(str(channel.arguments["secret"]))
    port = int(str(channel.arguments["port"]))
    places = [Path(place) for place in str(channel.arguments["places"]).split(":")]
    written = {str(place): _attempt(partial((place / "canary").write_bytes, b"x")) for place in places}
    memory = os.memfd_create("canary")
    channel.answer(
        {
            "written": written,
            "memfd": _attempt(lambda: os.write(memory, b"x")),
            "secret": _attempt(secret.read_bytes),
            "connect": _attempt(lambda: socket.create_connection(("127.0.0.1", port), timeout=2)),
            "program": _attempt(lambda: subprocess.run(["/bin/true"], check=False)),
            "signal": _attempt(lambda: os.kill(os.getppid(), 0)),
        }
    )


_ACTS: dict[str, Callable[[Channel], None]] = {
    "echo": _echo,
    "reflect": _reflect,
    "answer-without-reading": _answer_without_reading,
    "crash": _crash,
    "raise": _raise,
    "leave": _leave,
    "hang": _hang,
    "spin": _spin,
    "eat": _eat,
    "eat-natively": _eat_natively,
    "answer-much": _answer_much,
    "garbage": _garbage,
    "broken-json": _broken_json,
    "out-of-turn": _out_of_turn,
    "half": _half,
    "chatter": _chatter,
    "look-around": _look_around,
    "misbehave": _misbehave,
}

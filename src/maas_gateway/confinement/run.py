"""The child's first step: close itself in, then run the one module that it was started for.

Order: close what was inherited; take the pipes away from prints; read which limits; apply them; forbid files; only then
import the module. Nothing of the request is read before all that is in force.
"""

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, cast

from maas_gateway.confinement.channel import Channel
from maas_gateway.confinement.frames import VERSION, FrameRejected
from maas_gateway.confinement.landlock import forbid_files
from maas_gateway.confinement.limits import NOWHERE, Limits, bind_to_parent, harden_process

_STDERR: Final = 2

# What the interpreter, NumPy and TensorFlow read besides the installation. None of it is a secret.
_SYSTEM_PATHS: Final = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/sys/devices/system",
    "/dev/null",
    "/dev/urandom",
)


def main() -> None:
    """Serve one request and end."""
    _close_inherited()
    incoming, outgoing = _take_pipes()
    channel = Channel(incoming, outgoing)
    header = channel.read_header()
    if header.get("version") != VERSION:
        raise FrameRejected("the parent speaks another version of this protocol")
    channel.arguments = cast("dict[str, object]", header["arguments"])
    limits = Limits.from_json(cast("dict[str, int]", header["limits"]))
    tempfile.tempdir = NOWHERE  # gettempdir would try to write a file to find out whether it can
    channel.started(_close_in(limits))
    try:
        module = importlib.import_module(cast("str", header["module"]))
        serve = cast("Callable[[Channel], None]", module.serve)
        serve(channel)
    except MemoryError:
        channel.fail("out-of-memory", "the work needs more memory than the child may use")
    # Threads of TensorFlow may still run; the answer is given, so there is nothing to wait for.
    sys.stderr.flush()
    os._exit(0)


def _close_inherited() -> None:
    """Close every descriptor but the three pipes: uvloop does not do it although `close_fds` asks it to."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  a listing by descriptors, not by paths
        if int(name) > _STDERR:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep stdin and stdout for frames: prints go to stderr, and a read of stdin finds nothing."""
    incoming = os.fdopen(os.dup(0), "rb")
    outgoing = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return incoming, outgoing


def _close_in(limits: Limits) -> tuple[str, ...]:
    in_force = limits.apply()
    harden_process()
    bind_to_parent()
    places = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, *_SYSTEM_PATHS]
    if forbid_files(readable=[Path(place) for place in places if place]):
        return (*in_force, "files")
    return in_force

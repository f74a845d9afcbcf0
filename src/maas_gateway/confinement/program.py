"""What every confined child is started as: which program, with which environment, told what first.

Rules: a fresh program (exec, never a fork of this process, which would inherit the keys); an environment that has
nothing of ours in it.
"""

import fcntl
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import maas_gateway
from maas_gateway.confinement.frames import VERSION, FrameKind, pack_json
from maas_gateway.confinement.limits import NOWHERE, Limits

_PIPE_BYTES: Final = 1 << 18
_BOOT: Final = "import sys; sys.path[:0] = sys.argv[1:]; from maas_gateway.confinement.run import main; main()"


def places(search_paths: Iterable[Path] = ()) -> list[str]:
    """Return the directories that a child imports from before the installed ones: the given, then ours."""
    return [str(path) for path in search_paths] + [str(Path(maas_gateway.__file__).parents[1])]


def command(paths: Iterable[str]) -> list[str]:
    """Return the command line of a child that imports from `paths` first."""
    return [sys.executable, "-I", "-B", "-X", "utf8", "-X", "faulthandler", "-c", _BOOT, *paths]


def first(module: str, arguments: Mapping[str, object], limits: Limits) -> bytes:
    """Return the frame that tells a child what it is started for and what binds it.

    Raises:
        FrameRejected: the arguments are larger than a frame may be.
    """
    header = {"version": VERSION, "module": module, "arguments": arguments, "limits": limits.to_json()}
    return pack_json(FrameKind.HEADER, header)


def start(paths: Iterable[str], n_threads: int) -> "subprocess.Popen[bytes]":
    """Start a child that ends, by its own request to the kernel, with the thread that calls this.

    Args:
        paths: directories that it imports from first.
        n_threads: how many threads an engine may compute with.

    Raises:
        OSError: no process can be started.
    """
    process = subprocess.Popen(  # noqa: S603  our own interpreter and arguments of ours
        command(paths),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=environment(n_threads),
        cwd="/",
        close_fds=True,
        start_new_session=True,
    )
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with suppress(OSError):  # the user has no more memory for pipes
            fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return process


def environment(n_threads: int) -> dict[str, str]:
    """Return the whole environment of a child.

    Args:
        n_threads: how many threads an engine may compute with.
    """
    return {
        "HOME": NOWHERE,
        "TMPDIR": NOWHERE,
        "KERAS_HOME": NOWHERE,
        "KERAS_BACKEND": "tensorflow",
        "LC_ALL": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_NUM_INTRAOP_THREADS": str(n_threads),
        "TF_NUM_INTEROP_THREADS": str(n_threads),
        "OMP_NUM_THREADS": str(n_threads),
        "OPENBLAS_NUM_THREADS": str(n_threads),
        # glibc reserves 64 MiB of address space per arena, which RLIMIT_AS counts.
        "MALLOC_ARENA_MAX": "2",
    }

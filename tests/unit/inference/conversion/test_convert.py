"""A whole conversion from the gateway's side: through the pipe, in the child, back; and no trace on a disk."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.conversions import WholeConversion, converted
from maas_gateway.confinement.limits import Limits
from maas_gateway.errors import ArtifactRefused, Unavailable
from maas_gateway.inference.conversion.convert import limits_for

pytestmark = pytest.mark.thorough

GIB = 1 << 30
CANARY = np.random.default_rng(77).standard_normal(8).astype(np.float32).tobytes()
WRITABLE = [Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path.home(), Path.cwd()]


def convert(archive: bytes, **more: Any) -> WholeConversion:
    return asyncio.run(converted("keras", archive, **more))


def listing() -> set[str]:
    return {str(entry) for place in WRITABLE if place.is_dir() for entry in place.iterdir()}


def test_conversion_leaves_no_trace_of_the_weights_in_any_file(made: dict[str, Any]) -> None:
    archive = made["canary"].archive
    assert CANARY in archive
    began, before = time.time(), listing()
    appeared: set[str] = set()

    async def watch() -> WholeConversion:
        task = asyncio.ensure_future(converted("keras", archive))
        while not task.done():
            await asyncio.sleep(0.02)
            appeared.update(listing() - before)
        return await task

    made = asyncio.run(watch())
    assert CANARY in made.content("keras")
    assert CANARY in made.content("litert")
    assert made.conversion.signature["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 8]}]
    assert made.plans["keras"].max_relative_error <= 1e-6
    assert made.plans["litert"].max_relative_error <= 1e-5
    assert min(plan.took_us for plan in made.conversion.plans) > 0
    assert made.conversion.took_ms > 0
    assert not [path for path in appeared if holds_canary(Path(path), began)]
    assert not [path for path in before if holds_canary(Path(path), began)]


def holds_canary(path: Path, since: float) -> bool:
    """Look into a file, or into those directly below a directory, that changed since."""
    try:
        files = [path] if path.is_file() else list(path.iterdir()) if path.is_dir() else []
        return any(
            CANARY in file.read_bytes()
            for file in files
            if file.is_file() and file.stat().st_mtime >= since - 1 and file.stat().st_size < 1 << 26
        )
    except OSError:
        return False


@pytest.mark.parametrize(
    ("archive", "more", "reason"),
    [
        pytest.param(b"PK\x03\x04 and no more", {}, "not a readable ZIP file", id="bytes that are no archive"),
        pytest.param(b"PK" * 10, {"size_bytes": 19}, "not of the 19 bytes", id="more bytes than announced"),
        pytest.param(b"PK" * 10, {"size_bytes": 21}, "not of the 21 bytes", id="fewer bytes than announced"),
    ],
)
def test_archive_is_refused_before_keras_sees_it(archive: bytes, more: dict[str, Any], reason: str) -> None:
    with pytest.raises(ArtifactRefused, match=reason) as caught:
        convert(archive, **more)
    assert caught.value.detail.startswith("conversion: ")


def test_archive_that_needs_more_time_than_allowed_is_refused(made: dict[str, Any]) -> None:
    with pytest.raises(ArtifactRefused, match="conversion: the child did not answer within 2 s"):
        convert(made["small"].archive, deadline_s=2)


def test_archive_that_needs_more_memory_than_allowed_is_refused(made: dict[str, Any]) -> None:
    with pytest.raises(ArtifactRefused, match="conversion: the work needs more memory"):
        convert(made["small"].archive, limits=Limits(memory_bytes=1 << 30))


def test_child_that_does_not_start_is_not_the_archives_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unavailable):
        convert(b"PK")


def test_limits_grow_with_the_upload_up_to_what_a_deployment_gives() -> None:
    assert limits_for(1000).memory_bytes == 4 * GIB + 20_000
    assert limits_for(1000).cpu_s == 120
    assert limits_for(400 << 20).memory_bytes == 4 * GIB + 20 * (400 << 20)
    assert limits_for(400 << 20).cpu_s == 200
    most = GIB + 20 * 1000
    assert limits_for(1000, max_memory_bytes=most) == limits_for(1000)
    with pytest.raises(ArtifactRefused, match=r"of 1001 bytes needs 1073761844 bytes of memory .* than the 1073761824"):
        limits_for(1001, max_memory_bytes=most)


def test_gateways_side_imports_no_framework_and_no_array_library() -> None:
    program = (
        "import sys\n"
        "import maas_gateway.inference.conversion.convert, maas_gateway.training.seed\n"
        "heavy = {'tensorflow', 'keras', 'sklearn', 'numpy', 'h5py', 'ai_edge_litert', 'scipy'}\n"
        "print(*heavy & {name.split('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == []

"""What a process does to itself, each in a process of its own: none of it can be undone."""

import subprocess
import sys

import pytest

from maas_gateway.confinement.limits import Limits


def run_alone(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.split()


def test_hardening_forbids_core_dumps_and_debuggers() -> None:
    seen = run_alone(
        "import ctypes, resource\n"
        "from maas_gateway.confinement.limits import harden_process\n"
        "harden_process()\n"
        "print(*resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
    )
    assert seen == ["0", "0", "0"]


def test_hardening_allows_as_much_locked_memory_as_may_be() -> None:
    seen = run_alone(
        "import resource\n"
        "from maas_gateway.confinement.limits import harden_process\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 65536))\n"
        "harden_process()\n"
        "print(*resource.getrlimit(resource.RLIMIT_MEMLOCK))\n"
    )
    assert seen == ["65536", "65536"]


def test_limits_are_in_force_after_they_are_applied() -> None:
    seen = run_alone(
        "import resource\n"
        "from maas_gateway.confinement.limits import Limits\n"
        "Limits(memory_bytes=1 << 30, cpu_s=7, file_size_bytes=0, n_open_files=33).apply()\n"
        "for name in ('AS', 'CPU', 'FSIZE', 'NOFILE', 'CORE'):\n"
        "    print(*resource.getrlimit(getattr(resource, 'RLIMIT_' + name)))\n"
    )
    assert seen == ["1073741824", "1073741824", "7", "8", "0", "0", "33", "33", "0", "0"]


def test_own_network_has_no_way_out_where_it_is_in_force() -> None:
    in_force, reached = run_alone(
        "import socket\n"
        "from maas_gateway.confinement.limits import Limits\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "port = server.getsockname()[1]\n"
        "in_force = 'network' in Limits(memory_bytes=1 << 30).apply()\n"
        "client = socket.socket()\n"
        "client.settimeout(2)\n"
        "print(in_force, client.connect_ex(('127.0.0.1', port)))\n"
    )
    if in_force != "True":
        pytest.skip("this kernel gives a process no network of its own")
    assert reached != "0"


def test_limits_survive_their_way_through_json() -> None:
    limits = Limits(memory_bytes=1, cpu_s=2, n_tasks=3, file_size_bytes=4, n_open_files=5)
    assert Limits.from_json(limits.to_json()) == limits

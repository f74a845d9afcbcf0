"""The program as its operator runs it: starts, refusals, several workers, what its processes are made of."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from builders.gateways import Account
from builders.models import DemoModel
from builders.processes import PROGRAM, environment, run_command, serving
from builders.publishers import Pen


@pytest.fixture(scope="module")
def demo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that a demo has made, once for this module."""
    folder = tmp_path_factory.mktemp("demo") / "var"
    with serving(folder, command="demo") as served:
        assert "held-out accuracy" in served.log.read_text()
    return folder


def _accounts(folder: Path) -> dict[str, Account]:
    record = json.loads((folder / "first-run.json").read_text())
    people = {
        who: Account("", record[who]["username"], record[who]["password"], False) for who in ("operator", "owner")
    }
    services = {
        who: Account("", record[who]["client_id"], record[who]["client_secret"], True)
        for who in ("publisher", "invoker")
    }
    return {**people, **services}


def _body(folder: Path) -> dict[str, object]:
    example: dict[str, object] = json.loads((folder / "first-run.json").read_text())["example"]
    return example


def test_the_line_that_the_demo_prints_answers_when_it_is_pasted(demo_dir: Path) -> None:
    with serving(demo_dir, command="demo") as served:
        deadline = time.monotonic() + 20
        while "curl" not in served.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        printed = served.log.read_text()
        line = next(line for line in printed.splitlines() if line.startswith("curl "))
        answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, env=environment())
        assert 0 <= json.loads(answer.stdout)["predictions"][0][0] <= 1
        assert f"{served.url}/docs" in printed
        assert "found" in printed
        record = (demo_dir / "first-run.json").read_text()
        for who in _accounts(demo_dir).values():
            assert who.secret in record
            assert who.secret not in printed


def test_the_record_of_the_first_start_is_private_and_whole(demo_dir: Path) -> None:
    path = demo_dir / "first-run.json"
    assert path.stat().st_mode & 0o777 == 0o600
    record = json.loads(path.read_text())
    assert set(record) == {
        "base_url", "grpc", "operator", "tenant", "owner", "publisher", "invoker", "model", "example"
    }  # fmt: skip
    assert (record["tenant"], record["model"], len(record["example"]["instances"][0])) == ("demo", "breast-cancer", 30)


def test_a_first_start_that_was_killed_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    command = [PROGRAM, "demo", "--data-dir", str(folder), "--port", "0"]
    for after_s in (0.6, 4.0):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(), start_new_session=True
        )
        time.sleep(after_s)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with serving(folder, command="demo") as served:
        answer = httpx.post(
            f"{served.url}/v1/models/breast-cancer/labels/stable:predict",
            json=_body(folder),
            headers=served.headers(_accounts(folder)["invoker"]),
            timeout=30,
        )
        assert answer.status_code == 200


def test_two_workers_fail_no_request_while_every_key_is_rotated(demo_dir: Path) -> None:
    accounts, body = _accounts(demo_dir), _body(demo_dir)
    with serving(demo_dir, "--workers", "2") as served:
        is_over = threading.Event()
        answered: list[int] = []

        def ask() -> None:
            headers = served.headers(accounts["invoker"])
            with httpx.Client(base_url=served.url, timeout=30) as client:
                while not is_over.is_set():
                    answer = client.post("/v1/models/breast-cancer:predict", json=body, headers=headers)
                    answered.append(answer.status_code)

        askers = [threading.Thread(target=ask) for _ in range(8)]
        for asker in askers:
            asker.start()
        for _ in range(2):
            for purpose, who in (("artifacts", "owner"), ("token-signing", "operator"), ("root", "operator")):
                headers = served.headers(accounts[who])
                answer = httpx.post(f"{served.url}/admin/v1/keyrings/{purpose}:rotate", headers=headers, timeout=30)
                assert (answer.status_code, answer.json().get("state")) == (200, "succeeded"), answer.text
        is_over.set()
        for asker in askers:
            asker.join()
        assert set(answered) == {200}
        assert len(answered) > 100


def test_whoever_may_no_longer_is_refused_by_every_worker_within_a_second(demo_dir: Path) -> None:
    accounts, body = _accounts(demo_dir), _body(demo_dir)
    with serving(demo_dir, "--workers", "2") as served:
        operator, owner = served.headers(accounts["operator"]), served.headers(accounts["owner"])

        def act(headers: dict[str, str], method: str, path: str, sent: object = None) -> dict[str, object]:
            answer = httpx.request(method, f"{served.url}{path}", json=sent, headers=headers, timeout=30)
            assert answer.status_code < 300, (path, answer.text)
            told: dict[str, object] = answer.json() if answer.content else {}
            return told

        def asked(headers: dict[str, str], model: str, n: int = 12) -> list[int]:
            url = f"{served.url}/v1/models/{model}:predict"  # each on a connection of its own, so of either worker
            return [httpx.post(url, json=body, headers=headers, timeout=30).status_code for _ in range(n)]

        def settled(headers: dict[str, str], model: str, status: int) -> None:
            time.sleep(1)
            assert asked(headers, model) == [status] * 12

        onboarded = act(operator, "POST", "/admin/v1/tenants", {"slug": "second", "owner": "ann"})
        ann: dict[str, str] = onboarded["owner"]  # type: ignore[assignment]
        consumer = served.headers(Account("", ann["username"], ann["password"], False))
        share = act(owner, "POST", "/admin/v1/shares", {"model": "breast-cancer", "consumer": onboarded["id"]})
        settled(consumer, "demo.breast-cancer", 200)
        act(owner, "DELETE", f"/admin/v1/shares/{share['id']}")
        settled(consumer, "demo.breast-cancer", 404)

        user = act(owner, "POST", "/admin/v1/users", {"name": "bob"})
        act(owner, "POST", "/admin/v1/role-bindings", {"subject": user["id"], "role": "invoker"})
        second = act(owner, "POST", "/admin/v1/role-bindings", {"subject": user["id"], "role": "auditor"})
        bob = Account("", "bob@demo", str(user["password"]), False)
        headers = served.headers(bob)
        settled(headers, "breast-cancer", 200)
        text = headers["authorization"].split()[1]
        httpx.post(f"{served.url}/oauth/revoke", data={"token": text}, headers=headers, timeout=30).raise_for_status()
        settled(headers, "breast-cancer", 401)
        headers = served.headers(bob)
        for binding in act(owner, "GET", "/admin/v1/role-bindings")["bindings"]:  # type: ignore[attr-defined]
            if binding["subject"] == user["id"] and binding["id"] != second["id"]:
                act(owner, "DELETE", f"/admin/v1/role-bindings/{binding['id']}")
        settled(headers, "breast-cancer", 403)
        act(owner, "PATCH", f"/admin/v1/users/{user['id']}", {"enabled": False})
        settled(headers, "breast-cancer", 401)

        invoker = served.headers(accounts["invoker"])
        act(operator, "POST", "/admin/v1/tenants/demo:suspend")
        settled(invoker, "breast-cancer", 401)
        act(operator, "POST", "/admin/v1/tenants/demo:resume")
        settled(invoker, "breast-cancer", 200)


def test_commands_act_as_who_is_signed_in_also_two_at_once_and_when_the_token_has_expired(
    demo_dir: Path, tmp_path: Path
) -> None:
    owner = _accounts(demo_dir)["owner"]
    with serving(demo_dir) as served:
        home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
        refused = run_command("users", "list", **home)
        assert refused.returncode == os.EX_UNAVAILABLE
        assert "maas-gateway login" in refused.stderr
        wrong = run_command("login", owner.name, "--url", served.url, "--password", "wrong", **home)
        assert (wrong.returncode, "wrong" in wrong.stderr) == (os.EX_DATAERR, True)
        signed_in = run_command("login", owner.name, "--url", served.url, "--password", owner.secret, **home)
        assert signed_in.returncode == 0, signed_in.stderr
        (kept,) = tmp_path.rglob("session.json")
        assert kept.stat().st_mode & 0o777 == 0o600
        assert owner.secret not in kept.read_text()
        kept.write_text(json.dumps({**json.loads(kept.read_text()), "expires_at": 0}))
        both = [
            subprocess.Popen([PROGRAM, "users", "list"], env=environment(**home), stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for command in both:
            assert "owner  owner" in command.communicate(timeout=60)[0]
            assert command.returncode == 0
        token = json.loads(kept.read_text())["access_token"]
        assert run_command("logout", **home).stdout == "Signed out.\n"
        answer = httpx.get(f"{served.url}/admin/v1/users", headers={"authorization": f"Bearer {token}"}, timeout=30)
        assert answer.status_code == 401
        assert run_command("logout", **home).stdout == "Nobody was signed in.\n"


def test_usage_of_a_killed_gateway_lacks_no_more_than_its_last_second(demo_dir: Path, tmp_path: Path) -> None:
    place = tmp_path / "var"
    shutil.copytree(demo_dir, place)
    accounts, body = _accounts(place), _body(place)

    def counted(url: str, headers: dict[str, str]) -> int:
        lines = httpx.get(f"{url}/admin/v1/usage", headers=headers, timeout=30).json()["usage"]
        return sum(line["requests"] for line in lines)

    with serving(place) as served:
        before = counted(served.url, served.headers(accounts["owner"]))
        headers, url = served.headers(accounts["invoker"]), f"{served.url}/v1/models/breast-cancer:predict"
        for _ in range(50):
            assert httpx.post(url, json=body, headers=headers, timeout=30).status_code == 200
        time.sleep(1.5)
        for _ in range(3):
            assert httpx.post(url, json=body, headers=headers, timeout=30).status_code == 200
        served.kill()
    with serving(place) as served:
        assert 50 <= counted(served.url, served.headers(accounts["owner"])) - before <= 53


def test_no_process_of_a_serving_gateway_loads_tensorflow_or_may_dump_core(demo_dir: Path) -> None:
    accounts, body = _accounts(demo_dir), _body(demo_dir)
    with serving(demo_dir, "--workers", "2") as served:
        headers = served.headers(accounts["invoker"])
        for _ in range(8):
            path = f"{served.url}/v1/models/breast-cancer:predict"
            assert httpx.post(path, json=body, headers=headers, timeout=30).status_code == 200
        pids = served.pids()
        assert len(pids) >= 3
        for pid in pids:
            maps = Path(f"/proc/{pid}/maps").read_text()
            assert "/tensorflow/" not in maps
            if "ai_edge_litert" in maps:
                limits = Path(f"/proc/{pid}/limits").read_text()
                core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
                assert core.split()[4:6] == ["0", "0"]
        port = int(served.url.rpartition(":")[2]) + 1_000
        counted = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        assert 'maas_request_duration_seconds_count{door="tf_serving",status="200"} 8.0' in counted


def test_a_running_request_is_answered_before_a_terminated_gateway_stops(demo_dir: Path) -> None:
    accounts, body = _accounts(demo_dir), _body(demo_dir)
    with serving(demo_dir) as served:
        headers = served.headers(accounts["invoker"])
        content = json.dumps(body).encode()
        host, port = served.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            head = "\r\n".join(
                [
                    "POST /v1/models/breast-cancer:predict HTTP/1.1",
                    f"Host: {host}",
                    f"Authorization: {headers['authorization']}",
                    f"Content-Length: {len(content)}",
                    "",
                    "",
                ]
            )
            connection.sendall(head.encode() + content[:10])
            time.sleep(0.3)
            served.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            connection.sendall(content[10:])
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        assert served.process.wait(20) in {0, -signal.SIGTERM}


def test_a_port_in_use_is_one_sentence_and_a_code(demo_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = run_command("serve", "--data-dir", str(demo_dir), "--port", str(taken.getsockname()[1]))
    assert ended.returncode == os.EX_UNAVAILABLE
    assert "cannot listen on 127.0.0.1" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_place_that_was_not_prepared_says_what_to_do(tmp_path: Path) -> None:
    ended = run_command("serve", "--data-dir", str(tmp_path / "none"), "--port", "0")
    assert ended.returncode == os.EX_CONFIG
    assert ended.stderr.strip().endswith("run: maas-gateway init")


def test_init_then_doctor_find_nothing_unsafe(tmp_path: Path) -> None:
    folder = str(tmp_path / "place")
    assert run_command("init", "--data-dir", folder).returncode == 0
    password = (tmp_path / "place" / "operator.json").read_text()
    again = run_command("init", "--data-dir", folder)
    assert "exists already" in again.stdout
    assert (tmp_path / "place" / "operator.json").read_text() == password
    found = run_command("doctor", "--data-dir", folder)
    assert (found.returncode, found.stdout.strip().splitlines()[-1]) == (0, "Nothing is unsafe or missing.")
    assert json.loads(password)["password"] not in found.stdout + again.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place that nobody has served yet."""
    folder = tmp_path_factory.mktemp("unsafe") / "place"
    assert run_command("init", "--data-dir", str(folder)).returncode == 0
    return folder


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        pytest.param(lambda f: (f / "keys" / "root.json").chmod(0o644), "chmod 600", id="a root key others can read"),
        pytest.param(
            lambda f: (f / "keys" / "root.json").write_text("{}"), "is not a keyset", id="a root key that is none"
        ),
        pytest.param(lambda f: (f / "keys" / "root.json").unlink(), "there is no root key", id="no root key"),
        pytest.param(lambda f: _set_revision(f, "9999"), "newer maas-gateway", id="a newer database"),
        pytest.param(lambda f: (f / "gateway.sqlite").write_bytes(b"x" * 9_999), "cannot be opened", id="no database"),
    ],
)
def test_an_unsafe_place_is_refused_in_one_sentence_by_serve_and_named_by_doctor(
    tmp_path: Path, place: Path, spoil: object, sentence: str
) -> None:
    folder = tmp_path / "place"
    shutil.copytree(place, folder)
    assert callable(spoil)
    spoil(folder)
    ended = run_command("serve", "--data-dir", str(folder), "--port", "0")
    assert ended.returncode == os.EX_CONFIG
    assert sentence in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    found = run_command("doctor", "--data-dir", str(folder))
    assert found.returncode == os.EX_CONFIG


def _set_revision(folder: Path, revision: str) -> None:
    with sqlite3.connect(folder / "gateway.sqlite") as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    database.close()


def test_the_commands_for_models_and_keys_do_over_http_what_they_say(demo_dir: Path, tmp_path: Path) -> None:
    with serving(demo_dir, command="demo") as served:
        here = ("--data-dir", str(demo_dir))
        listed = json.loads(run_command("models", "list", "--json", *here).stdout)
        assert listed[0]["labels"] == {"stable": 1}
        hostile = tmp_path / "model.keras"
        hostile.write_bytes(b"not a model")
        refused = run_command("models", "push", str(hostile), "other", "1", *here)
        assert (refused.returncode, refused.stderr.startswith("maas-gateway: ")) == (os.EX_DATAERR, True)
        assert run_command("models", "promote", "none", "1", *here).returncode == os.EX_NOINPUT
        assert "points at version 1" in run_command("models", "label", "breast-cancer", "canary", "1", *here).stdout
        counted = run_command("keys", "rotate", "artifacts", "--dry-run", *here)
        assert "2 items would be rewrapped" in counted.stdout
        assert "succeeded" in run_command("keys", "rotate", "artifacts", *here).stdout
        rings = run_command("keys", "list", *here).stdout
        assert "primary" in rings
        number = str(max(int(line.split()[1]) for line in rings.splitlines()) - 1)
        assert "disabled" in run_command("keys", "retire", "artifacts", number, *here).stdout
        token = run_command("tokens", "issue", "--as", "publisher", *here).stdout.strip()
        by_token = run_command("models", "list", "--url", served.url, "--token", token)
        assert "breast-cancer" in by_token.stdout
    nobody = run_command("models", "list", "--data-dir", str(tmp_path))
    assert nobody.returncode == os.EX_UNAVAILABLE


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on the path")
def test_commands_that_the_help_teaches_sign_and_demand_signatures(
    demo_dir: Path, tmp_path: Path, demo: DemoModel
) -> None:
    (tmp_path / "model.keras").write_bytes(demo.seed.archive)
    model, signature, bundle = (str(tmp_path / name) for name in ("model.keras", "model.sig", "model.json"))
    taught = run_command("publisher-keys", "--help").stdout + run_command("models", "push", "--help").stdout
    for command in (
        "openssl ecparam -name prime256v1 -genkey -noout -out key.pem",
        "openssl pkey -in key.pem -pubout -out public.pem",
        "openssl dgst -sha256 -sign key.pem -out model.sig model.keras",
    ):
        assert command in taught
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    signer = Pen()
    (tmp_path / "jwk.json").write_text(json.dumps(signer.jwk))
    Path(bundle).write_text(json.dumps(signer.bundle(demo.seed.archive)))
    with serving(demo_dir) as served:

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return run_command(*arguments, "--data-dir", str(demo_dir), "--url", served.url)

        added = run("publisher-keys", "add", "release", str(tmp_path / "public.pem"), "--json")
        assert added.returncode == 0, added.stderr
        key_id = json.loads(added.stdout)["key_id"]
        assert run("publisher-keys", "add", "bundles", str(tmp_path / "jwk.json")).returncode == 0
        assert run("publisher-keys", "add", "mine", str(tmp_path / "key.pem")).returncode == os.EX_DATAERR
        assert run("publisher-keys", "require", "yes").stdout == "Uploads must be signed.\n"
        assert key_id in run("publisher-keys", "list").stdout
        unsigned = run("models", "push", model, "signed", "1")
        assert (unsigned.returncode, "openssl dgst" in unsigned.stderr) == (os.EX_DATAERR, True)
        named = run("models", "push", model, "signed", "1", "--signature", signature, "--key-id", key_id)
        assert f"Signed by release (key {key_id})." in named.stdout, named.stderr
        bundled = run("models", "push", model, "signed", "2", "--bundle", bundle, "--json")
        assert json.loads(bundled.stdout)["publisher"]["form"] == "openssf-bundle"
        assert run("models", "push", model, "signed", "3", "--bundle", bundle, "--key-id", key_id).returncode == 2
        assert run("publisher-keys", "remove", "release").returncode == 0
        assert run("publisher-keys", "remove", "release").returncode == os.EX_NOINPUT
        removed = run("models", "push", model, "signed", "3", "--signature", signature)
        assert (removed.returncode, "does not verify" in removed.stderr) == (os.EX_DATAERR, True)
        assert run("publisher-keys", "require", "no").stdout == "Uploads may be unsigned.\n"

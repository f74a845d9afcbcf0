"""Whoever can write to the blob store or the databases cannot have altered models served.

A gateway publishes a model for every case and stops; each model is tampered with in its own way; a second process starts
on what is left. It must refuse each of them with an alarm in the log and in the audit record, serve all others on, and
give away nothing. What touches every tenant at once has a place of its own for each case.

Source: `security.md` 1.6, whose numbers the cases bear. `ELSEWHERE` names the tests of what cannot be done to a stored
artifact, or what they do to every bit of one. Number 41, a whole older snapshot of databases and blobs, is sound in
itself: no seal and no signature tells it from the newest, so no test here can; the audit record's checkpoint must.
"""

import asyncio
import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import structlog

from builders.gateways import Account, World, gateway_settings, joined_gateway, running_gateway
from builders.models import SERVED_WITHIN_S, DemoModel, uploaded_model
from builders.plaintext import PIECE_BYTES, Search, pieces_of
from builders.shared import built_once
from builders.tampering import CASES, LONG_BYTES, STRANGER, Attack, Case, Stored, encoded, read
from maas_gateway.clock import Deadline
from maas_gateway.controlplane.erase import CERTIFICATE
from maas_gateway.crypto.chunked import SEGMENT_BYTES
from maas_gateway.crypto.digests import canonical_json
from maas_gateway.errors import Misconfigured
from maas_gateway.identifiers import PLATFORM, ModelRef, TenantId
from maas_gateway.keyring.key import KeyState, Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.keyring.rewrap import rewrap
from maas_gateway.keyring.tables import DATA_KEYS, KEY_VERSIONS
from maas_gateway.place import prepare
from maas_gateway.principal import Principal
from maas_gateway.registry.artifacts import Place
from maas_gateway.registry.model import Artifact, ArtifactRole, ModelVersion
from maas_gateway.registry.tables import LABELS, MODEL_VERSIONS, MODELS
from maas_gateway.settings import Settings

TESTS = Path(__file__).parents[1]
ENVELOPE = "unit/crypto/test_envelope.py::test_"
CHUNKED = "unit/crypto/test_chunked.py::test_"
ELSEWHERE: dict[int, tuple[str, ...]] = {
    **dict.fromkeys((1, 2), (f"{ENVELOPE}opener_refuses_every_shorter_artifact_and_a_longer_one",)),
    **dict.fromkeys((3, 4, 6, 7, 8, 9, 10), (f"{CHUNKED}open_into_refuses_and_leaves_no_plaintext_when",)),
    **dict.fromkeys((11, 12, 13, 14), (f"{ENVELOPE}opener_refuses_header_body_commitment_or_segment",)),
    **dict.fromkeys((15, 16, 17, 18), (f"{ENVELOPE}opener_refuses_the_whole_artifact",)),
    **dict.fromkeys((19, 20, 21, 22, 26, 27, 28, 29, 30), (f"{ENVELOPE}opener_refuses_a_header_when",)),
    23: (f"{ENVELOPE}unwrap_refuses_a_row_when",),
    **dict.fromkeys((24, 25), (f"{ENVELOPE}no_artifact_opens_through_a_row_with_any_bit_flipped",)),
    31: (
        f"{CHUNKED}opener_allocates_nothing_for_an_absurd_size",
        f"{ENVELOPE}opener_refuses_a_source_of_impossible_size",
    ),
    32: ("unit/keyring/test_keyring.py::test_a_retired_version_opens_nothing_in_any_process_that_was_told",),
    33: ("unit/keyring/test_keyring.py::test_a_destroyed_version_has_no_bytes_left_in_the_files",),
    34: ("unit/keyring/test_keyring.py::test_another_process_seals_with_a_new_primary_it_has_not_been_told_of",),
    35: (f"{ENVELOPE}no_two_of_many_artifacts_share_a_data_key_or_a_stream_key",),
    36: (f"{ENVELOPE}opener_refuses_a_commitment_before_it_reads_the_body_when_it_is",),
    37: (f"{ENVELOPE}opener_refuses_every_bit_flip_of_a_small_artifact",),
    38: (f"{ENVELOPE}opener_refuses_every_byte_change_at_both_ends_of_three_segments",),
    39: (
        "unit/crypto/test_open_each.py::test_nothing_of_a_segment_that_does_not_verify_is_handed_out",
        f"{ENVELOPE}open_into_leaves_no_plaintext_when_a_segment_is_refused",
    ),
    40: (
        "journeys/test_crash.py::test_an_upload_that_was_killed_is_whole_or_never_was",
        "unit/registry/test_directory.py::test_a_blob_whose_writing_fails_leaves_nothing",
    ),
}
UNSEEN = {41}


# One gateway publishes, another finds what was tampered with.


@dataclass
class Outcome:
    """What the second process has made of one case.

    Attributes:
        answers: to predictions, status and body, by each door.
        status: of the version, as TensorFlow Serving tells it.
        lines: of the log, about the version.
        events: of the tenant's audit record, about the version.
        second: what the older version answered, if there is one.
    """

    answers: list[tuple[int, str]] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    second: int | None = None


@dataclass
class Seen:
    """What the second process has made of all cases.

    Attributes:
        outcomes: by the case's sentence.
        untouched: what models answered that nobody had touched, and those where only what may change was changed.
        log: everything that was logged.
        plain: pieces of the plans, in hexadecimal.
        folder: the gateway's.
    """

    outcomes: dict[str, Outcome]
    untouched: dict[str, int]
    log: str
    plain: list[str]
    folder: str


@dataclass
class _Target:
    case: Case
    slug: str
    own: Stored
    second: Stored | None = None
    certificate: str = ""
    former: Artifact | None = None
    retired: Mapping[str, Any] = field(default_factory=dict)
    asked: ModelRef = field(default_factory=lambda: ModelRef(""))


class _Publishing:
    """The first process."""

    def __init__(self, world: World, demo: DemoModel) -> None:
        self.world = world
        self.demo = demo
        self.plans: list[bytes] = []
        self._owners: dict[str, Principal] = {}
        self._turn = asyncio.Semaphore(4)
        self._stores = world.gateway.erase._stores

    async def publish(self, slug: str, name: str, *, version: int = 1, tail_bytes: int = 16) -> Stored:
        model = DemoModel(self.demo.seed, self.demo.made.with_tail(os.urandom(tail_bytes)))
        self.plans.append(model.plan)
        async with self._turn:
            staged = await uploaded_model(self.world, slug, name, model, version=version)
            await self.world.gateway.promote.promote(await self._owner(slug), ModelRef(name, version))
        return Stored(staged, self.world.settings.data_dir / "blobs")

    async def target(self, number: int, case: Case) -> _Target:
        slug, name = "acme", f"case-{number}"
        if case.has_tenant:
            slug = name
            await self.world.tenant(slug)
        tail_bytes = LONG_BYTES if case.is_long else 16
        second = await self.publish(slug, name, version=1, tail_bytes=tail_bytes) if case.has_second else None
        own = await self.publish(slug, name, version=2 if case.has_second else 1, tail_bytes=tail_bytes)
        target = _Target(case, slug, own, second, asked=ModelRef(name, own.version.version))
        target.certificate = await self._stores.statements.sign(CERTIFICATE, read(own.version.manifest.split(".")[1]))
        if case.has_former:
            place = Place(own.version.tenant, own.version.model_id, own.version.version)
            plan = self.demo.plan + bytes(tail_bytes)
            target.former = await self._stores.artifacts.seal(place, ArtifactRole.LITERT, [plan])
        if case.retired_until is not None:
            target.retired = await self._retire(own, case.retired_until)
        return target

    async def _owner(self, slug: str) -> Principal:
        if slug not in self._owners:
            self._owners[slug] = await self.world.principal(self.world.owners[slug])
        return self._owners[slug]

    async def _retire(self, own: Stored, until: KeyState) -> Mapping[str, Any]:
        """Rotate the tenant's ring and retire its first version; return the wrapped key's row as it was."""
        keyring, tenant = self._stores.keyring, own.version.tenant
        async with keyring.database.connection(is_write=False) as connection:
            found = sa.select(DATA_KEYS).where(DATA_KEYS.c.artifact_id == own.artifact.artifact_id)
            before = dict((await connection.execute(found)).mappings().one())
        await rotate(keyring, tenant, Purpose.ARTIFACTS)
        for state in (KeyState.DISABLED, KeyState.DESTROYED):
            await keyring.move(tenant, Purpose.ARTIFACTS, 1, state=state)
            if state is until:
                break
        return before


async def rotate(keyring: Keyring, tenant: TenantId, purpose: Purpose) -> None:
    number = await keyring.add_version(tenant, purpose)
    await keyring.move(tenant, purpose, number, state=KeyState.PRIMARY)
    async for _ in rewrap(keyring, tenant, purpose):
        pass


async def _see(folder: Path, demo: DemoModel) -> Seen:
    async with running_gateway(folder, logs={"form": "json"}) as world:
        await world.tenants("acme", "globex")
        publishing = _Publishing(world, demo)
        other, theirs, kept, staged = await asyncio.gather(
            publishing.publish("acme", "other", tail_bytes=LONG_BYTES),
            publishing.publish("globex", "theirs", tail_bytes=LONG_BYTES),
            publishing.publish("acme", "kept"),
            uploaded_model(world, "acme", "staged", demo),
        )
        targets = await asyncio.gather(*(publishing.target(number, case) for number, case in enumerate(CASES)))
        headers = {slug: await world.headers(owner) for slug, owner in world.owners.items()}
        for target in targets:
            answer = await _predict(world, headers[target.slug], target.asked, demo)
            assert answer.status_code == 200, f"before it was tampered with, {target.case.sentence}: {answer.text}"
        settings = world.settings
    main, keys = _engines(settings)
    for target in targets:
        token = headers[target.slug]["authorization"].removeprefix("Bearer ")
        known = (target.own, target.second, other, theirs, token, target.certificate, target.former, target.retired)
        attack = Attack(main, keys, *known, target.asked)
        target.case.tamper(attack)
        target.asked = attack.asked
    _change_what_may_change(main, staged, kept.version)
    _close(main, keys)
    with _logging() as log:
        async with joined_gateway(world) as found:
            outcomes = {t.case.sentence: await _outcome(found, headers[t.slug], t, demo) for t in targets}
            untouched = {
                f"{slug}: {ref}": (await _predict(found, headers[slug], ref, demo)).status_code
                for slug, ref in (
                    ("acme", ModelRef("other")),
                    ("acme", ModelRef("kept")),
                    ("acme", ModelRef("kept", label="stable")),
                    ("acme", ModelRef("staged")),
                    ("globex", ModelRef("theirs")),
                )
            }
            await found.gateway.audit.flush()
            events = {slug: await _events(found, headers[slug]) for slug in headers}
    lines = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]
    for target in targets:
        outcome, thing = outcomes[target.case.sentence], f"model {target.asked}"
        outcome.events = [event for event in events[target.slug] if event["thing"] == thing]
        outcome.lines = [
            line
            for line in lines
            if (line.get("model"), line.get("version")) == (target.asked.name, target.asked.version)
        ]
    tails = [plan[len(demo.plan) :][:SEGMENT_BYTES] for plan in publishing.plans]
    plain = [*pieces_of(demo.plan), *(tail[-PIECE_BYTES:] for tail in tails if len(tail) > PIECE_BYTES)]
    return Seen(outcomes, untouched, log.getvalue(), [piece.hex() for piece in plain], str(settings.data_dir))


def _change_what_may_change(main: sa.Engine, staged: ModelVersion, kept: ModelVersion) -> None:
    """Stages and labels are not in the manifest: whoever moves one by hand is answered as if it had been promoted."""
    with main.begin() as connection:
        connection.execute(
            sa.update(MODEL_VERSIONS).where(MODEL_VERSIONS.c.model_id == staged.model_id).values(stage="serving")
        )
        label = {"model_id": kept.model_id, "label": "stable", "tenant_id": kept.tenant, "version": kept.version}
        connection.execute(sa.insert(LABELS).values(**label))


async def _outcome(world: World, headers: dict[str, str], target: _Target, demo: DemoModel) -> Outcome:
    ref = target.asked
    outcome = Outcome()
    answer = await _predict(world, headers, ref, demo)
    outcome.answers.append((answer.status_code, answer.text))
    tensor = {"name": demo_input(demo), "datatype": "FP32", "shape": [1, 30], "data": list(demo.seed.example)}
    path = f"/v2/models/{ref.name}/versions/{ref.version}"
    answer = await world.http.post(f"{path}/infer", json={"inputs": [tensor]}, headers=headers)
    outcome.answers.append((answer.status_code, answer.text))
    told = await world.http.get(f"/v1/models/{ref.name}/versions/{ref.version}", headers=headers)
    outcome.status = told.json()["model_version_status"][0]
    if target.second is not None:
        outcome.second = (await _predict(world, headers, ModelRef(ref.name, 1), demo)).status_code
    return outcome


async def _predict(world: World, headers: dict[str, str], ref: ModelRef, demo: DemoModel) -> httpx.Response:
    which = f"/versions/{ref.version}" if ref.version is not None else f"/labels/{ref.label}" if ref.label else ""
    asked = {"instances": [list(demo.seed.example)]}
    return await world.http.post(f"/v1/models/{ref.name}{which}:predict", json=asked, headers=headers)


async def _events(world: World, headers: dict[str, str]) -> list[dict[str, Any]]:
    answer = await world.http.get("/admin/v1/audit/events?limit=1000", headers=headers)
    return [event for event in answer.json()["events"] if event["outcome"] == "alarm"]


def demo_input(demo: DemoModel) -> str:
    inputs: Any = demo.made.conversion.signature["inputs"]
    return str(inputs[0]["name"])


def _engines(settings: Settings) -> tuple[sa.Engine, sa.Engine]:
    urls = (settings.main_url, settings.keys_url)
    main, keys = (sa.create_engine(url.replace("+aiosqlite", "")) for url in urls)
    return main, keys


def _close(*engines: sa.Engine) -> None:
    for engine in engines:
        engine.dispose()


@contextmanager
def _logging() -> Iterator[io.StringIO]:
    """Keep what is logged by gateways that are opened within."""
    before = structlog.get_config()
    log = io.StringIO()
    with contextlib.redirect_stderr(log):
        yield log
    structlog.configure(**before)
    sys.stderr.write(log.getvalue())


@pytest.fixture(scope="module")
def seen(shared_folder: Path, demo: DemoModel) -> Seen:
    """What came of all cases; one worker looks, all others read it."""

    def build(folder: Path) -> None:
        (folder / "seen.json").write_text(json.dumps(dataclasses.asdict(asyncio.run(_see(folder, demo)))))

    found = json.loads((built_once(shared_folder, "tampered", build) / "seen.json").read_text())
    found["outcomes"] = {sentence: Outcome(**outcome) for sentence, outcome in found["outcomes"].items()}
    return Seen(**found)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.sentence) for case in CASES],
)
def test_a_version_is_refused_with_an_alarm_when(seen: Seen, case: Case) -> None:
    outcome = seen.outcomes[case.sentence]
    for status, text in outcome.answers:
        assert status == 503, text
        assert json.loads(text).keys() == {"error", "request_id"}
        assert "cannot be served" in json.loads(text)["error"]
    assert (outcome.status["state"], outcome.status["status"]["error_code"]) == ("END", "UNAVAILABLE")
    (line,) = outcome.lines
    assert (line["event"], line["level"]) == ("integrity_alarm", "critical")
    assert line["reason"] == outcome.status["status"]["error_message"]
    assert line["reason"] in json.loads(outcome.answers[0][1])["error"]
    (event,) = outcome.events
    assert (event["kind"], event["outcome"], event["reason"]) == ("model.integrity", "alarm", case.reason)
    assert outcome.second == (200 if case.has_second else None)


def test_what_nobody_has_touched_is_served_on_and_so_is_what_may_change(seen: Seen) -> None:
    assert seen.untouched == dict.fromkeys(seen.untouched, 200)


def test_neither_answers_nor_log_nor_files_give_anything_away(seen: Seen) -> None:
    search = Search({"plain": [bytes.fromhex(piece) for piece in seen.plain]})
    assert search.in_bytes(seen.log.encode()) == set()
    assert search.in_files(file for file in Path(seen.folder).rglob("*") if file.is_file()) == {}
    texts = [text for outcome in seen.outcomes.values() for status, text in outcome.answers if status != 200]
    for text in texts:
        assert search.in_bytes(text.encode()) == set()
        assert not re.search(r"predictions|outputs|0\.99|/tmp|blobs|root\.json|[0-9a-f]{32}", json.loads(text)["error"])


def test_every_tamper_case_has_its_test() -> None:
    assert {case.number for case in CASES if case.number} | ELSEWHERE.keys() | UNSEEN == set(range(1, 42))
    for test in {test for tests in ELSEWHERE.values() for test in tests}:
        file, name = test.split("::")
        assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8"), test


# What touches every tenant at once.


@dataclass(frozen=True)
class Small:
    """A stopped gateway: `bc` and `kept` of one tenant, `theirs` of another.

    Attributes:
        folder: the one above its data.
        operator: of the platform.
        headers: of each tenant's owner.
        models: identifier, tenant and manifest, by name.
        row: an example.
    """

    folder: str
    operator: Account
    headers: dict[str, dict[str, str]]
    models: dict[str, dict[str, str]]
    row: list[float]


@dataclass
class Whole:
    """What an attacker has of a copy of it."""

    main: sa.Engine
    keys: sa.Engine
    models: dict[str, dict[str, str]]

    def write_ring(self, purpose: Purpose, *where: sa.ColumnElement[bool], **values: Any) -> None:
        own = sa.and_(KEY_VERSIONS.c.purpose == purpose.value, *where)
        with self.keys.begin() as connection:
            connection.execute(sa.update(KEY_VERSIONS).where(own).values(**values))

    def ring(self, purpose: Purpose) -> list[Mapping[str, Any]]:
        with self.keys.connect() as connection:
            found = sa.select(KEY_VERSIONS).where(KEY_VERSIONS.c.purpose == purpose.value)
            return [dict(row) for row in connection.execute(found.order_by(KEY_VERSIONS.c.version)).mappings()]

    def drop_ring(self, purpose: Purpose) -> None:
        with self.keys.begin() as connection:
            connection.execute(sa.delete(KEY_VERSIONS).where(KEY_VERSIONS.c.purpose == purpose.value))

    def write(self, table: sa.Table, *, of: str, **values: Any) -> None:
        column = table.c.id if table is MODELS else table.c.model_id
        with self.main.begin() as connection:
            own = column == uuid.UUID(self.models[of]["model_id"])
            connection.execute(sa.update(table).where(own).values(**values))

    def forge(self, *, kid: str) -> None:
        """Sign the manifest of `bc` as a stranger, who says to have published it."""
        first, second, _ = self.models["bc"]["manifest"].split(".")
        said = read(second)
        said["published"]["by"] = "mallory"
        signed = f"{encoded(canonical_json({**read(first), 'kid': kid}))}.{encoded(canonical_json(said))}"
        forged = f"{signed}.{encoded(STRANGER.sign(signed.encode()))}"
        self.write(MODEL_VERSIONS, of="bc", manifest=forged, created_by="mallory")


async def _stopped(folder: Path, demo: DemoModel) -> Small:
    async with running_gateway(folder, logs={"form": "json"}) as world:
        await world.tenants("acme", "globex")
        publishing = _Publishing(world, demo)
        await publishing._stores.keyring.add_version(PLATFORM, Purpose.ROOT)
        models = {"bc": "acme", "kept": "acme", "theirs": "globex"}
        stored = {name: await publishing.publish(slug, name) for name, slug in models.items()}
        for name, slug in models.items():
            tenant = await world.tenant_id(slug)
            await world.gateway.reconciler.settle(tenant, name, Deadline.after(SERVED_WITHIN_S))
        headers = {slug: await world.headers(world.owners[slug]) for slug in ("acme", "globex")}
        known = {name: _known(found.version) for name, found in stored.items()}
        return Small(str(folder), world.operator, headers, known, list(demo.seed.example))


def _known(version: ModelVersion) -> dict[str, str]:
    return {"model_id": str(version.model_id), "tenant": str(version.tenant), "manifest": version.manifest}


@pytest.fixture(scope="module")
def small(shared_folder: Path, demo: DemoModel) -> Small:
    """The stopped gateway, of which each test has a copy."""

    def build(folder: Path) -> None:
        (folder / "small.json").write_text(json.dumps(dataclasses.asdict(asyncio.run(_stopped(folder, demo)))))

    found = json.loads((built_once(shared_folder, "untampered", build) / "small.json").read_text())
    return Small(**{**found, "operator": Account(**found["operator"])})


@pytest.fixture
def whole(small: Small, tmp_path: Path) -> Iterator[Whole]:
    shutil.copytree(Path(small.folder) / "gateway", tmp_path / "gateway")
    main, keys = _engines(gateway_settings(tmp_path))
    yield Whole(main, keys, small.models)
    _close(main, keys)


async def _served(small: Small, settings: Settings) -> tuple[dict[tuple[str, str], int], set[tuple[str, str]]]:
    """Return what each model answers each tenant, and of which versions each tenant's audit record has an alarm."""
    answers, alarms = {}, set()
    async with joined_gateway(settings, small.operator) as world:
        for slug, headers in small.headers.items():
            for name in small.models:
                path = f"/v1/models/{name}:predict"
                answer = await world.http.post(path, json={"instances": [small.row]}, headers=headers)
                answers[slug, name] = answer.status_code
        await world.gateway.audit.flush()
        for slug, headers in small.headers.items():
            alarms |= {(slug, event["thing"]) for event in await _events(world, headers)}
    return answers, alarms


def _expected(*refused: str) -> tuple[dict[tuple[str, str], int], set[tuple[str, str]]]:
    owners = {"bc": "acme", "kept": "acme", "theirs": "globex"}
    answers = {
        (slug, name): 404 if slug != owner else 503 if name in refused else 200
        for slug in ("acme", "globex")
        for name, owner in owners.items()
    }
    return answers, {(owners[name], f"model {name}/versions/1") for name in refused}


def _swap_the_references(w: Whole) -> None:
    first, second = w.ring(Purpose.ROOT)
    for row, other in ((first, second), (second, first)):
        public = {**row["public"], "name": other["public"]["name"]}
        w.write_ring(Purpose.ROOT, KEY_VERSIONS.c.version == row["version"], public=public)


def _put_the_strangers_key(w: Whole, *, kid: str) -> None:
    w.write_ring(Purpose.STATEMENTS, public={**STRANGER.public_jwk(), "kid": kid, "alg": "ES256", "use": "sig"})
    w.forge(kid=kid)


def _wrapped_of(w: Whole, purpose: Purpose) -> bytes:
    return bytes(w.ring(purpose)[0]["wrapped"])


ALL = ("bc", "kept", "theirs")

PLATFORM_ROWS: dict[str, tuple[Callable[[Whole], object], tuple[str, ...]]] = {
    "the key of statements is a stranger's, who has signed a manifest": (
        lambda w: _put_the_strangers_key(w, kid=STRANGER.key_id),
        ALL,
    ),
    "the key of statements is a stranger's under our key's name": (
        lambda w: _put_the_strangers_key(w, kid=w.ring(Purpose.STATEMENTS)[0]["public"]["kid"]),
        ("bc",),
    ),
    "the key of statements has no public half": (lambda w: w.write_ring(Purpose.STATEMENTS, public=None), ALL),
    "the key of statements has a public half that is nothing": (
        lambda w: w.write_ring(Purpose.STATEMENTS, public={}),
        ALL,
    ),
    "the key of statements is disabled": (lambda w: w.write_ring(Purpose.STATEMENTS, state="disabled"), ALL),
    "the key of statements is altered": (lambda w: w.write_ring(Purpose.STATEMENTS, wrapped=bytes(60)), ALL),
    "the key of statements is the one that signs tokens": (
        lambda w: w.write_ring(Purpose.STATEMENTS, wrapped=_wrapped_of(w, Purpose.TOKEN_SIGNING)),
        ALL,
    ),
    "the key of statements is gone": (lambda w: w.drop_ring(Purpose.STATEMENTS), ALL),
    "the root key's versions name each other's key": (_swap_the_references, ALL),
    "the root key's version names a key that there is not": (
        lambda w: w.write_ring(Purpose.ROOT, public={**w.ring(Purpose.ROOT)[0]["public"], "name": "another"}),
        ALL,
    ),
    "the root key is disabled": (lambda w: w.write_ring(Purpose.ROOT, state="disabled"), ALL),
    "the root key's row is gone": (lambda w: w.drop_ring(Purpose.ROOT), ALL),
    **{
        f"a row of the registry has {what}": (
            lambda w, values=values: w.write(MODEL_VERSIONS, of="bc", **values),  # type: ignore[misc]
            ("bc",),
        )
        for what, values in {
            "a stage that there is not": {"stage": "asleep"},
            "a plan without members": {"plan": {}},
            "a signature without members": {"signature": {}},
            "a datatype that there is not": {
                "signature": {"inputs": [{"name": "x", "datatype": "FP31", "shape": [-1]}], "outputs": []}
            },
            "a plan that is no JSON": {"plan": sa.text("'['")},
        }.items()
    },
}


@pytest.mark.parametrize(
    ("tamper", "refused"),
    [pytest.param(tamper, refused, id=sentence) for sentence, (tamper, refused) in PLATFORM_ROWS.items()],
)
def test_what_it_touches_is_refused_and_all_else_served_on_when(
    small: Small, whole: Whole, tmp_path: Path, tamper: Callable[[Whole], object], refused: tuple[str, ...]
) -> None:
    tamper(whole)
    with _logging() as log:
        answers, alarms = asyncio.run(_served(small, gateway_settings(tmp_path, logs={"form": "json"})))
    assert (answers, alarms) == _expected(*refused)
    lines = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]
    assert {line["model"] for line in lines if line["event"] == "integrity_alarm"} == set(refused)


def test_a_model_whose_row_was_given_to_another_tenant_is_served_to_neither(
    small: Small, whole: Whole, tmp_path: Path
) -> None:
    whole.write(MODELS, of="bc", tenant_id=uuid.UUID(whole.models["theirs"]["tenant"]))
    answers, alarms = asyncio.run(_served(small, gateway_settings(tmp_path)))
    assert answers["acme", "bc"] in {404, 503}
    assert answers["globex", "bc"] in {404, 503}
    assert {thing for _, thing in alarms} == {"model bc/versions/1"}
    for name in ("kept", "theirs"):
        assert {answers[slug, name] for slug in ("acme", "globex")} == {200, 404}


def test_a_place_that_nobody_has_touched_is_served(small: Small, whole: Whole, tmp_path: Path) -> None:
    assert asyncio.run(_served(small, gateway_settings(tmp_path))) == _expected()


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(lambda w: w.write_ring(Purpose.ROOT, wrapped=bytes(60)), id="proof is altered"),
        pytest.param(lambda w: w.write_ring(Purpose.ROOT, wrapped=b""), id="proof is nothing"),
        pytest.param(_swap_the_references, id="versions name each other's key"),
        pytest.param(
            lambda w: w.write_ring(Purpose.ROOT, wrapped=_wrapped_of(w, Purpose.ROOT)), id="versions share one proof"
        ),
        *(
            pytest.param(
                lambda w, name=name: w.write_ring(Purpose.ROOT, public={**w.ring(Purpose.ROOT)[0]["public"], name: "x"}),
                id=f"row says another {name}",
            )
            for name in ("name", "holder", "deployment")
        ),
    ],
)  # fmt: skip
def test_a_gateway_does_not_start_when_the_root_keys(
    whole: Whole, tmp_path: Path, tamper: Callable[[Whole], object]
) -> None:
    settings = gateway_settings(tmp_path)
    tamper(whole)
    before = settings.root_file.read_bytes()
    with pytest.raises(Misconfigured, match="is not this deployment's"):
        asyncio.run(prepare(settings, makes_root_key=False))
    assert settings.root_file.read_bytes() == before

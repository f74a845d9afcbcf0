"""Tampering with what a gateway has stored: what an attacker finds, what can be done to it, and every case of it.

A case is wrong in exactly the one way that its sentence says; the attacker has the blobs, the databases and whatever a
caller or an operator may have, and no key. Source: `security.md` 1.6, whose numbers the cases bear.
"""

import base64
import dataclasses
import hmac
import json
import re
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from maas_gateway.controlplane.erase import CERTIFICATE
from maas_gateway.crypto.chunked import SEGMENT_BYTES, plain_size
from maas_gateway.crypto.digests import canonical_json
from maas_gateway.crypto.signatures import ES256Signer
from maas_gateway.identifiers import ModelRef, TenantId
from maas_gateway.keyring.key import KeyState
from maas_gateway.keyring.tables import DATA_KEYS, KEY_VERSIONS
from maas_gateway.registry.model import Artifact, ArtifactRole, ModelVersion
from maas_gateway.registry.tables import ARTIFACTS, MODEL_VERSIONS, MODELS

STREAM_HEAD_BYTES = 40
LONG_BYTES = 3 * SEGMENT_BYTES + SEGMENT_BYTES // 2
"""What makes a plan fill three segments and a part of a fourth; a flatbuffer may have anything behind it."""

LOOK_ALIKES = str.maketrans("ace036", "\u0430\u0441\u0435\u041e\u0417\u0431")
STRANGER = ES256Signer(ES256Signer.generate_key())


@dataclass(frozen=True)
class Stored:
    """The plan of a version, at rest."""

    version: ModelVersion
    blobs: Path

    @property
    def artifact(self) -> Artifact:
        return self.version.artifact(ArtifactRole.LITERT)

    @property
    def blob(self) -> Path:
        name = str(self.artifact.artifact_id)
        return self.blobs / name[:2] / name

    @property
    def header(self) -> bytes:
        content = self.blob.read_bytes()
        return content[10 : 10 + int.from_bytes(content[6:10], "big")]

    @property
    def head(self) -> bytes:
        """Everything before the commitment."""
        return self.blob.read_bytes()[: 10 + len(self.header)]

    @property
    def commitment(self) -> bytes:
        return self.blob.read_bytes()[len(self.head) :][:32]

    @property
    def segments(self) -> list[bytes]:
        """The body; the stream's header stands before the first."""
        body = self.blob.read_bytes()[len(self.head) + 32 :]
        return [body[start : start + SEGMENT_BYTES] for start in range(0, len(body), SEGMENT_BYTES)]


@dataclass
class Attack:
    """What an attacker has, once the gateway has stopped.

    Attributes:
        main: the main database.
        keys: the key store.
        own: what is tampered with.
        second: an older version of the same model, if the case has one.
        other: another model of the same tenant.
        theirs: another tenant's model.
        token: an access token of the tenant's owner.
        certificate: a statement of another kind that says what the manifest says.
        former: an artifact of the same size that was once sealed for the same version, if the case has one.
        retired: what the wrapped key's row was before a rotation, if the case has had one.
        asked: what callers ask for afterwards.
    """

    main: sa.Engine
    keys: sa.Engine
    own: Stored
    second: Stored | None
    other: Stored
    theirs: Stored
    token: str
    certificate: str
    former: Artifact | None
    retired: Mapping[str, Any]
    asked: ModelRef

    def run(self, engine: sa.Engine, *statements: sa.Update | sa.Delete) -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)

    def data_key(self, of: Stored) -> Mapping[str, Any]:
        with self.keys.connect() as connection:
            found = sa.select(DATA_KEYS).where(DATA_KEYS.c.artifact_id == of.artifact.artifact_id)
            return dict(connection.execute(found).mappings().one())

    def write_data_key(self, **values: Any) -> None:
        own = DATA_KEYS.c.artifact_id == self.own.artifact.artifact_id
        self.run(self.keys, sa.update(DATA_KEYS).where(own).values(**values))

    def take_data_key(self, of: Stored) -> None:
        row = self.data_key(of)
        self.write_data_key(**{name: row[name] for name in ("nonce", "context", "ciphertext", "key_version")})

    def write_version(self, **values: Any) -> None:
        version = self.own.version
        own = sa.and_(MODEL_VERSIONS.c.model_id == version.model_id, MODEL_VERSIONS.c.version == version.version)
        self.run(self.main, sa.update(MODEL_VERSIONS).where(own).values(**values))

    def write_artifact(self, **values: Any) -> None:
        own = ARTIFACTS.c.id == self.own.artifact.artifact_id
        self.run(self.main, sa.update(ARTIFACTS).where(own).values(**values))

    def write_ring(self, **values: Any) -> None:
        self.run(self.keys, sa.update(KEY_VERSIONS).where(self.own_ring).values(**values))

    @property
    def own_ring(self) -> sa.ColumnElement[bool]:
        return sa.and_(KEY_VERSIONS.c.tenant_id == self.own.version.tenant, KEY_VERSIONS.c.purpose == "artifacts")


Tamper = Callable[[Attack], object]


@dataclass(frozen=True)
class Case:
    """One way of tampering.

    Attributes:
        sentence: what was done.
        tamper: does it.
        number: in the list of `security.md`, if it is there.
        reason: what the audit record gives as the reason.
        is_long: whether the plan has four segments.
        has_second: whether the model has an older version, which is to be served on.
        has_former: whether the version once had another artifact.
        has_tenant: whether the model is alone in its tenant, because the tenant's ring is tampered with.
        retired_until: to which state the ring's first version is brought after a rotation, if there is one.
    """

    sentence: str
    tamper: Tamper
    number: int | None = None
    reason: str = "ciphertext-rejected"
    is_long: bool = False
    has_second: bool = False
    has_former: bool = False
    has_tenant: bool = False
    retired_until: KeyState | None = None


def blob(change: Callable[[bytes], bytes]) -> Tamper:
    return lambda a: a.own.blob.write_bytes(change(a.own.blob.read_bytes()))


def flip(offset: int) -> Tamper:
    def flipped(content: bytes) -> bytes:
        altered = bytearray(content)
        altered[offset] ^= 1
        return bytes(altered)

    return blob(flipped)


def header(change: Callable[[bytes], bytes]) -> Tamper:
    """Change the header's text; its length is written anew."""

    def tamper(a: Attack) -> None:
        before, head, content = a.own.header, a.own.head, a.own.blob.read_bytes()
        after = change(before)
        assert after != before
        a.own.blob.write_bytes(head[:6] + struct.pack(">I", len(after)) + after + content[len(head) :])

    return tamper


def segments(change: Callable[[list[bytes], Attack], Sequence[bytes]]) -> Tamper:
    def tamper(a: Attack) -> None:
        found = a.own.segments
        assert len(found) == 4
        a.own.blob.write_bytes(a.own.head + a.own.commitment + b"".join(change(found, a)))

    return tamper


def put(content: Callable[[Attack], bytes]) -> Tamper:
    return lambda a: a.own.blob.write_bytes(content(a))


def data_key(**values: Any) -> Tamper:
    return lambda a: a.write_data_key(**values)


def ring(**values: Any) -> Tamper:
    return lambda a: a.write_ring(**values)


def version_row(change: Callable[[ModelVersion], Mapping[str, Any]]) -> Tamper:
    return lambda a: a.write_version(**change(a.own.version))


def artifact_row(**values: Any) -> Tamper:
    return lambda a: a.write_artifact(**values)


def manifest(change: Callable[[Attack], str | None]) -> Tamper:
    return lambda a: a.write_version(manifest=change(a))


def body(change: Callable[[dict[str, Any]], object]) -> Tamper:
    """Change what the manifest says, and leave its signature."""

    def tamper(a: Attack) -> None:
        first, second, third = a.own.version.manifest.split(".")
        said = read(second)
        change(said)
        a.write_version(manifest=f"{first}.{encoded(canonical_json(said))}.{third}")

    return tamper


def resigned(a: Attack, sign: Callable[[bytes], bytes], **changes: object) -> str:
    """Return the manifest under a changed header, signed by somebody else."""
    first, second, _ = a.own.version.manifest.split(".")
    signed = f"{encoded(canonical_json({**read(first), **changes}))}.{second}"
    return f"{signed}.{encoded(sign(signed.encode()))}"


def part(a: Attack, number: int, change: Callable[[str], str]) -> str:
    parts = a.own.version.manifest.split(".")
    parts[number] = change(parts[number])
    return ".".join(parts)


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def read(text: str) -> dict[str, Any]:
    found = json.loads(base64.urlsafe_b64decode(text + "=="))
    assert isinstance(found, dict)
    return found


def second(a: Attack) -> Stored:
    assert a.second is not None
    return a.second


def look_alike(content: bytes) -> bytes:
    tenant = json.loads(content)["tenant_id"]
    return content.replace(tenant.encode(), tenant.translate(LOOK_ALIKES).encode())


def cut_with_its_size(a: Attack) -> None:
    body_bytes = 3 * SEGMENT_BYTES
    a.own.blob.write_bytes(a.own.blob.read_bytes()[: len(a.own.head) + 32 + body_bytes])
    a.write_artifact(plain_bytes=plain_size(body_bytes), sealed_bytes=a.own.blob.stat().st_size)


def blob_and_key_of(donor: Callable[[Attack], Stored]) -> Tamper:
    def tamper(a: Attack) -> None:
        shutil.copyfile(donor(a).blob, a.own.blob)
        a.take_data_key(donor(a))

    return tamper


def swap_keys_with_the_other_plan(a: Attack) -> None:
    other = Stored(dataclasses.replace(a.own.version, artifacts=(_as_plan(a.own),)), a.own.blobs)
    row = a.data_key(other)
    a.write_data_key(**{name: row[name] for name in ("nonce", "context", "ciphertext")})


def _as_plan(stored: Stored) -> Artifact:
    return dataclasses.replace(stored.version.artifact(ArtifactRole.KERAS), role=ArtifactRole.LITERT)


def swap_roles(a: Attack) -> None:
    """The other plan's row says it is the one that serves, and the other way round."""
    other = a.own.version.artifact(ArtifactRole.KERAS).artifact_id
    a.write_artifact(role="parked")
    a.run(a.main, sa.update(ARTIFACTS).where(ARTIFACTS.c.id == other).values(role="litert"))
    a.write_artifact(role="keras")


def rename(a: Attack) -> None:
    name = f"{a.own.version.model}-renamed"
    a.run(a.main, sa.update(MODELS).where(MODELS.c.id == a.own.version.model_id).values(name=name))
    a.asked = ModelRef(name, a.own.version.version)


def renumber(a: Attack) -> None:
    a.write_version(version=9)
    a.run(a.main, sa.update(ARTIFACTS).where(ARTIFACTS.c.model_id == a.own.version.model_id).values(version=9))
    a.asked = ModelRef(a.own.version.model, 9)


def use_the_former_artifact(a: Attack) -> None:
    assert a.former is not None
    assert a.former.plain_bytes == a.own.artifact.plain_bytes
    a.write_artifact(id=a.former.artifact_id, sealed_bytes=a.former.sealed_bytes)


def put_back_the_retired_key(a: Attack) -> None:
    assert a.retired["key_version"] == 1
    assert a.data_key(a.own)["key_version"] == 2
    a.write_data_key(**{name: a.retired[name] for name in ("nonce", "ciphertext", "key_version")})


def swap_wrapped(a: Attack, tenant: TenantId, purpose: str) -> None:
    with a.keys.connect() as connection:
        where = (KEY_VERSIONS.c.tenant_id == tenant, KEY_VERSIONS.c.purpose == purpose)
        wrapped = connection.execute(sa.select(KEY_VERSIONS.c.wrapped).where(*where)).scalar_one()
    a.write_ring(wrapped=wrapped)


def renumber_the_ring(a: Attack) -> None:
    a.write_ring(version=2)
    a.write_data_key(key_version=2)


def flip_the_wrapped(table: sa.Table, column: str, where: Callable[[Attack], sa.ColumnElement[bool]]) -> Tamper:
    def tamper(a: Attack) -> None:
        with a.keys.connect() as connection:
            content = bytearray(connection.execute(sa.select(table.c[column]).where(where(a))).scalar_one())
        content[-1] ^= 1
        a.run(a.keys, sa.update(table).where(where(a)).values({column: bytes(content)}))

    return tamper


def own_data_key(a: Attack) -> sa.ColumnElement[bool]:
    return DATA_KEYS.c.artifact_id == a.own.artifact.artifact_id


SIGNED = "signature-rejected"

BLOBS = [
    Case("the blob is empty", blob(lambda b: b""), 1),
    Case("the blob is gone", lambda a: a.own.blob.unlink()),
    Case("only the header is left", put(lambda a: a.own.head), 2),
    Case("only the header and the commitment are left", put(lambda a: a.own.head + a.own.commitment), 2),
    Case("the last byte is cut", blob(lambda b: b[:-1]), 3),
    Case("the last segment is cut", segments(lambda s, a: s[:3]), 4, is_long=True),
    Case("it is cut between segments and the row says so", cut_with_its_size, 5, SIGNED, is_long=True),
    Case("a byte is appended", blob(lambda b: b + b"\0"), 6),
    Case("a segment is appended", segments(lambda s, a: [*s, s[1]]), 7, is_long=True),
    Case("two segments are swapped", segments(lambda s, a: [s[0], s[2], s[1], s[3]]), 8, is_long=True),
    Case("a segment comes twice", segments(lambda s, a: [s[0], s[1], s[1], s[2], s[3]]), 9, is_long=True),
    Case("the first segment is dropped", segments(lambda s, a: [s[0][:STREAM_HEAD_BYTES], *s[1:]]), 10, is_long=True),
    Case("a segment is another model's", segments(lambda s, a: [s[0], a.other.segments[1], *s[2:]]), 11, is_long=True),
    Case(
        "a segment is another version's",
        segments(lambda s, a: [s[0], second(a).segments[1], *s[2:]]),
        12,
        is_long=True,
        has_second=True,
    ),
    Case("a segment is another tenant's", segments(lambda s, a: [s[0], a.theirs.segments[1], *s[2:]]), is_long=True),
    Case("the header is another model's", put(lambda a: a.other.head + a.own.blob.read_bytes()[len(a.own.head) :]), 13),
    Case("all but the header is another model's", put(lambda a: a.own.head + a.other.commitment + b"".join(a.other.segments)), 14),
    Case("the body is another model's", put(lambda a: a.own.head + a.own.commitment + b"".join(a.other.segments)), 14),
    Case("the blob is another model's", put(lambda a: a.other.blob.read_bytes())),
    Case("the blob is another tenant's", put(lambda a: a.theirs.blob.read_bytes()), 15),
    Case("blob and key are another tenant's", blob_and_key_of(lambda a: a.theirs), 16),
    Case("blob and key are another model's", blob_and_key_of(lambda a: a.other)),
    Case("blob and key are the older version's", blob_and_key_of(second), 17, has_second=True),
    Case("the blob is the older version's", put(lambda a: second(a).blob.read_bytes()), 18, has_second=True),
    Case("the format's number is lowered", blob(lambda b: b[:4] + b"\0\0" + b[6:]), 19),
    Case("the format's number is raised", blob(lambda b: b[:4] + b"\0\2" + b[6:]), 19),
    Case("the algorithm is unknown", header(lambda h: h.replace(b"AES256-GCM", b"AES128-GCM")), 20),
    Case("the algorithm is none", header(lambda h: h.replace(b"AES256-GCM-HKDF-1MB", b"none")), 20),
    Case("the segments' size is another", header(lambda h: h.replace(b"-1MB", b"-4KB")), 21),
    Case("the magic is another", blob(lambda b: b"MGW2" + b[4:]), 22),
    Case("the header names a tenant that looks alike", header(look_alike), 26),
    Case("the header has a key more", header(lambda h: h[:-1] + b',"zone":"x"}'), 27),
    Case("the header's version is text", header(lambda h: re.sub(rb'"version":(\d+)', rb'"version":"\1"', h)), 28),
    Case("the header has white space", header(lambda h: h.replace(b",", b", ")), 29),
    Case("the header says a key twice", header(lambda h: h[:-1] + b',"version":1}'), 29),
    Case("the header has bytes behind it", header(lambda h: h + b" "), 29),
    Case("the header has no length", blob(lambda b: b[:6] + bytes(4) + b[10:]), 30),
    Case("the header has the largest length", blob(lambda b: b[:6] + b"\xff" * 4 + b[10:]), 30),
    Case("the header is longer than the file", blob(lambda b: b[:6] + struct.pack(">I", len(b)) + b[10:]), 30),
    Case("the row says 2^63 - 1 bytes", artifact_row(plain_bytes=2**63 - 1), 31, SIGNED),
    Case("the commitment is zeros", put(lambda a: a.own.head + bytes(32) + b"".join(a.own.segments)), 36),
    Case("the commitment is another model's", put(lambda a: a.own.head + a.other.commitment + b"".join(a.own.segments)), 36),
    *(
        Case(f"a bit of {what} is flipped", flip(offset), 38)
        for what, offset in {
            "the magic": 0,
            "the format": 5,
            "the header's length": 9,
            "the header": 40,
            "the commitment": 265,
            "the stream's head": 300,
            "the body": 5_000,
            "the last tag": -1,
        }.items()
    ),
]  # fmt: skip

DATA_KEY_ROWS = [
    Case("the wrapped key names another version", data_key(key_version=7), 23),
    Case("the wrapped key names version 0", data_key(key_version=0), 23),
    Case("a bit of the wrapped key is flipped", flip_the_wrapped(DATA_KEYS, "ciphertext", own_data_key), 24),
    Case("the wrapped key is zeros", data_key(ciphertext=bytes(48)), 24),
    Case("the wrapped key is cut", data_key(ciphertext=bytes(47)), 24),
    Case("the wrapped key is nothing", data_key(ciphertext=b""), 24),
    Case("a bit of the wrapped key's nonce is flipped", flip_the_wrapped(DATA_KEYS, "nonce", own_data_key), 25),
    Case("the wrapped key's nonce is longer", data_key(nonce=bytes(13)), 25),
    Case("a bit of the wrapped key's context is flipped", flip_the_wrapped(DATA_KEYS, "context", own_data_key)),
    Case("the wrapped key has another purpose", data_key(purpose="audit")),
    Case("the wrapped key has a purpose that looks alike", data_key(purpose="\u0430rtifacts")),
    Case("the wrapped key is another tenant's by its row", lambda a: a.write_data_key(tenant_id=a.theirs.version.tenant)),
    Case("the wrapped key is gone", lambda a: a.run(a.keys, sa.delete(DATA_KEYS).where(own_data_key(a)))),
    Case("the wrapped key is the other plan's", swap_keys_with_the_other_plan),
    Case("the wrapped key is another model's", lambda a: a.take_data_key(a.other)),
    Case("the wrapped key is another tenant's", lambda a: a.take_data_key(a.theirs)),
]  # fmt: skip

RINGS = [
    Case(
        "a wrapped key is put back whose version was disabled",
        put_back_the_retired_key,
        32,
        has_tenant=True,
        retired_until=KeyState.DISABLED,
    ),
    Case(
        "a wrapped key is put back whose version was destroyed",
        put_back_the_retired_key,
        33,
        has_tenant=True,
        retired_until=KeyState.DESTROYED,
    ),
    Case("the ring's key is disabled", ring(state="disabled"), 33, has_tenant=True),
    Case("the ring's key is destroyed", ring(state="destroyed", wrapped=None), 33, has_tenant=True),
    Case("the ring's key is primary without bytes", ring(wrapped=None), 33, has_tenant=True),
    Case(
        "a bit of the ring's key is flipped",
        flip_the_wrapped(KEY_VERSIONS, "wrapped", lambda a: a.own_ring),
        24,
        has_tenant=True,
    ),
    Case("the ring's key is nothing", ring(wrapped=b""), has_tenant=True),
    Case(
        "the ring's key is another tenant's",
        lambda a: swap_wrapped(a, a.theirs.version.tenant, "artifacts"),
        has_tenant=True,
    ),
    Case(
        "the ring's key is that of the tenant's audit record",
        lambda a: swap_wrapped(a, a.own.version.tenant, "audit"),
        has_tenant=True,
    ),
    Case("the ring's key has another number", renumber_the_ring, has_tenant=True),
    Case("the ring's key is under a root key that there is not", ring(root_version=7), has_tenant=True),
    Case("the ring's key has gone", lambda a: a.run(a.keys, sa.delete(KEY_VERSIONS).where(a.own_ring)), has_tenant=True),
    Case(
        "the ring's key has a state that there is not",
        ring(state="asleep"),
        has_tenant=True,
    ),
]  # fmt: skip

MANIFESTS = [
    Case(sentence, tamper, reason=SIGNED, has_second="version" in sentence)
    for sentence, tamper in {
        "the manifest says another uploader": body(lambda m: m["published"].update(by="mallory")),
        "the manifest says another digest": body(lambda m: m["artifacts"]["litert"].update(digest="0" * 64)),
        "the manifest says no findings and no scanners": body(lambda m: m.update(findings=[], scanners={})),
        "the manifest has a member more": body(lambda m: m.update(more=1)),
        "the manifest is spelt with white space": manifest(
            lambda a: part(a, 1, lambda p: encoded(json.dumps(read(p), sort_keys=True).encode()))
        ),
        "the manifest is spelt with padding": manifest(lambda a: part(a, 1, lambda p: p + "=")),
        "the manifest has a newline behind it": manifest(lambda a: a.own.version.manifest + "\n"),
        "the manifest is gone": manifest(lambda a: None),
        "the manifest is empty": manifest(lambda a: ""),
        "the manifest is a word": manifest(lambda a: "manifest"),
        "the manifest is dots": manifest(lambda a: "." * 100_000),
        "the manifest is its payload only": manifest(lambda a: a.own.version.manifest.split(".")[1]),
        "the manifest's signature is altered": manifest(lambda a: part(a, 2, lambda p: ("B" if p[0] == "A" else "A") + p[1:])),
        "the manifest's signature is cut": manifest(lambda a: part(a, 2, lambda p: p[:43])),
        "the manifest's signature is stripped": manifest(lambda a: part(a, 2, lambda p: "")),
        "the manifest's signature is stripped with its dot": manifest(lambda a: a.own.version.manifest.rpartition(".")[0]),
        "the manifest's signature is zeros": manifest(lambda a: part(a, 2, lambda p: encoded(bytes(64)))),
        "the manifest's signature is another model's": manifest(
            lambda a: part(a, 2, lambda p: a.other.version.manifest.split(".")[2])
        ),
        "the manifest says alg none and has no signature": manifest(lambda a: resigned(a, lambda m: b"", alg="none")),
        "the manifest says alg HS256 and is keyed by our key's name": manifest(
            lambda a: resigned(a, lambda m: hmac.digest(kid_of(a).encode(), m, "sha256"), alg="HS256")
        ),
        "the manifest names a key that there is not": manifest(
            lambda a: resigned(a, STRANGER.sign, kid=STRANGER.key_id)
        ),
        "the manifest is signed by a stranger under our key's name": manifest(lambda a: resigned(a, STRANGER.sign)),
        "the manifest brings a stranger's key along": manifest(
            lambda a: resigned(a, STRANGER.sign, jwk=STRANGER.public_jwk())
        ),
        "the manifest names the key that signs tokens": manifest(
            lambda a: part(a, 0, lambda p: encoded(canonical_json({**read(p), "kid": read(a.token.split(".")[0])["kid"]})))
        ),
        "the manifest has the type of a certificate": manifest(
            lambda a: part(a, 0, lambda p: encoded(canonical_json({**read(p), "typ": f"{CERTIFICATE}+jws"})))
        ),
        "the manifest has no type": manifest(
            lambda a: part(a, 0, lambda p: encoded(canonical_json({k: v for k, v in read(p).items() if k != "typ"})))
        ),
        "the manifest is an older version's": manifest(lambda a: second(a).version.manifest),
        "the manifest is another model's": manifest(lambda a: a.other.version.manifest),
        "the manifest is another tenant's": manifest(lambda a: a.theirs.version.manifest),
        "a certificate of erasure that says the same is in its place": manifest(lambda a: a.certificate),
        "an access token is in its place": manifest(lambda a: a.token),
    }.items()
]  # fmt: skip

ROWS = [
    *(
        Case(f"the row says {sentence}", version_row(change), reason=SIGNED)
        for sentence, change in {
            "another format": lambda v: {"format": "onnx"},
            "another digest": lambda v: {"digest": "0" * 64},
            "another size": lambda v: {"size_bytes": v.size_bytes + 1},
            "another name of the output": lambda v: {"signature": altered(v, "outputs", name="malignant")},
            "another datatype of the input": lambda v: {"signature": altered(v, "inputs", datatype="INT32")},
            "another shape of the input": lambda v: {"signature": altered(v, "inputs", shape=[-1, 31])},
            "another order of the plan's inputs": lambda v: {"plan": {**v.plan.to_json(), "input_order": [1]}},
            "another order of the plan's outputs": lambda v: {"plan": {**v.plan.to_json(), "output_order": [1]}},
            "a smaller error of the plan": lambda v: {"plan": {**v.plan.to_json(), "max_relative_error": 0.0}},
            "that the other plan serves": lambda v: {"plan": {**v.plan.to_json(), "runtime": "keras"}},
            "that the plans are the other way round": lambda v: {
                "plan": v.other_plans[0].to_json(),
                "other_plans": [v.plan.to_json()],
            },
            "that the other plan may run in the gateway": lambda v: {
                "other_plans": [{**v.other_plans[0].to_json(), "placement": "threads"}]
            },
            "no other plan": lambda v: {"other_plans": None},
            "another uploader": lambda v: {"created_by": "mallory"},
            "another time": lambda v: {"created_at": v.created_at.replace(year=2020)},
            "a publisher": lambda v: {
                "publisher": {"key_id": "k", "name": "builder", "form": "es256", "signature": "AAAA"}
            },
            "findings that nobody found": lambda v: {"findings": [{"rule": "r", "severity": "note"}]},
        }.items()
    ),
    Case(
        "the row says a runtime that there is not",
        version_row(lambda v: {"plan": {**v.plan.to_json(), "runtime": "pickle"}}),
        reason=SIGNED,
    ),
    Case(
        "the version's row is another tenant's",
        lambda a: a.write_version(tenant_id=a.theirs.version.tenant),
        reason=SIGNED,
    ),
    Case("the model has another name", rename, reason=SIGNED),
    Case("the version has another number", renumber, reason=SIGNED),
    Case("the plan's row says a byte more", lambda a: a.write_artifact(plain_bytes=a.own.artifact.plain_bytes + 1), reason=SIGNED),
    Case("the plan's row says another digest", artifact_row(digest="0" * 64), reason=SIGNED),
    Case("the plan's row says another role", artifact_row(role="kerasx"), reason="integrity-failure"),
    Case("the rows of both plans say each other's role", swap_roles, reason=SIGNED),
    Case("the plan's row is gone", lambda a: a.run(a.main, sa.delete(ARTIFACTS).where(ARTIFACTS.c.id == a.own.artifact.artifact_id)), reason="integrity-failure"),
    Case(
        "the plan's row names an artifact that was once sealed for the same version",
        use_the_former_artifact,
        reason=SIGNED,
        has_former=True,
    ),
]  # fmt: skip

CASES = [*BLOBS, *DATA_KEY_ROWS, *RINGS, *MANIFESTS, *ROWS]


def kid_of(a: Attack) -> str:
    return str(read(a.own.version.manifest.split(".")[0])["kid"])


def altered(version: ModelVersion, side: str, **changes: object) -> dict[str, Any]:
    found = json.loads(json.dumps(version.signature.to_json()))
    found[side][0].update(changes)
    return dict(found)

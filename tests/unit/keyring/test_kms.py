"""The KMS holder against two emulators of AWS, and against answers that neither gives."""

import asyncio
import base64
import hashlib
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from key_services import REGION, AnsweringKMS, KMSEmulator, free_port, session
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected, Conflict, KeyHolderUnavailable, Misconfigured
from maas_gateway.identifiers import new_id
from maas_gateway.keyring.holder import Reference, RootKeyHolder
from maas_gateway.keyring.kms import MAX_WRAPPED_BYTES, KMSHolder

pytestmark = [pytest.mark.anyio, pytest.mark.services]

KEY = KeyMaterial.generate()
BOUND_TO = b"artifacts of one tenant"
ARN = f"arn:aws:kms:{REGION}:123456789012:key/00000000-0000-4000-8000-000000000000"
REFERENCE = {"key": ARN}
ONE_TRY_S = 3.0
"""A deadline that has no room for a second try."""
MOTO_NAME_BYTES = 36
"""moto's ciphertext begins with the key's id, and an unknown id is refused as a matter of access."""

Call = Callable[[KMSHolder], Awaitable[object]]
CALLS = [
    pytest.param(lambda holder: holder.create("one"), id="create"),
    pytest.param(lambda holder: holder.wrap(REFERENCE, KEY, BOUND_TO), id="wrap"),
    pytest.param(lambda holder: holder.unwrap(REFERENCE, b"wrapped", BOUND_TO), id="unwrap"),
    pytest.param(lambda holder: holder.destroy(REFERENCE), id="destroy"),
]


@asynccontextmanager
async def holder_at(url: str | None, **changes: Any) -> AsyncIterator[KMSHolder]:
    given = {"region": REGION, "endpoint_url": url, "key": None, "deadline_s": 20.0}
    holder = KMSHolder(**(given | changes))
    holder._session = session()
    try:
        yield holder
    finally:
        await holder.close()


@pytest.fixture
async def moto_holder(moto_url: str) -> AsyncIterator[KMSHolder]:
    async with holder_at(moto_url) as holder:
        yield holder


@pytest.fixture
async def ministack_holder(ministack_url: str) -> AsyncIterator[KMSHolder]:
    async with holder_at(ministack_url) as holder:
        yield holder


@pytest.fixture
async def answered_holder(answering: AnsweringKMS) -> AsyncIterator[KMSHolder]:
    async with holder_at(answering.url, deadline_s=ONE_TRY_S) as holder:
        yield holder


@pytest.fixture
def name() -> str:
    return f"{new_id()}-1"


def test_the_emulators_listen_on_this_machine_only(emulators: tuple[KMSEmulator, KMSEmulator]) -> None:
    for emulator in emulators:
        assert emulator.listens_at() == {("0100007F", emulator.port)}


async def test_unwrap_gives_back_what_wrap_took(moto_holder: KMSHolder, name: str) -> None:
    reference = await moto_holder.create(name)
    wrapped = await moto_holder.wrap(reference, KEY, BOUND_TO)
    assert KEY.expose() not in wrapped
    assert len(wrapped) <= MAX_WRAPPED_BYTES
    assert await moto_holder.unwrap(reference, wrapped, BOUND_TO) == KEY


async def test_both_emulators_are_spoken_to_alike(ministack_holder: KMSHolder, name: str) -> None:
    reference = await ministack_holder.create(name)
    assert await ministack_holder.create(name) == reference
    assert (
        await ministack_holder.unwrap(reference, await ministack_holder.wrap(reference, KEY, BOUND_TO), BOUND_TO) == KEY
    )
    with pytest.raises(CiphertextRejected):
        await ministack_holder.unwrap(reference, await ministack_holder.wrap(reference, KEY, BOUND_TO), b"")


async def test_unwrap_refuses_other_associated_data(moto_holder: KMSHolder, name: str) -> None:
    reference = await moto_holder.create(name)
    wrapped = await moto_holder.wrap(reference, KEY, BOUND_TO)
    for other in (b"", BOUND_TO + b"\0", b"artifacts of another"):
        with pytest.raises(CiphertextRejected):
            await moto_holder.unwrap(reference, wrapped, other)


async def test_unwrap_refuses_what_was_altered_in_any_byte(moto_holder: KMSHolder, name: str) -> None:
    reference = await moto_holder.create(name)
    wrapped = await moto_holder.wrap(reference, KEY, BOUND_TO)
    for place in range(0, len(wrapped), 3):
        altered = bytearray(wrapped)
        altered[place] ^= 1 << place % 7
        refusal = KeyHolderUnavailable if place < MOTO_NAME_BYTES else CiphertextRejected
        with pytest.raises(refusal):
            await moto_holder.unwrap(reference, bytes(altered), BOUND_TO)


@pytest.mark.parametrize("n_bytes", [0, 1, 16, -1], ids=lambda n: f"{n} bytes")
async def test_unwrap_refuses_what_was_cut(moto_holder: KMSHolder, name: str, n_bytes: int) -> None:
    reference = await moto_holder.create(name)
    wrapped = await moto_holder.wrap(reference, KEY, BOUND_TO)
    with pytest.raises(CiphertextRejected):
        await moto_holder.unwrap(reference, wrapped[:n_bytes], BOUND_TO)


async def test_unwrap_refuses_unasked_what_is_longer_than_what_is_stored(
    answered_holder: KMSHolder, answering: AnsweringKMS
) -> None:
    for wrapped in (b"", bytes(MAX_WRAPPED_BYTES + 1)):
        with pytest.raises(CiphertextRejected):
            await answered_holder.unwrap(REFERENCE, wrapped, BOUND_TO)
    assert answering.n_calls == 0


async def test_unwrap_does_not_open_what_another_key_wrapped(moto_holder: KMSHolder, name: str) -> None:
    one, two = await moto_holder.create(name), await moto_holder.create(f"{name}2")
    assert one != two
    wrapped = await moto_holder.wrap(one, KEY, BOUND_TO)
    with pytest.raises(KeyHolderUnavailable, match="does not let"):  # moto's word for it; AWS's is in the next test
        await moto_holder.unwrap(two, wrapped, BOUND_TO)


@pytest.mark.parametrize("code", ["InvalidCiphertextException", "IncorrectKeyException"])
async def test_what_kms_says_of_the_ciphertext_is_a_rejection_of_it(
    answered_holder: KMSHolder, answering: AnsweringKMS, code: str
) -> None:
    answering.refuse(code)
    with pytest.raises(CiphertextRejected):
        await answered_holder.unwrap(REFERENCE, b"wrapped", BOUND_TO)
    with pytest.raises(KeyHolderUnavailable):  # nothing to reject here
        await answered_holder.wrap(REFERENCE, KEY, BOUND_TO)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("DisabledException", 400),
        ("NotFoundException", 400),
        ("AccessDeniedException", 400),
        ("KMSInvalidStateException", 400),
        ("ThrottlingException", 400),
        ("KeyUnavailableException", 500),
        ("DependencyTimeoutException", 503),
        ("UnrecognizedClientException", 400),
        ("ExpiredTokenException", 400),
        ("", 500),
    ],
)
async def test_any_other_refusal_is_an_unavailable_holder(
    answered_holder: KMSHolder, answering: AnsweringKMS, code: str, status: int
) -> None:
    answering.refuse(code, status=status)
    for call in (
        answered_holder.wrap(REFERENCE, KEY, BOUND_TO),
        answered_holder.unwrap(REFERENCE, b"wrapped", BOUND_TO),
    ):
        with pytest.raises(KeyHolderUnavailable) as refused:
            await call
        assert refused.value.retry_after_s == 5
        assert "123456789012" not in refused.value.detail
        assert "of AWS's own" not in refused.value.detail


@pytest.mark.parametrize(
    "answer", [{}, {"Plaintext": base64.b64encode(b"short").decode()}], ids=["none", "a short one"]
)
async def test_an_answer_without_a_key_gives_none(
    answered_holder: KMSHolder, answering: AnsweringKMS, answer: object
) -> None:
    answering.answer = answer
    with pytest.raises((CiphertextRejected, KeyHolderUnavailable)):
        await answered_holder.unwrap(REFERENCE, b"wrapped", BOUND_TO)
    for call in (
        answered_holder.wrap(REFERENCE, KEY, BOUND_TO),
        answered_holder.create("one"),
        answered_holder.destroy(REFERENCE),
    ):
        with pytest.raises(KeyHolderUnavailable, match="did not answer as it does"):
            await call


async def test_a_wrapped_key_that_is_too_long_to_store_is_refused(
    answered_holder: KMSHolder, answering: AnsweringKMS
) -> None:
    answering.answer = {"CiphertextBlob": base64.b64encode(bytes(MAX_WRAPPED_BYTES + 1)).decode()}
    with pytest.raises(KeyHolderUnavailable):
        await answered_holder.wrap(REFERENCE, KEY, BOUND_TO)


async def test_the_same_name_is_the_same_key_and_another_name_another(
    moto_holder: KMSHolder, administrator: Any, name: str
) -> None:
    reference = await moto_holder.create(name)
    n_keys = len(administrator.list_keys()["Keys"])
    assert await moto_holder.create(name) == reference
    assert len(administrator.list_keys()["Keys"]) == n_keys
    assert await moto_holder.create(f"{name}2") != reference
    made = administrator.describe_key(KeyId=f"alias/maas-gateway-{name}")["KeyMetadata"]
    assert reference == {"key": made["Arn"]}
    assert made["KeySpec"] == "SYMMETRIC_DEFAULT"
    tags = administrator.list_resource_tags(KeyId=made["Arn"])["Tags"]
    assert tags == [{"TagKey": "maas-gateway", "TagValue": name}]


async def test_a_kill_before_the_alias_leaves_a_key_that_nothing_uses(
    moto_holder: KMSHolder, administrator: Any, name: str
) -> None:
    left = administrator.create_key(Tags=[{"TagKey": "maas-gateway", "TagValue": name}])["KeyMetadata"]["Arn"]
    reference = await moto_holder.create(name)
    assert reference["key"] != left
    assert await moto_holder.create(name) == reference


async def test_processes_that_create_at_once_agree_on_one_key(moto_url: str, name: str) -> None:
    holders = [KMSHolder(region=REGION, endpoint_url=moto_url, key=None, deadline_s=20) for _ in range(3)]
    made = await asyncio.gather(*(holder.create(name) for holder in holders))
    assert len({reference["key"] for reference in made}) == 1
    for holder in holders:
        await holder.close()


@pytest.mark.parametrize("form", ["KeyId", "Arn", "alias"])
async def test_a_configured_key_is_used_and_none_is_made(
    moto_url: str, administrator: Any, name: str, form: str
) -> None:
    known = administrator.create_key(KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]
    administrator.create_alias(AliasName=f"alias/{name}", TargetKeyId=known["KeyId"])
    n_before = len(administrator.list_keys()["Keys"])
    async with holder_at(moto_url, key=f"alias/{name}" if form == "alias" else known[form]) as holder:
        reference = await holder.create("deployment-1")
        assert reference == await holder.create("deployment-2") == {"key": known["Arn"]}
        assert await holder.unwrap(reference, await holder.wrap(reference, KEY, BOUND_TO), BOUND_TO) == KEY
    assert len(administrator.list_keys()["Keys"]) == n_before


async def test_a_configured_key_that_is_not_there_is_unavailable(moto_url: str) -> None:
    async with holder_at(moto_url, key="alias/none") as holder:
        with pytest.raises(KeyHolderUnavailable, match="has not got"):
            await holder.create("deployment-1")


async def test_a_configured_key_that_is_not_symmetric_is_a_conflict(moto_url: str, administrator: Any) -> None:
    known = administrator.create_key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]
    async with holder_at(moto_url, key=known["Arn"]) as holder:
        with pytest.raises(Conflict):
            await holder.create("deployment-1")


async def test_a_disabled_key_is_unavailable_until_it_is_enabled_again(
    ministack_holder: KMSHolder, ministack_administrator: Any, name: str
) -> None:
    reference = await ministack_holder.create(name)
    wrapped = await ministack_holder.wrap(reference, KEY, BOUND_TO)
    ministack_administrator.disable_key(KeyId=reference["key"])
    for call in (
        ministack_holder.wrap(reference, KEY, BOUND_TO),
        ministack_holder.unwrap(reference, wrapped, BOUND_TO),
    ):
        with pytest.raises(KeyHolderUnavailable, match="disabled"):
            await call
    ministack_administrator.enable_key(KeyId=reference["key"])
    assert await ministack_holder.unwrap(reference, wrapped, BOUND_TO) == KEY


async def test_destroy_schedules_the_deletion_of_a_key_of_ours_as_soon_as_may_be(
    ministack_holder: KMSHolder, ministack_administrator: Any, name: str
) -> None:
    reference = await ministack_holder.create(name)
    wrapped = await ministack_holder.wrap(reference, KEY, BOUND_TO)
    await ministack_holder.destroy(reference)
    going = ministack_administrator.describe_key(KeyId=reference["key"])["KeyMetadata"]
    assert going["KeyState"] == "PendingDeletion"
    assert 6.9 < (going["DeletionDate"].timestamp() - time.time()) / 86_400 < 7.1
    for call in (
        ministack_holder.wrap(reference, KEY, BOUND_TO),
        ministack_holder.unwrap(reference, wrapped, BOUND_TO),
    ):
        with pytest.raises(KeyHolderUnavailable, match="state"):
            await call


async def test_destroy_leaves_a_key_that_is_going_to_be_deleted_already(
    ministack_holder: KMSHolder, ministack_administrator: Any, name: str
) -> None:
    reference = await ministack_holder.create(name)
    for n_days in (7, 30):
        ministack_administrator.schedule_key_deletion(KeyId=reference["key"], PendingWindowInDays=n_days)
        await ministack_holder.destroy(reference)
        going = ministack_administrator.describe_key(KeyId=reference["key"])["KeyMetadata"]
        assert n_days - 0.1 < (going["DeletionDate"].timestamp() - time.time()) / 86_400 < n_days + 0.1


async def test_destroy_takes_a_disabled_key_of_ours_too(
    ministack_holder: KMSHolder, ministack_administrator: Any, name: str
) -> None:
    reference = await ministack_holder.create(name)
    ministack_administrator.disable_key(KeyId=reference["key"])
    await ministack_holder.destroy(reference)
    state = ministack_administrator.describe_key(KeyId=reference["key"])["KeyMetadata"]["KeyState"]
    assert state == "PendingDeletion"


async def test_destroy_leaves_a_key_that_is_gone(moto_holder: KMSHolder, name: str) -> None:
    account = (await moto_holder.create(name))["key"].split(":")[4]
    await moto_holder.destroy({"key": f"arn:aws:kms:{REGION}:{account}:key/{new_id()}"})


@pytest.mark.parametrize("is_configured", [True, False], ids=["configured", "not configured any more"])
async def test_destroy_leaves_an_operators_key(
    moto_url: str,
    administrator: Any,
    is_configured: bool,  # noqa: FBT001  a table's column
) -> None:
    known = administrator.create_key()["KeyMetadata"]["Arn"]
    async with holder_at(moto_url, key=known if is_configured else None) as holder:
        await holder.destroy({"key": known})
    assert administrator.describe_key(KeyId=known)["KeyMetadata"]["KeyState"] == "Enabled"


async def test_destroy_leaves_a_key_of_ours_that_the_operator_has_configured(
    moto_holder: KMSHolder, moto_url: str, administrator: Any, name: str
) -> None:
    reference = await moto_holder.create(name)
    async with holder_at(moto_url, key=f"alias/maas-gateway-{name}") as holder:
        await holder.destroy(reference)
    assert administrator.describe_key(KeyId=reference["key"])["KeyMetadata"]["KeyState"] == "Enabled"


async def test_an_operators_key_that_replaced_ours_does_not_keep_ours(
    ministack_holder: KMSHolder, ministack_url: str, ministack_administrator: Any, name: str
) -> None:
    reference = await ministack_holder.create(name)
    async with holder_at(ministack_url, key=ministack_administrator.create_key()["KeyMetadata"]["Arn"]) as holder:
        await holder.destroy(reference)
    state = ministack_administrator.describe_key(KeyId=reference["key"])["KeyMetadata"]["KeyState"]
    assert state == "PendingDeletion"


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param({}, id="an empty one"),
        pytest.param({"key": "alias/other"}, id="an alias, which can be pointed elsewhere"),
        pytest.param({"key": ARN.rpartition("/")[2]}, id="an id, which says no account"),
        pytest.param({"key": f"{ARN}\n"}, id="a line break"),
    ],
)
async def test_a_reference_that_names_no_key_is_refused_unasked(
    answered_holder: KMSHolder, answering: AnsweringKMS, reference: Reference
) -> None:
    calls = (
        answered_holder.wrap(reference, KEY, b""),
        answered_holder.unwrap(reference, b"wrapped", b""),
        answered_holder.destroy(reference),
    )
    for call in calls:
        with pytest.raises(CiphertextRejected):
            await call
    assert answering.n_calls == 0


async def test_a_key_in_another_region_is_not_taken_for_one_that_is_gone(
    answered_holder: KMSHolder, answering: AnsweringKMS
) -> None:
    answering.refuse("NotFoundException")
    with pytest.raises(KeyHolderUnavailable, match="another region"):
        await answered_holder.destroy({"key": ARN.replace(REGION, "us-east-1")})


async def test_the_context_that_kms_logs_holds_a_digest_and_no_data(
    moto_holder: KMSHolder, administrator: Any, name: str
) -> None:
    reference = await moto_holder.create(name)
    wrapped = await moto_holder.wrap(reference, KEY, BOUND_TO)
    digest = base64.b64encode(hashlib.sha256(BOUND_TO).digest()).decode()
    opened = administrator.decrypt(CiphertextBlob=wrapped, EncryptionContext={"maas-gateway": digest})
    assert opened["Plaintext"] == KEY.expose()


@pytest.mark.parametrize("call", CALLS)
async def test_a_kms_that_is_down_is_unavailable(aws: None, call: Call) -> None:
    async with holder_at(f"http://127.0.0.1:{free_port()}", deadline_s=2.0) as holder:
        with pytest.raises(KeyHolderUnavailable, match="does not answer") as refused:
            await call(holder)
        assert refused.value.retry_after_s == 5


@pytest.mark.parametrize("call", CALLS)
async def test_a_kms_that_takes_too_long_is_given_up_in_time(answering: AnsweringKMS, call: Call) -> None:
    async with holder_at(answering.url, deadline_s=0.4) as holder:
        await asyncio.to_thread(holder._open)  # which takes 0.1 s once
        answering.delay_s = 3.0
        begun_at = time.monotonic()
        with pytest.raises(KeyHolderUnavailable):
            await call(holder)
        assert time.monotonic() - begun_at < 2


async def test_no_thread_outlives_the_deadline(answering: AnsweringKMS) -> None:
    async with holder_at(answering.url, deadline_s=0.4) as holder:
        await asyncio.to_thread(holder._open)
        answering.delay_s = 3.0
        begun_at = time.monotonic()
        with pytest.raises(KeyHolderUnavailable, match="AWS KMS does not answer"):
            await asyncio.to_thread(holder._encrypt, ARN, KEY, BOUND_TO)
        assert time.monotonic() - begun_at < 2


async def test_what_holds_a_thread_up_holds_no_caller_up(
    answering: AnsweringKMS, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_ended = threading.Event()
    async with holder_at(answering.url, deadline_s=0.1) as holder:
        monkeypatch.setattr(holder, "_open", has_ended.wait)  # as a look for credentials may
        with pytest.raises(KeyHolderUnavailable, match="in time"):
            await holder.wrap(REFERENCE, KEY, BOUND_TO)
        has_ended.set()


async def test_closing_ends_the_connections(aws: None) -> None:
    answering = AnsweringKMS()
    answering.answer = {"CiphertextBlob": base64.b64encode(b"wrapped").decode()}
    try:
        async with holder_at(answering.url) as holder:
            assert await holder.wrap(REFERENCE, KEY, BOUND_TO) == b"wrapped"
            assert not answering.left.acquire(blocking=False)
            await holder.close()
            assert await asyncio.to_thread(answering.left.acquire, timeout=5)
    finally:
        answering.close()


@pytest.mark.parametrize(("deadline_s", "n_tries"), [(2.0, 1), (4.0, 2)], ids=["once", "twice"])
async def test_a_passing_fault_is_tried_as_often_as_the_deadline_has_room_for(
    answering: AnsweringKMS, deadline_s: float, n_tries: int
) -> None:
    answering.refuse("DependencyTimeoutException", status=503)
    async with holder_at(answering.url, deadline_s=deadline_s) as holder:
        with pytest.raises(KeyHolderUnavailable):
            await holder.wrap(REFERENCE, KEY, BOUND_TO)
    assert answering.n_calls == n_tries


async def test_a_gateway_without_credentials_is_told_in_time(
    answering: AnsweringKMS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    holder = KMSHolder(region=REGION, endpoint_url=answering.url, key=None, deadline_s=5)
    with pytest.raises(KeyHolderUnavailable):
        await holder.wrap(REFERENCE, KEY, BOUND_TO)
    await holder.close()
    assert answering.n_calls == 0


async def test_credentials_come_from_where_boto3_looks_for_them(answering: AnsweringKMS) -> None:
    answering.answer = {"CiphertextBlob": base64.b64encode(b"wrapped").decode()}
    holder = KMSHolder(region=REGION, endpoint_url=answering.url, key=None, deadline_s=5)
    assert await holder.wrap(REFERENCE, KEY, BOUND_TO) == b"wrapped"
    await holder.close()


async def test_no_log_line_holds_a_key_even_where_everything_is_logged(
    moto_url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with holder_at(moto_url) as holder:
        reference = await holder.create(name)
        assert await holder.unwrap(reference, await holder.wrap(reference, KEY, BOUND_TO), BOUND_TO) == KEY
    assert base64.b64encode(KEY.expose()).decode() not in caplog.text
    assert repr(KEY.expose()) not in caplog.text


def test_a_missing_library_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("boto3", "boto3.session"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Misconfigured, match=r"pip install 'maas-gateway\[kms\]'"):
        KMSHolder(region=REGION, endpoint_url=None, key=None, deadline_s=1)


def test_a_missing_region_is_refused_at_the_start(aws: None) -> None:
    with pytest.raises(Misconfigured, match="region"):
        KMSHolder(region=None, endpoint_url=None, key=None, deadline_s=1)


def test_a_profile_that_is_not_there_is_refused_at_the_start(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(Misconfigured, match="configuration of AWS"):
        KMSHolder(region=REGION, endpoint_url=None, key=None, deadline_s=1)


async def test_the_holder_is_a_holder_that_may_be_closed_unused_and_twice(aws: None) -> None:
    holder: RootKeyHolder = KMSHolder(region=REGION, endpoint_url=None, key=None, deadline_s=1)
    assert holder.kind == "kms"
    await holder.close()
    await holder.close()

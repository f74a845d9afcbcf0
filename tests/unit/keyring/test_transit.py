"""The Transit holder against a whole Transit engine on a real port."""

import asyncio
import base64
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from key_services import free_port
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected, Conflict, KeyHolderUnavailable, Misconfigured
from maas_gateway.keyring.holder import Reference, RootKeyHolder
from maas_gateway.keyring.transit import MAX_WRAPPED_BYTES, TransitHolder
from simulators.transit import Mode, TransitKey, TransitSimulator, serving

pytestmark = [pytest.mark.anyio, pytest.mark.services]

NAME = "maas-gateway"
KEY = KeyMaterial.generate()
BOUND_TO = b"artifacts of one tenant"
DEADLINE_S = 5.0
SHORT_S = 0.15


@asynccontextmanager
async def holder_at(transit: TransitSimulator, **changes: Any) -> AsyncIterator[TransitHolder]:
    # Reading the system's certificates takes 50 ms; a file of one, next to nothing.
    given = {
        "url": transit.url,
        "key": NAME,
        "token": lambda: transit.token,
        "deadline_s": DEADLINE_S,
        "ca_file": transit.certificate,
    }
    holder = TransitHolder(**(given | changes))
    try:
        yield holder
    finally:
        await holder.close()


@pytest.fixture
async def holder(transit: TransitSimulator) -> AsyncIterator[TransitHolder]:
    async with holder_at(transit) as opened:
        yield opened


CALLS = [
    pytest.param(lambda holder, reference, wrapped: holder.create("two"), id="create"),
    pytest.param(lambda holder, reference, wrapped: holder.wrap(reference, KEY, BOUND_TO), id="wrap"),
    pytest.param(lambda holder, reference, wrapped: holder.unwrap(reference, wrapped, BOUND_TO), id="unwrap"),
    pytest.param(lambda holder, reference, wrapped: holder.destroy(reference), id="destroy"),
]
Call = Callable[[TransitHolder, Reference, bytes], Awaitable[object]]


async def test_unwrap_gives_back_what_wrap_took(holder: TransitHolder) -> None:
    reference = await holder.create("deployment-1")
    assert reference == {"key": NAME, "version": "1"}
    wrapped = await holder.wrap(reference, KEY, BOUND_TO)
    assert KEY.expose() not in wrapped
    assert len(wrapped) <= MAX_WRAPPED_BYTES
    assert await holder.unwrap(reference, wrapped, BOUND_TO) == KEY


async def test_wrapping_is_bound_also_to_nothing(holder: TransitHolder) -> None:
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, KEY, b"")
    assert await holder.unwrap(reference, wrapped, b"") == KEY
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(reference, wrapped, BOUND_TO)


async def test_unwrap_refuses_other_associated_data(holder: TransitHolder) -> None:
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, KEY, BOUND_TO)
    for other in (b"", BOUND_TO + b"\0", b"artifacts of another"):
        with pytest.raises(CiphertextRejected):
            await holder.unwrap(reference, wrapped, other)


async def test_unwrap_refuses_what_was_altered_in_any_byte(holder: TransitHolder) -> None:
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, KEY, BOUND_TO)
    for place in range(len(wrapped)):
        altered = bytearray(wrapped)
        altered[place] ^= 1 << place % 7
        with pytest.raises(CiphertextRejected):
            await holder.unwrap(reference, bytes(altered), BOUND_TO)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda wrapped: b"", id="nothing is left"),
        pytest.param(lambda wrapped: wrapped[:-4], id="the end is cut"),
        pytest.param(lambda wrapped: wrapped[:-1] + b"\n=", id="a line break that servers skip"),
        pytest.param(lambda wrapped: wrapped + b"\n", id="a line break at the end"),
        pytest.param(lambda wrapped: wrapped.replace(b":v1:", b":v01:"), id="another spelling of the version"),
        pytest.param(lambda wrapped: wrapped.replace(b":v1:", b":v2:"), id="another version"),
        pytest.param(lambda wrapped: wrapped.replace(b":v1:", b":v0:"), id="a version that servers read as 1"),
        pytest.param(lambda wrapped: b"vault:v1:" + b"A" * 1024, id="longer than what is stored"),
        pytest.param(lambda wrapped: b"vault:v1:\xc3\xa9===", id="no ASCII"),
    ],
)
async def test_unwrap_refuses_another_spelling_unasked(
    holder: TransitHolder, transit: TransitSimulator, change: Callable[[bytes], bytes]
) -> None:
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, KEY, BOUND_TO)
    n_asked = len(transit.asked)
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(reference, change(wrapped), BOUND_TO)
    assert len(transit.asked) == n_asked or change(wrapped) == wrapped[:-4]


async def test_unwrap_refuses_unused_bits_of_base64_that_servers_skip(
    holder: TransitHolder, transit: TransitSimulator
) -> None:
    reference = await holder.create("deployment-1")
    sealed = b"\0" * 61  # its base64 ends in four bits that count for nothing
    text = base64.b64encode(sealed)
    assert base64.b64decode(text[:-3] + b"B==") == sealed
    n_asked = len(transit.asked)
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(reference, b"vault:v1:" + text[:-3] + b"B==", BOUND_TO)
    assert len(transit.asked) == n_asked


async def test_unwrap_refuses_what_another_version_wrapped(holder: TransitHolder, transit: TransitSimulator) -> None:
    one, two = await holder.create("deployment-1"), await holder.create("deployment-2")
    wrapped = await holder.wrap(one, KEY, BOUND_TO)
    n_asked = len(transit.asked)
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(two, wrapped, BOUND_TO)
    assert len(transit.asked) == n_asked
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(two, wrapped.replace(b":v1:", b":v2:"), BOUND_TO)


async def test_unwrap_refuses_what_another_key_wrapped(holder: TransitHolder, transit: TransitSimulator) -> None:
    reference = await holder.create("deployment-1")
    async with holder_at(transit, key="another") as other:
        wrapped = await other.wrap(await other.create("deployment-1"), KEY, BOUND_TO)
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(reference, wrapped, BOUND_TO)


async def test_unwrap_refuses_what_holds_no_key_of_32_bytes(holder: TransitHolder, transit: TransitSimulator) -> None:
    reference = await holder.create("deployment-1")
    body = {"plaintext": base64.b64encode(b"short").decode(), "associated_data": base64.b64encode(BOUND_TO).decode()}
    wrapped = transit._encrypt(NAME, body)["ciphertext"].encode()
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(reference, wrapped, BOUND_TO)


async def test_create_rotates_a_key_that_is_there_and_old_versions_still_open(
    holder: TransitHolder, transit: TransitSimulator
) -> None:
    one = await holder.create("deployment-1")
    wrapped = await holder.wrap(one, KEY, BOUND_TO)
    two = await holder.create("deployment-2")
    assert two == {"key": NAME, "version": "2"}
    assert (await holder.wrap(two, KEY, BOUND_TO)).startswith(b"vault:v2:")
    assert (await holder.wrap(one, KEY, BOUND_TO)).startswith(b"vault:v1:")
    assert await holder.unwrap(one, wrapped, BOUND_TO) == KEY
    assert transit.keys[NAME].type == "aes256-gcm96"


async def test_create_again_after_a_kill_leaves_a_version_that_nothing_uses(
    holder: TransitHolder, transit: TransitSimulator
) -> None:
    await holder.create("deployment-1")
    assert await holder.create("deployment-1") == {"key": NAME, "version": "2"}
    assert sorted(transit.keys[NAME].versions) == [1, 2]


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(TransitKey("rsa-2048"), id="of a type without associated data"),
        pytest.param(TransitKey("aes256-gcm96", derived=True), id="derived from a context"),
    ],
)
async def test_create_refuses_a_key_that_cannot_wrap(
    holder: TransitHolder, transit: TransitSimulator, there: TransitKey
) -> None:
    transit.keys[NAME] = there
    there.rotate()
    with pytest.raises(Conflict):
        await holder.create("deployment-1")
    assert there.latest == 1


async def test_create_refuses_an_engine_that_ignores_associated_data(
    holder: TransitHolder, transit: TransitSimulator
) -> None:
    transit.mode = Mode.OLD
    with pytest.raises(KeyHolderUnavailable, match="ignores associated data"):
        await holder.create("deployment-1")


async def test_create_reads_the_version_where_a_rotation_is_answered_without_content(
    holder: TransitHolder, transit: TransitSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transit, "_changed", lambda name: (204, {}))
    assert (await holder.create("deployment-1"))["version"] == "1"
    assert (await holder.create("deployment-2"))["version"] == "2"


async def test_wrap_makes_no_key_in_place_of_a_lost_one(holder: TransitHolder, transit: TransitSimulator) -> None:
    reference = await holder.create("deployment-1")
    lost = transit.keys.pop(NAME)
    with pytest.raises(KeyHolderUnavailable):
        await holder.wrap(reference, KEY, BOUND_TO)
    assert transit.keys == {}
    transit.keys[NAME] = lost
    assert await holder.wrap(reference, KEY, BOUND_TO)


async def test_a_version_that_is_not_there_yet_is_unavailable_and_not_an_alarm(
    holder: TransitHolder, transit: TransitSimulator
) -> None:
    await holder.create("deployment-1")
    two = await holder.create("deployment-2")
    wrapped = await holder.wrap(two, KEY, BOUND_TO)
    transit.keys[NAME].latest = 1  # restored from a backup
    del transit.keys[NAME].versions[2]
    for call in (holder.unwrap(two, wrapped, BOUND_TO), holder.wrap(two, KEY, BOUND_TO)):
        with pytest.raises(KeyHolderUnavailable):
            await call


@pytest.mark.parametrize(
    "disable",
    [
        pytest.param({"min_decryption": 2, "min_encryption": 2}, id="below its minimum versions"),
        pytest.param({"soft_deleted": True}, id="soft-deleted"),
    ],
)
async def test_a_disabled_version_is_unavailable_and_opens_again_when_it_is_enabled(
    holder: TransitHolder, transit: TransitSimulator, disable: dict[str, Any]
) -> None:
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, KEY, BOUND_TO)
    await holder.create("deployment-2")
    before = {name: getattr(transit.keys[NAME], name) for name in disable}
    vars(transit.keys[NAME]).update(disable)
    with pytest.raises(KeyHolderUnavailable) as refused:
        await holder.unwrap(reference, wrapped, BOUND_TO)
    assert refused.value.retry_after_s == 5
    with pytest.raises(KeyHolderUnavailable):
        await holder.wrap(reference, KEY, BOUND_TO)
    vars(transit.keys[NAME]).update(before)
    assert await holder.unwrap(reference, wrapped, BOUND_TO) == KEY


async def test_destroy_leaves_nothing_of_that_version_and_all_of_the_newer(
    holder: TransitHolder, transit: TransitSimulator
) -> None:
    versions = [await holder.create(f"deployment-{n}") for n in (1, 2, 3)]
    wrapped = [await holder.wrap(version, KEY, BOUND_TO) for version in versions]
    await holder.destroy(versions[0])
    assert sorted(transit.keys[NAME].versions) == [2, 3]
    with pytest.raises(KeyHolderUnavailable):
        await holder.unwrap(versions[0], wrapped[0], BOUND_TO)
    for version, sealed in list(zip(versions, wrapped, strict=True))[1:]:
        assert await holder.unwrap(version, sealed, BOUND_TO) == KEY
        assert await holder.wrap(version, KEY, BOUND_TO)


async def test_destroy_again_changes_nothing(holder: TransitHolder, transit: TransitSimulator) -> None:
    one = await holder.create("deployment-1")
    two = await holder.create("deployment-2")
    await holder.create("deployment-3")
    await holder.destroy(two)
    asked = len(transit.asked)
    for reference in (two, one):
        await holder.destroy(reference)
    assert transit.paths()[asked:] == [f"GET keys/{NAME}"] * 2
    assert sorted(transit.keys[NAME].versions) == [3]


async def test_destroy_takes_up_where_it_was_killed_between_its_two_steps(
    holder: TransitHolder, transit: TransitSimulator
) -> None:
    one = await holder.create("deployment-1")
    await holder.create("deployment-2")
    vars(transit.keys[NAME]).update(min_decryption=2, min_encryption=2)
    await holder.destroy(one)
    assert sorted(transit.keys[NAME].versions) == [2]


async def test_destroy_does_not_lower_limits_that_are_higher(holder: TransitHolder, transit: TransitSimulator) -> None:
    one = await holder.create("deployment-1")
    for n in (2, 3, 4):
        await holder.create(f"deployment-{n}")
    vars(transit.keys[NAME]).update(min_decryption=3, min_encryption=4)
    await holder.destroy(one)
    key = transit.keys[NAME]
    assert (key.min_available, key.min_decryption, key.min_encryption) == (2, 3, 4)


async def test_destroy_does_not_take_limits_that_are_no_numbers_for_none(
    holder: TransitHolder, transit: TransitSimulator
) -> None:
    one = await holder.create("deployment-1")
    await holder.create("deployment-2")
    vars(transit.keys[NAME]).update(min_encryption="2")
    with pytest.raises(KeyHolderUnavailable, match="does"):
        await holder.destroy(one)
    assert sorted(transit.keys[NAME].versions) == [1, 2]


async def test_destroy_refuses_the_newest_version(holder: TransitHolder, transit: TransitSimulator) -> None:
    reference = await holder.create("deployment-1")
    with pytest.raises(Conflict, match="newest"):
        await holder.destroy(reference)
    assert await holder.wrap(reference, KEY, BOUND_TO)


async def test_destroy_leaves_a_key_that_is_gone(holder: TransitHolder, transit: TransitSimulator) -> None:
    reference = await holder.create("deployment-1")
    transit.keys.clear()
    await holder.destroy(reference)
    await holder.destroy({"key": NAME, "version": "7"})
    await holder.create("deployment-1")
    await holder.destroy({"key": NAME, "version": "7"})
    assert sorted(transit.keys[NAME].versions) == [1]


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param({}, id="an empty one"),
        pytest.param({"key": "../../sys/seal", "version": "1"}, id="a path"),
        pytest.param({"key": "a/config", "version": "1"}, id="another endpoint"),
        pytest.param({"key": "a?b", "version": "1"}, id="a query"),
        pytest.param({"key": NAME, "version": "0"}, id="version 0, which means the newest"),
        pytest.param({"key": NAME, "version": "-1"}, id="a negative version"),
        pytest.param({"key": NAME, "version": "1\n"}, id="a line break"),
        pytest.param({"key": NAME, "version": "9" * 40}, id="a version beyond all bounds"),
    ],
)
async def test_a_reference_that_names_no_version_is_refused_unasked(
    holder: TransitHolder, transit: TransitSimulator, reference: Reference
) -> None:
    calls = (
        holder.wrap(reference, KEY, b""),
        holder.unwrap(reference, b"vault:v1:AA==", b""),
        holder.destroy(reference),
    )
    for call in calls:
        with pytest.raises(CiphertextRejected):
            await call
    assert transit.asked == []


UNAVAILABLE = [mode for mode in Mode if mode not in {Mode.USUAL, Mode.OLD, Mode.SLOW, Mode.DRIPPING}]


@pytest.mark.parametrize("mode", UNAVAILABLE, ids=lambda mode: mode.value)
@pytest.mark.parametrize("call", CALLS)
async def test_a_server_that_does_not_answer_as_it_should_is_unavailable(
    holder: TransitHolder, transit: TransitSimulator, mode: Mode, call: Call
) -> None:
    reference = await holder.create("deployment-1")
    await holder.create("deployment-2")
    wrapped = await holder.wrap(reference, KEY, BOUND_TO)
    before = dict(transit.keys[NAME].versions)
    transit.mode = mode
    with pytest.raises(KeyHolderUnavailable) as refused:
        await call(holder, reference, wrapped)
    assert refused.value.retry_after_s == 5
    assert "in time" not in refused.value.detail  # not even an answer without an end is waited for
    assert transit.keys[NAME].versions == before
    transit.mode = Mode.USUAL
    assert await holder.unwrap(reference, wrapped, BOUND_TO) == KEY


@pytest.mark.parametrize("mode", [Mode.SLOW, Mode.DRIPPING], ids=lambda mode: mode.value)
@pytest.mark.parametrize("call", CALLS)
async def test_a_server_that_takes_too_long_is_given_up(
    holder: TransitHolder, transit: TransitSimulator, mode: Mode, call: Call
) -> None:
    reference = await holder.create("deployment-1")
    await holder.create("deployment-2")
    wrapped = await holder.wrap(reference, KEY, BOUND_TO)
    transit.mode = mode
    async with holder_at(transit, deadline_s=SHORT_S) as hasty:
        begun_at = time.monotonic()
        with pytest.raises(KeyHolderUnavailable, match=r"in time|does not answer"):
            await call(hasty, reference, wrapped)
        assert SHORT_S * 0.9 < time.monotonic() - begun_at < SHORT_S + 3
    transit.mode = Mode.USUAL
    assert await holder.unwrap(reference, wrapped, BOUND_TO) == KEY


@pytest.mark.parametrize("call", CALLS)
async def test_a_server_that_is_down_is_unavailable(transit: TransitSimulator, call: Call) -> None:
    async with holder_at(transit, url=f"http://127.0.0.1:{free_port()}") as holder:
        with pytest.raises(KeyHolderUnavailable, match="does not answer"):
            await call(holder, {"key": NAME, "version": "1"}, b"vault:v1:AAAA")


async def test_a_redirection_is_not_followed_with_the_token(holder: TransitHolder, transit: TransitSimulator) -> None:
    transit.mode = Mode.STANDBY
    with pytest.raises(KeyHolderUnavailable, match="elsewhere"):
        await holder.create("deployment-1")
    assert transit.paths() == [f"GET keys/{NAME}"]


async def test_a_call_that_is_cancelled_is_cancelled(holder: TransitHolder, transit: TransitSimulator) -> None:
    transit.mode = Mode.SLOW
    task = asyncio.create_task(holder.create("deployment-1"))
    await asyncio.to_thread(transit.was_asked.wait, DEADLINE_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_token_is_read_anew_for_each_request(transit: TransitSimulator, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(transit.token + "\n")
    async with holder_at(transit, token=file.read_text) as holder:
        reference = await holder.create("deployment-1")
        transit.token = "s.another"
        with pytest.raises(KeyHolderUnavailable, match="token"):
            await holder.wrap(reference, KEY, BOUND_TO)
        file.write_text("s.another")
        assert await holder.wrap(reference, KEY, BOUND_TO)
        file.unlink()
        with pytest.raises(KeyHolderUnavailable, match="cannot be read"):
            await holder.wrap(reference, KEY, BOUND_TO)


@pytest.mark.parametrize("token", ["", " \n", "s.sécret", "s.secret\r\nX-Other: 1", "s.secret\0"], ids=ascii)
async def test_a_token_that_is_no_header_is_not_sent_and_not_quoted(transit: TransitSimulator, token: str) -> None:
    async with holder_at(transit, token=lambda: token) as holder:
        with pytest.raises(KeyHolderUnavailable, match="malformed") as refused:
            await holder.create("deployment-1")
    assert "cret" not in _whole_text(refused.value)
    assert transit.asked == []


async def test_a_token_file_that_is_no_text_is_not_quoted(transit: TransitSimulator, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"s.secret\xff")
    async with holder_at(transit, token=lambda: file.read_text("utf-8")) as holder:
        with pytest.raises(KeyHolderUnavailable, match="malformed") as refused:
            await holder.create("deployment-1")
    assert "secret" not in _whole_text(refused.value)


@pytest.mark.parametrize(
    "mode", [*UNAVAILABLE, Mode.SLOW, None], ids=lambda mode: "down" if mode is None else mode.value
)
async def test_no_exception_and_no_log_line_holds_the_token_a_key_or_an_answer(
    transit: TransitSimulator, mode: Mode | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = (transit.token, base64.b64encode(KEY.expose()).decode(), KEY.expose().hex(), "Vault is sealed")
    url = transit.url if mode is not None else f"http://127.0.0.1:{free_port()}"
    transit.mode = mode or Mode.USUAL
    wrapped = b"vault:v1:" + base64.b64encode(bytes(60))
    async with holder_at(transit, url=url, deadline_s=SHORT_S) as holder:
        reference = {"key": NAME, "version": "1"}
        for call in (holder.wrap(reference, KEY, BOUND_TO), holder.unwrap(reference, wrapped, BOUND_TO)):
            with pytest.raises(KeyHolderUnavailable) as refused:
                await call
            text = _whole_text(refused.value)
            assert not [secret for secret in secrets if secret in text]
    assert not [secret for secret in secrets if secret in caplog.text]


async def test_a_token_that_the_server_does_not_accept_is_unavailable(transit: TransitSimulator) -> None:
    async with holder_at(transit, token=lambda: "s.wrong") as holder:
        with pytest.raises(KeyHolderUnavailable, match="does not accept the token"):
            await holder.create("deployment-1")


@pytest.mark.parametrize("wrong", [{"mount": "kv"}, {"namespace": "other"}], ids=["mount", "namespace"])
async def test_an_engine_that_is_not_there_is_unavailable_and_not_a_lost_key(
    transit: TransitSimulator, wrong: dict[str, str]
) -> None:
    async with holder_at(transit, **wrong) as holder:
        for call in (holder.create("deployment-1"), holder.destroy({"key": NAME, "version": "1"})):
            with pytest.raises(KeyHolderUnavailable):
                await call
    assert transit.keys == {}


async def test_a_namespace_and_a_mount_of_several_parts_are_said(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        transit = server.put(TransitSimulator(mount="teams/ml/transit", namespace="models"))
        async with holder_at(transit, mount="/teams/ml/transit/", namespace="models") as holder:
            assert await holder.create("deployment-1")
    assert transit.asked[0].headers["x-vault-request"] == "true"


async def test_nothing_is_taken_from_the_environment(
    transit: TransitSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with holder_at(transit) as holder:
        assert await holder.create("deployment-1")


async def test_the_servers_certificate_is_checked_against_the_file_or_the_systems(tmp_path: Path) -> None:
    with serving(tmp_path, is_tls=True) as server:
        transit = server.put(TransitSimulator())
        async with holder_at(transit) as holder:
            assert await holder.create("deployment-1")
        n_asked = len(transit.asked)
        async with holder_at(transit, ca_file=None) as holder:
            with pytest.raises(KeyHolderUnavailable, match="does not answer"):
                await holder.create("deployment-2")
        assert len(transit.asked) == n_asked


@pytest.mark.parametrize("content", [None, b"no certificate"], ids=["missing", "of another kind"])
def test_a_file_without_certificates_is_refused_at_the_start(
    transit: TransitSimulator, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Misconfigured, match=re.escape("ca.pem")):
        TransitHolder(url=transit.url, key=NAME, token=lambda: "", deadline_s=1, ca_file=file)


async def test_the_holder_is_a_holder(holder: TransitHolder) -> None:
    as_protocol: RootKeyHolder = holder
    assert as_protocol.kind == "transit"


def _whole_text(error: BaseException) -> str:
    """Return what anything could print of an error and of all that it came from."""
    text, left = "", [error]
    while left:
        each = left.pop()
        text += f"{each!r} {each} {vars(each)!r} {each.args!r}"
        for name in ("request", "doc", "object"):
            held = getattr(each, f"_{name}", None) or vars(each).get(name)
            text += f" {held!r} {dict(getattr(held, 'headers', {}))}"
        left += [cause for cause in (each.__cause__, each.__context__) if cause is not None]
    return text

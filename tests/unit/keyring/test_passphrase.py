"""Root keys from a passphrase: who may read the file, how it changes, what a reference may ask for."""

import asyncio
import base64
import hashlib
from pathlib import Path

import pytest

from maas_gateway.crypto.aead import open_sealed
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected, KeyHolderUnavailable, Misconfigured
from maas_gateway.keyring.holder import Reference, RootKeyHolder
from maas_gateway.keyring.passphrase import PassphraseHolder

pytestmark = [pytest.mark.anyio, pytest.mark.services]

OLD = "correct horse battery staple"
NEW = "a better passphrase, made by a machine"
CHEAP = 1 << 14
AD = b"artifacts of one tenant"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "passphrase", OLD)


@pytest.fixture
def holder(path: Path) -> PassphraseHolder:
    return PassphraseHolder(path, n=CHEAP)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    path.chmod(0o600)
    return path


async def test_unwrap_gives_back_what_wrap_took(holder: PassphraseHolder) -> None:
    key = KeyMaterial.generate()
    reference = await holder.create("deployment-1")
    assert await holder.unwrap(reference, await holder.wrap(reference, key, AD), AD) == key


async def test_another_process_unwraps_what_this_one_wrapped(holder: PassphraseHolder, path: Path) -> None:
    key = KeyMaterial.generate()
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, key, AD)
    await holder.close()
    assert await PassphraseHolder(path).unwrap(reference, wrapped, AD) == key


async def test_wrapped_keys_open_with_scrypt_and_aes_gcm_of_another_implementation(holder: PassphraseHolder) -> None:
    """The format is fixed here: what a release wraps, later ones open."""
    key = KeyMaterial.generate()
    reference = await holder.create("deployment-1")
    salt = hashlib.sha256(b"\x00\x14mgw1 passphrase salt\x00\x0cdeployment-1").digest()[:16]
    assert reference == {
        "kdf": "scrypt",
        "salt": base64.b64encode(salt).decode(),
        "n": "16384",
        "r": "8",
        "p": "1",
    }
    derived = hashlib.scrypt(OLD.encode(), salt=salt, n=CHEAP, r=8, p=1, dklen=32)
    wrapped = await holder.wrap(reference, key, AD)
    assert open_sealed(KeyMaterial.from_bytes(derived), wrapped, AD) == key.expose()


async def test_keys_cost_what_owasp_recommends_unless_told_otherwise(path: Path) -> None:
    holder: RootKeyHolder = PassphraseHolder(path)
    assert holder.kind == "passphrase"
    reference = await holder.create("deployment-1")
    assert {name: reference[name] for name in ("n", "r", "p")} == {"n": "131072", "r": "8", "p": "1"}


async def test_create_gives_one_name_one_key_and_another_name_another(holder: PassphraseHolder, path: Path) -> None:
    reference = await holder.create("deployment-1")
    assert await PassphraseHolder(path, n=CHEAP).create("deployment-1") == reference
    other = await holder.create("deployment-2")
    assert other["salt"] != reference["salt"]
    wrapped = await holder.wrap(reference, KeyMaterial.generate(), AD)
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(other, wrapped, AD)


async def test_unwrap_refuses_other_associated_data(holder: PassphraseHolder) -> None:
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, KeyMaterial.generate(), AD)
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(reference, wrapped, b"artifacts of another")


async def test_unwrap_refuses_every_altered_byte_and_every_cut(holder: PassphraseHolder) -> None:
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, KeyMaterial.generate(), AD)
    altered = [wrapped[:i] + bytes([wrapped[i] ^ 1]) + wrapped[i + 1 :] for i in range(len(wrapped))]
    for refused in [*altered, b"", wrapped[:12], wrapped[:-1], wrapped + b"\x00"]:
        with pytest.raises(CiphertextRejected):
            await holder.unwrap(reference, refused, AD)


async def test_a_passphrase_is_changed_without_a_restart_and_without_losing_a_key(
    holder: PassphraseHolder, path: Path
) -> None:
    key = KeyMaterial.generate()
    first = await holder.create("deployment-1")
    wrapped = await holder.wrap(first, key, AD)

    write(path, NEW, OLD)
    assert await holder.unwrap(first, wrapped, AD) == key

    second = await holder.create("deployment-2")
    rewrapped = await holder.wrap(second, key, AD)
    write(path, NEW)
    assert await holder.unwrap(second, rewrapped, AD) == key
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(first, wrapped, AD)


async def test_a_key_that_was_made_before_the_change_wraps_with_the_new_passphrase(
    holder: PassphraseHolder, path: Path
) -> None:
    key = KeyMaterial.generate()
    reference = await holder.create("deployment-1")
    await holder.wrap(reference, key, AD)
    write(path, NEW, OLD)
    wrapped = await holder.wrap(reference, key, AD)
    write(path, NEW)
    assert await holder.unwrap(reference, wrapped, AD) == key


async def test_blanks_around_a_passphrase_and_empty_lines_do_not_count(holder: PassphraseHolder, path: Path) -> None:
    key = KeyMaterial.generate()
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, key, AD)
    path.write_bytes(f"\n  {OLD}\t\r\n\r\n".encode())
    assert await holder.unwrap(reference, wrapped, AD) == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610], ids=lambda mode: f"{mode:o}")
def test_holder_refuses_a_file_that_others_can_use(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(Misconfigured, match="chmod 600"):
        PassphraseHolder(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(b"", "holds no passphrase", id="an empty file"),
        pytest.param(b"\n \r\n\t\n", "holds no passphrase", id="blanks only"),
        pytest.param(b"fifteen letters\n", "fewer than 16", id="a short passphrase"),
        pytest.param("fünfzehn Zeiche\n".encode(), "fewer than 16", id="sixteen bytes of fifteen characters"),
        pytest.param(OLD.encode() + b"\nfifteen letters\n", "fewer than 16", id="a short second passphrase"),
        pytest.param(b"\xff" * 32, "no UTF-8", id="no text"),
    ],
)
def test_holder_refuses_a_file_without_a_good_passphrase_and_does_not_quote_it(
    path: Path, content: bytes, complaint: str
) -> None:
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=complaint) as refused:
        PassphraseHolder(path)
    assert "letters" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_holder_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="passphrase cannot be read: No such file"):
        PassphraseHolder(tmp_path / "passphrase")


@pytest.mark.parametrize("n", [0, -(1 << 14), 1 << 13, (1 << 14) + 1, 1 << 20], ids=str)
def test_holder_refuses_a_cost_that_it_would_not_accept_from_a_reference(path: Path, n: int) -> None:
    with pytest.raises(Misconfigured, match="power of two"):
        PassphraseHolder(path, n=n)


async def test_a_file_that_vanishes_makes_the_holder_unavailable_until_it_is_back(
    holder: PassphraseHolder, path: Path
) -> None:
    key = KeyMaterial.generate()
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, key, AD)
    path.rename(path.with_name("away"))
    for call in (
        holder.create("deployment-1"),
        holder.wrap(reference, key, AD),
        holder.unwrap(reference, wrapped, AD),
    ):
        with pytest.raises(KeyHolderUnavailable) as refused:
            await call
        assert refused.value.retry_after_s == 5
        assert str(path) not in refused.value.detail
    path.with_name("away").rename(path)
    assert await holder.unwrap(reference, wrapped, AD) == key


async def test_a_file_that_others_can_read_from_some_moment_on_is_not_used(
    holder: PassphraseHolder, path: Path
) -> None:
    reference = await holder.create("deployment-1")
    path.chmod(0o644)
    with pytest.raises(KeyHolderUnavailable):
        await holder.wrap(reference, KeyMaterial.generate(), AD)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"n": str(1 << 21), "r": "2"}, id="n too large"),
        pytest.param({"n": str(1 << 13), "r": "16"}, id="n too small"),
        pytest.param({"n": "131071"}, id="n no power of two"),
        pytest.param({"n": "0"}, id="n is nothing"),
        pytest.param({"n": "-131072"}, id="n negative"),
        pytest.param({"n": "131_072"}, id="n as a program writes it"),
        pytest.param({"n": "１３１０７２"}, id="n in other digits"),  # noqa: RUF001  they are the point
        pytest.param({"n": "1" * 5000}, id="n too long to read"),
        pytest.param({"n": 131072}, id="n is no text"),
        pytest.param({"r": "0"}, id="r too small"),
        pytest.param({"r": "33"}, id="r too large"),
        pytest.param({"p": "0"}, id="p too small"),
        pytest.param({"p": "17"}, id="p too large"),
        pytest.param({"n": str(1 << 20), "r": "32"}, id="four gigabytes"),
        pytest.param({"n": str(1 << 20), "r": "8"}, id="one gigabyte"),
        pytest.param({"n": str(1 << 19), "p": "16"}, id="half a minute"),
        pytest.param({"n": str(1 << 14), "r": "1"}, id="cheap to guess"),
        pytest.param({"kdf": "pbkdf2"}, id="another derivation"),
        pytest.param({"salt": ""}, id="no salt"),
        pytest.param({"salt": base64.b64encode(bytes(15)).decode()}, id="a short salt"),
        pytest.param({"salt": base64.b64encode(bytes(17)).decode()}, id="a long salt"),
        pytest.param({"salt": "*" * 24}, id="a salt that is no base64"),
        pytest.param({"salt": "é" * 24}, id="a salt that is no ASCII"),
    ],
)
async def test_a_reference_that_asks_for_too_much_is_refused_before_anything_is_derived(
    holder: PassphraseHolder, change: dict[str, str]
) -> None:
    reference: Reference = {**await holder.create("deployment-1"), **change}
    for call in (
        holder.unwrap(reference, bytes(60), AD),
        holder.wrap(reference, KeyMaterial.generate(), AD),
        holder.destroy(reference),
    ):
        with pytest.raises(CiphertextRejected):
            await call
    assert not holder._keys


@pytest.mark.parametrize("name", ["kdf", "salt", "n", "r", "p"])
async def test_a_reference_that_lacks_something_is_refused(holder: PassphraseHolder, name: str) -> None:
    reference = {**await holder.create("deployment-1")}
    del reference[name]
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(reference, bytes(60), AD)


async def test_derivations_leave_the_event_loop_free_and_run_one_at_a_time(path: Path) -> None:
    holder = PassphraseHolder(path, n=1 << 16)
    references = [await holder.create(f"deployment-{i}") for i in range(3)]
    wrapping = asyncio.gather(*(holder.wrap(reference, KeyMaterial.generate(), AD) for reference in references))
    n_turns, most_threads = 0, 0
    while not wrapping.done():
        await asyncio.sleep(0.001)
        n_turns += 1
        most_threads = max(most_threads, sum(t.name.startswith("passphrase") for t in holder._worker._threads))
    assert len(await wrapping) == 3
    assert n_turns > 20
    assert most_threads == 1


async def test_a_key_is_derived_once_for_many_calls(holder: PassphraseHolder) -> None:
    reference = await holder.create("deployment-1")
    await asyncio.gather(*(holder.wrap(reference, KeyMaterial.generate(), AD) for _ in range(100)))
    assert len(holder._keys) == 1


async def test_derived_keys_do_not_pile_up_without_end(holder: PassphraseHolder) -> None:
    first, second = await holder.create("deployment-1"), await holder.create("deployment-2")
    await holder.wrap(first, KeyMaterial.generate(), AD)
    ((derivation, _),) = holder._keys
    holder._keys |= {(derivation, bytes([i])): KeyMaterial.generate() for i in range(255)}
    await holder.wrap(second, KeyMaterial.generate(), AD)
    assert len(holder._keys) == 256
    assert next(iter(holder._keys))[1] == b"\x00"


async def test_destroy_forgets_one_derived_key_and_may_be_repeated(holder: PassphraseHolder) -> None:
    key = KeyMaterial.generate()
    first, second = await holder.create("deployment-1"), await holder.create("deployment-2")
    wrapped = await holder.wrap(first, key, AD)
    await holder.wrap(second, key, AD)
    await holder.destroy(first)
    await holder.destroy(first)
    assert len(holder._keys) == 1
    assert await holder.unwrap(first, wrapped, AD) == key  # the passphrase is still known


async def test_close_lets_go_of_derived_keys_and_may_be_repeated(holder: PassphraseHolder) -> None:
    await holder.wrap(await holder.create("deployment-1"), KeyMaterial.generate(), AD)
    await holder.close()
    await holder.close()
    assert not holder._keys

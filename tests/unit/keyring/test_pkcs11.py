"""Root keys on a PKCS #11 token: what the token keeps to itself, what is refused, and how a lost token comes back."""

import asyncio
import inspect
import os
import shutil
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest

from builders.logs import Lines
from maas_gateway.crypto.aead import open_sealed, seal
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected, GatewayError, KeyHolderUnavailable, Misconfigured
from maas_gateway.keyring.holder import Reference, RootKeyHolder
from maas_gateway.keyring.pkcs11 import PKCS11Holder

pytestmark = [pytest.mark.anyio, pytest.mark.services]

AD = b"artifacts of one tenant"
PIN = "4711-user-pin"
WRONG_PIN = "0815-wrong-pin"
LABEL = "gateway"
LIBRARIES = tuple(
    Path(folder) / "softhsm" / "libsofthsm2.so"
    for folder in (
        "/usr/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/local/lib",
        "/usr/lib64",
    )
)


@dataclass(slots=True)
class Token:
    """A SoftHSM token in a folder, and the PIN that the holder is given."""

    library: Path
    folder: Path
    pin: str = PIN
    n_asked: int = 0

    def read_pin(self) -> str:
        self.n_asked += 1
        return self.pin

    def holder(self, *, label: str = LABEL, deadline_s: float = 10.0) -> PKCS11Holder:
        return PKCS11Holder(self.library, token=label, pin=self.read_pin, deadline_s=deadline_s)

    def take_out(self) -> None:
        self.folder.rename(self.folder.with_name("away"))
        self.folder.mkdir()

    def put_back(self) -> None:
        self.folder.rmdir()
        self.folder.with_name("away").rename(self.folder)

    @contextmanager
    def session(self) -> Iterator[Any]:
        """Use the token as another program would; a session that the holder has open is lost."""
        import pkcs11

        library = pkcs11.lib(str(self.library))
        library.reinitialize()
        try:
            yield library.get_token(token_label=LABEL).open(rw=True, user_pin=self.pin)
        finally:
            library.finalize()

    def labels(self) -> list[str]:
        with self.session() as session:
            return [key.label for key in session.get_objects()]


@pytest.fixture(scope="module")
def library() -> Path:
    found = [path for path in LIBRARIES if path.exists()]
    if shutil.which("softhsm2-util") is None or not found:
        _give_up("there is no SoftHSM; to enable this test: sudo apt-get install softhsm2")
    if find_spec("pkcs11") is None:
        _give_up("there is no python-pkcs11; to enable this test: pip install 'maas-gateway[pkcs11]'")
    return found[0]


@pytest.fixture
def token(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Token:
    folder = tmp_path / "tokens"
    folder.mkdir()
    settings = tmp_path / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {folder}\nobjectstore.backend = file\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(settings))  # read whenever the library is initialised
    command = ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", "0000-so-pin"]
    subprocess.run(command, check=True, capture_output=True)
    return Token(library, folder)


@pytest.fixture
async def holder(token: Token) -> AsyncIterator[PKCS11Holder]:
    holder = token.holder()
    yield holder
    await holder.close()


def _give_up(enabling: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(enabling)
    pytest.skip(enabling)


async def test_unwrap_gives_back_what_wrap_took(holder: PKCS11Holder) -> None:
    key = KeyMaterial.generate()
    reference = await holder.create("deployment-1")
    assert reference == {"label": "maas-gateway-deployment-1"}
    assert await holder.unwrap(reference, await holder.wrap(reference, key, AD), AD) == key


async def test_unwrap_gives_back_what_was_wrapped_without_associated_data(holder: PKCS11Holder) -> None:
    key = KeyMaterial.generate()
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, key, b"")
    assert await holder.unwrap(reference, wrapped, b"") == key
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(reference, wrapped, AD)


async def test_holder_is_a_root_key_holder(holder: RootKeyHolder) -> None:
    assert holder.kind == "pkcs11"


async def test_another_process_unwraps_what_this_one_wrapped(holder: PKCS11Holder, token: Token) -> None:
    key = KeyMaterial.generate()
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, key, AD)
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from maas_gateway.keyring.pkcs11 import PKCS11Holder\n"
        "library, token, label, wrapped, ad = sys.argv[1:]\n"
        "holder = PKCS11Holder(Path(library), token=token, pin=sys.stdin.read, deadline_s=10)\n"
        "opened = asyncio.run(holder.unwrap({'label': label}, bytes.fromhex(wrapped), bytes.fromhex(ad)))\n"
        "print(opened.expose().hex())\n"
    )
    command = [sys.executable, "-c", program, str(token.library), LABEL, reference["label"], wrapped.hex(), AD.hex()]
    done = await asyncio.to_thread(subprocess.run, command, input=PIN, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == key.expose().hex()


async def test_wrapped_keys_have_the_layout_of_the_crypto_room(holder: PKCS11Holder, token: Token) -> None:
    known, key = KeyMaterial.generate(), KeyMaterial.generate()
    _plant(token, "maas-gateway-known", known.expose())
    wrapped = await holder.wrap({"label": "maas-gateway-known"}, key, AD)
    assert len(wrapped) == 12 + 32 + 16
    assert open_sealed(known, wrapped, AD) == key.expose()
    assert await holder.unwrap({"label": "maas-gateway-known"}, seal(known, key.expose(), AD), AD) == key
    with pytest.raises(CiphertextRejected):
        await holder.unwrap({"label": "maas-gateway-known"}, seal(known, b"no key", AD), AD)


async def test_wrap_gives_other_bytes_each_time(holder: PKCS11Holder) -> None:
    reference, key = await holder.create("deployment-1"), KeyMaterial.generate()
    assert len({(await holder.wrap(reference, key, AD))[:12] for _ in range(50)}) == 50


async def test_a_key_that_was_made_cannot_be_read_out_and_can_do_nothing_else(
    holder: PKCS11Holder, token: Token
) -> None:
    import pkcs11

    await holder.create("deployment-1")
    with token.session() as session:
        (key,) = session.get_objects()
        is_so = {name: key[pkcs11.Attribute[name]] for name in ("TOKEN", "PRIVATE", "SENSITIVE", "NEVER_EXTRACTABLE")}
        assert set(is_so.values()) == {True}, is_so
        can = {name: key[pkcs11.Attribute[name]] for name in ("EXTRACTABLE", "WRAP", "UNWRAP", "SIGN", "DERIVE")}
        assert set(can.values()) == {False}, can
        assert key.key_length == 256
        with pytest.raises(pkcs11.AttributeSensitive):
            key[pkcs11.Attribute.VALUE]


async def test_create_gives_one_name_one_key_and_another_name_another(holder: PKCS11Holder, token: Token) -> None:
    first = await holder.create("deployment-1")
    wrapped = await holder.wrap(first, KeyMaterial.generate(), AD)
    assert await holder.create("deployment-1") == first
    second = await holder.create("deployment-2")
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(second, wrapped, AD)
    assert sorted(token.labels()) == ["maas-gateway-deployment-1", "maas-gateway-deployment-2"]


async def test_both_keys_of_a_name_open_where_two_processes_made_it_at_once(holder: PKCS11Holder, token: Token) -> None:
    reference, key = {"label": "maas-gateway-deployment-1"}, KeyMaterial.generate()
    wrapped = []
    for _ in range(2):
        (token.folder.parent / "aside").mkdir(exist_ok=True)
        await holder.create("deployment-1")
        wrapped.append(await holder.wrap(reference, key, AD))
        await holder.close()
        _hide_keys(token)
    _show_keys(token)
    assert token.labels() == [reference["label"]] * 2
    assert [await holder.unwrap(reference, one, AD) for one in wrapped] == [key, key]
    await holder.destroy(reference)
    assert token.labels() == []


async def test_unwrap_refuses_other_associated_data(holder: PKCS11Holder) -> None:
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, KeyMaterial.generate(), AD)
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(reference, wrapped, b"artifacts of another")


async def test_unwrap_refuses_every_altered_byte_and_every_cut_and_goes_on(holder: PKCS11Holder, token: Token) -> None:
    reference, key = await holder.create("deployment-1"), KeyMaterial.generate()
    wrapped = await holder.wrap(reference, key, AD)
    token.n_asked = 0
    altered = [wrapped[:i] + bytes([wrapped[i] ^ 1]) + wrapped[i + 1 :] for i in range(len(wrapped))]
    for refused in [*altered, b"", wrapped[:12], wrapped[:-1], wrapped + b"\x00"]:
        with pytest.raises(CiphertextRejected):
            await holder.unwrap(reference, refused, AD)
    assert await holder.unwrap(reference, wrapped, AD) == key
    assert token.n_asked == 0  # no session was given up for it


async def test_destroy_destroys_one_key_and_leaves_one_that_is_gone_gone(holder: PKCS11Holder, token: Token) -> None:
    key = KeyMaterial.generate()
    first, second = await holder.create("deployment-1"), await holder.create("deployment-2")
    wrapped = [await holder.wrap(reference, key, AD) for reference in (first, second)]
    await holder.destroy(first)
    await holder.destroy(first)
    await holder.close()
    assert token.labels() == [second["label"]]
    with pytest.raises(KeyHolderUnavailable, match="NoSuchKey"):
        await holder.unwrap(first, wrapped[0], AD)
    with pytest.raises(KeyHolderUnavailable, match="NoSuchKey"):
        await holder.wrap(first, key, AD)
    assert await holder.unwrap(second, wrapped[1], AD) == key


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param({}, id="no label"),
        pytest.param({"label": "payments"}, id="another application's"),
        pytest.param({"label": "maas-gateway-"}, id="no name"),
        pytest.param({"label": "maas-gateway-1\n"}, id="a line's end"),
        pytest.param({"label": "maas-gateway-" + "a" * 65}, id="a long name"),
    ],
)
async def test_a_reference_that_is_not_ours_touches_no_key(
    holder: PKCS11Holder, token: Token, reference: Reference
) -> None:
    if "label" in reference:
        _plant(token, reference["label"], bytes(32))
    before = token.labels()
    for call in (
        holder.wrap(reference, KeyMaterial.generate(), AD),
        holder.unwrap(reference, bytes(60), AD),
        holder.destroy(reference),
    ):
        with pytest.raises(CiphertextRejected):
            await call
    assert token.labels() == before


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param({"EXTRACTABLE": True}, id="extractable"),
        pytest.param({"SENSITIVE": False}, id="not sensitive"),
        pytest.param({"TOKEN": False}, id="of a session only"),
    ],
)
async def test_a_key_that_could_be_read_out_is_not_used_even_under_our_label(
    holder: PKCS11Holder, token: Token, attributes: dict[str, bool]
) -> None:
    _plant(token, "maas-gateway-deployment-1", bytes(32), **attributes)
    with pytest.raises(KeyHolderUnavailable, match="NoSuchKey"):
        await holder.wrap({"label": "maas-gateway-deployment-1"}, KeyMaterial.generate(), AD)
    reference = await holder.create("deployment-1")
    wrapped = await holder.wrap(reference, KeyMaterial.generate(), AD)
    with pytest.raises(CiphertextRejected):
        open_sealed(KeyMaterial.from_bytes(bytes(32)), wrapped, AD)


@pytest.mark.parametrize(
    ("nonce", "tag_bits"),
    [
        pytest.param(lambda _: os.urandom(12), 128, id="a nonce of the token's own"),
        pytest.param(lambda given: given, 96, id="another length"),
    ],
)
async def test_wrap_refuses_what_a_token_sealed_in_another_way(
    holder: PKCS11Holder, monkeypatch: pytest.MonkeyPatch, nonce: Callable[[bytes], bytes], tag_bits: int
) -> None:
    import pkcs11

    reference = await holder.create("deployment-1")
    given = pkcs11.GCMParams
    monkeypatch.setattr(pkcs11, "GCMParams", lambda ours, ad, _: given(nonce(ours), ad, tag_bits))
    with pytest.raises(KeyHolderUnavailable):
        await holder.wrap(reference, KeyMaterial.generate(), AD)


async def test_a_token_that_opens_nothing_at_all_does_not_accuse_the_ciphertext(
    holder: PKCS11Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pkcs11

    reference, key = await holder.create("deployment-1"), KeyMaterial.generate()
    wrapped = await holder.wrap(reference, key, AD)
    with monkeypatch.context() as broken:
        given = pkcs11.GCMParams
        broken.setattr(pkcs11, "GCMParams", lambda nonce, ad, _: given(nonce, ad, 7))
        with pytest.raises(KeyHolderUnavailable):
            await holder.unwrap(reference, wrapped, AD)
    assert await holder.unwrap(reference, wrapped, AD) == key


async def test_a_wrong_pin_is_refused_and_the_right_one_accepted_later(holder: PKCS11Holder, token: Token) -> None:
    token.pin = WRONG_PIN
    with pytest.raises(KeyHolderUnavailable, match="PinIncorrect"):
        await holder.create("deployment-1")
    token.pin = PIN
    assert await holder.create("deployment-1") == {"label": "maas-gateway-deployment-1"}


async def test_a_refused_pin_is_not_tried_again_because_tokens_lock_themselves(
    holder: PKCS11Holder, token: Token
) -> None:
    token.pin = WRONG_PIN
    with pytest.raises(KeyHolderUnavailable, match="PinIncorrect"):
        await holder.create("deployment-1")
    token.pin = PIN
    with token.session() as session:
        session.set_pin(PIN, WRONG_PIN)  # were it tried, it would be accepted now
    token.pin = WRONG_PIN
    with pytest.raises(KeyHolderUnavailable, match="not tried again"):
        await holder.create("deployment-1")
    restarted = token.holder()
    assert await restarted.create("deployment-1") == {"label": "maas-gateway-deployment-1"}
    await restarted.close()


async def test_a_refused_pin_is_tried_again_once_another_was_accepted(holder: PKCS11Holder, token: Token) -> None:
    token.pin = WRONG_PIN
    with pytest.raises(KeyHolderUnavailable, match="PinIncorrect"):
        await holder.create("deployment-1")
    token.pin = PIN
    reference = await holder.create("deployment-1")
    await holder.close()
    with token.session() as session:
        session.set_pin(PIN, WRONG_PIN)
    token.pin = WRONG_PIN
    assert await holder.create("deployment-1") == reference


@pytest.mark.parametrize("pin", [PIN, WRONG_PIN], ids=["the right one", "a wrong one"])
async def test_neither_pin_nor_keys_show_in_errors_or_logs(
    holder: PKCS11Holder, token: Token, lines: Lines, pin: str
) -> None:
    key = KeyMaterial.generate()
    token.pin = pin
    reference = {"label": "maas-gateway-nowhere"}
    written = ""
    for _ in range(2):
        with pytest.raises(KeyHolderUnavailable) as refused:
            await holder.wrap(reference, key, AD)
        written += lines.getvalue() + _all_that_a_traceback_could_show(refused.value)
    assert pin not in written
    assert key.expose().hex() not in written
    assert repr(key.expose()) not in written


@pytest.mark.parametrize(
    ("cause", "complaint"),
    [
        pytest.param(FileNotFoundError("pin"), "cannot be read", id="no file"),
        pytest.param(Misconfigured("pin"), "cannot be read", id="a file that others can read"),
        pytest.param(UnicodeDecodeError("utf-8", b"\xff" + PIN.encode(), 0, 1, "no"), "no UTF-8", id="no text"),
    ],
)
async def test_a_pin_that_cannot_be_read_makes_the_holder_unavailable(
    token: Token, cause: Exception, complaint: str
) -> None:
    def read_pin() -> str:
        raise cause

    holder = PKCS11Holder(token.library, token=LABEL, pin=read_pin, deadline_s=10)
    with pytest.raises(KeyHolderUnavailable, match=complaint) as refused:
        await holder.create("deployment-1")
    assert isinstance(refused.value.__cause__, OSError | GatewayError | None)


async def test_a_token_that_is_taken_out_is_missed_and_used_again_when_it_is_back(
    holder: PKCS11Holder, token: Token
) -> None:
    reference, key = await holder.create("deployment-1"), KeyMaterial.generate()
    wrapped = await holder.wrap(reference, key, AD)
    token.take_out()
    calls: list[Callable[[], Any]] = [
        lambda: holder.unwrap(reference, wrapped, AD),
        lambda: holder.wrap(reference, key, AD),
        lambda: holder.create("deployment-2"),
        lambda: holder.destroy(reference),
    ]
    for call in calls * 2:
        with pytest.raises(KeyHolderUnavailable) as refused:
            await call()
        assert refused.value.retry_after_s == 5
    token.put_back()
    assert await holder.unwrap(reference, wrapped, AD) == key
    assert token.labels() == [reference["label"]]


async def test_destroy_does_not_take_a_key_for_gone_whose_token_has_just_been_taken_out(
    holder: PKCS11Holder, token: Token
) -> None:
    reference = await holder.create("deployment-1")
    token.take_out()
    with pytest.raises(KeyHolderUnavailable):
        await holder.destroy(reference)
    token.put_back()
    assert token.labels() == [reference["label"]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # python-pkcs11 ends a search twice
async def test_a_session_that_is_lost_is_opened_again_without_the_caller_noticing(
    holder: PKCS11Holder, token: Token
) -> None:
    reference, key = await holder.create("deployment-1"), KeyMaterial.generate()
    wrapped = await holder.wrap(reference, key, AD)
    assert token.labels() == [reference["label"]]  # which finalises the module under the holder
    assert await holder.unwrap(reference, wrapped, AD) == key


async def test_a_token_of_another_label_is_not_used(token: Token) -> None:
    with pytest.raises(KeyHolderUnavailable, match="NoSuchToken"):
        await token.holder(label="another").create("deployment-1")


async def test_a_module_that_does_not_answer_is_given_up_at_the_deadline(token: Token) -> None:
    answers, key = threading.Event(), KeyMaterial.generate()

    def read_pin() -> str:
        assert answers.wait(20)
        return PIN

    holder = PKCS11Holder(token.library, token=LABEL, pin=read_pin, deadline_s=0.05)
    for _ in range(2):
        with pytest.raises(KeyHolderUnavailable, match="not answer in time"):
            await holder.create("deployment-1")
    await holder.close()
    answers.set()
    holder._deadline_s = 10.0
    reference = await holder.create("deployment-1")
    assert await holder.unwrap(reference, await holder.wrap(reference, key, AD), AD) == key
    assert len(holder._worker._threads) == 1
    await holder.close()


async def test_close_ends_the_session_and_may_be_repeated(holder: PKCS11Holder, token: Token) -> None:
    reference, key = await holder.create("deployment-1"), KeyMaterial.generate()
    wrapped = await holder.wrap(reference, key, AD)
    await holder.close()
    await holder.close()
    assert holder._session is None
    assert await holder.unwrap(reference, wrapped, AD) == key
    assert token.n_asked == 2


async def test_a_file_that_is_no_module_makes_the_holder_unavailable(token: Token, tmp_path: Path) -> None:
    (tmp_path / "module.so").write_text("not a library")
    holder = PKCS11Holder(tmp_path / "module.so", token=LABEL, pin=token.read_pin, deadline_s=10)
    with pytest.raises(KeyHolderUnavailable):
        await holder.create("deployment-1")


def test_holder_says_which_module_is_missing(token: Token, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"no PKCS #11 module at .*nowhere\.so"):
        PKCS11Holder(tmp_path / "nowhere.so", token=LABEL, pin=token.read_pin, deadline_s=10)


def test_holder_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(Misconfigured, match=r"pip install 'maas-gateway\[pkcs11\]'"):
        PKCS11Holder(tmp_path / "module.so", token=LABEL, pin=str, deadline_s=10)


def _plant(token: Token, label: str, value: bytes, **attributes: bool) -> None:
    import pkcs11

    wanted = {"TOKEN": True, "SENSITIVE": True, "EXTRACTABLE": False, "ENCRYPT": True, "DECRYPT": True} | attributes
    with token.session() as session:
        session.create_object(
            {
                pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.AES,
                pkcs11.Attribute.LABEL: label,
                pkcs11.Attribute.VALUE: value,
            }
            | {pkcs11.Attribute[name]: value for name, value in wanted.items()}
        )


def _all_that_a_traceback_could_show(error: BaseException | None) -> str:
    shown = ""
    while error is not None:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        ours = [frame for frame in frames if frame.f_code.co_filename == inspect.getsourcefile(PKCS11Holder)]
        assert ours or error.__traceback__ is None
        shown += repr(error) + "".join(repr(frame.f_locals) for frame in ours)
        error = error.__cause__ or error.__context__
    return shown


def _hide_keys(token: Token) -> None:
    """Move the token's objects where a process that has not seen them yet does not see them."""
    for file in token.folder.glob("*/*.object"):
        if file.name != "token.object":
            file.rename(token.folder.parent / "aside" / file.name)


def _show_keys(token: Token) -> None:
    (place,) = token.folder.iterdir()
    for file in (token.folder.parent / "aside").iterdir():
        file.rename(place / file.name)

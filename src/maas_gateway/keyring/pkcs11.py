"""A root-key holder whose keys never leave a hardware security module: PKCS #11.

Rules:

- keys are made on the token, sensitive and not extractable, and found again by their label;
- everything runs in one thread, because a session is for one thread;
- what fails on a session that was opened earlier is tried once more on a new one;
- a wrapped key is opened once, on the token, before it is handed out;
- a PIN that the token refused is not tried again until there is another: tokens count refusals.
"""

import asyncio
import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from maas_gateway.crypto.aead import NONCE_BYTES, REJECTED, TAG_BYTES
from maas_gateway.crypto.key_material import KEY_BYTES, KeyMaterial
from maas_gateway.errors import CiphertextRejected, GatewayError, KeyHolderUnavailable, Misconfigured
from maas_gateway.keyring.breaker import RETRY_S, answered_within
from maas_gateway.keyring.holder import Reference

if TYPE_CHECKING:
    from pkcs11 import Session

_T = TypeVar("_T")

_PREFIX: Final = "maas-gateway-"
_LABEL: Final = re.compile(f"{_PREFIX}[a-z0-9-]{{1,64}}")
_WRAPPED_BYTES: Final = NONCE_BYTES + KEY_BYTES + TAG_BYTES


class _TokenKey(Protocol):
    """What is used of the library's secret keys, whose types it makes as it runs."""

    def encrypt(self, data: bytes, *, mechanism: object, mechanism_param: object) -> bytes: ...

    def decrypt(self, data: bytes, *, mechanism: object, mechanism_param: object) -> bytes: ...

    def destroy(self) -> None: ...


class PKCS11Holder:
    """Root keys on one token, used through its vendor's PKCS #11 module.

    Wrapped keys have the layout of `crypto.aead`: nonce, ciphertext, tag.

    Protects against: reading a root key, by whoever has this process, its memory, its disk or its
    backups; and a changed reference that names a key of another application on the same token.
    Does not protect against: whoever has the PIN and reaches the token, who can have keys unwrapped
    there; nor against this process's memory being read while unwrapped keys are in it.

    The token must take a nonce from outside: some choose their own (in FIPS mode, for one) and give
    it back in ways that the standard did not foresee. What such a token wraps does not open and is
    refused at once, before anything is stored.

    The module belongs to this holder: it is finalised and initialised again when something failed
    (tokens that come and go are seen in no other way), which ends all sessions of this process.
    A holder is made in the process that uses it, not before a fork. A call that the module never
    returns from cannot be broken off: later calls run into their deadline, and the process into
    whatever ends processes that do not end themselves.

    Args:
        library: the module, for example `/usr/lib/softhsm/libsofthsm2.so`.
        token: the token's label.
        pin: reads the user's PIN; asked whenever a session is opened. What it may raise is OSError,
            ValueError or GatewayError.
        deadline_s: after how long a call is given up.

    Raises:
        Misconfigured: python-pkcs11 is not installed, or there is no such module.

    Source: OASIS PKCS #11 Current Mechanisms 3.0, section 2.13 (AES-GCM).
    """

    kind: Final = "pkcs11"

    def __init__(self, library: Path, *, token: str, pin: Callable[[], str], deadline_s: float) -> None:
        self._pkcs11 = _import()
        if not library.is_file():
            raise Misconfigured(f"there is no PKCS #11 module at {library}")
        self._path = str(library)
        self._token = token
        self._pin = pin
        self._refused_pin: str | None = None
        self._deadline_s = deadline_s
        self._library: Any = None
        self._session: Session | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pkcs11")

    async def create(self, name: str) -> Reference:
        """Make an AES-256 key on the token, unless this name has one.

        Tokens allow many keys under one label. If two processes create one name at the same moment,
        both keys stay and both are tried when unwrapping, so nothing is lost.

        Raises:
            KeyHolderUnavailable: the token is not there, refuses, or does not answer in time.
        """
        label = _PREFIX + name

        def work(session: "Session") -> None:
            if not self._keys(session, label):
                capabilities = self._pkcs11.MechanismFlag.ENCRYPT | self._pkcs11.MechanismFlag.DECRYPT
                aes = self._pkcs11.KeyType.AES
                template = self._template(label)
                session.generate_key(aes, KEY_BYTES * 8, capabilities=capabilities, template=template)

        # A session that has lost sight of the token would have a second key made.
        await self._call(work, afresh=True)
        return {"label": label}

    async def wrap(self, reference: Reference, key: KeyMaterial, associated_data: bytes) -> bytes:
        """Wrap on the token.

        Raises:
            CiphertextRejected: the reference is none that `create` gives.
            KeyHolderUnavailable: the token is not there, refuses, has not got the key, or does not
                answer in time.
        """
        label = _label(reference)
        return await self._call(lambda session: self._seal(self._present(session, label)[0], key, associated_data))

    async def unwrap(self, reference: Reference, wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        """Unwrap on the token.

        Raises:
            CiphertextRejected: it was altered or moved, another key wrapped it, or the reference is
                none that `create` gives.
            KeyHolderUnavailable: the token is not there, refuses, has not got the key, or does not
                answer in time.
        """
        label = _label(reference)
        if len(wrapped) != _WRAPPED_BYTES:
            raise CiphertextRejected(REJECTED)

        def work(session: "Session") -> KeyMaterial:
            for key in self._present(session, label):
                try:
                    return self._open(key, wrapped, associated_data)
                except self._pkcs11.PKCS11Error:
                    # Tokens name a tag that does not fit in different ways (SoftHSM 2.6.1: "general error",
                    # its issue 689), so the key is asked for what it must be able to do: if that fails, it
                    # is the token that has failed; if not, it is the ciphertext.
                    self._seal(key, KeyMaterial.generate(), associated_data)
            raise CiphertextRejected(REJECTED)

        return await self._call(work)

    async def destroy(self, reference: Reference) -> None:
        """Destroy the key on the token; one that is gone is left gone.

        Raises:
            CiphertextRejected: the reference is none that `create` gives; nothing is destroyed.
            KeyHolderUnavailable: the token is not there, refuses, or does not answer in time.
        """
        label = _label(reference)

        def work(session: "Session") -> None:
            for key in self._keys(session, label):
                key.destroy()

        # A session may see nothing because its token has been taken out: only a new one's word counts.
        await self._call(work, afresh=True)

    async def close(self) -> None:
        """End the session and the module; a later call would open them again."""
        with suppress(KeyHolderUnavailable):
            await self._run(self._forget)

    async def _call(self, work: Callable[["Session"], _T], *, afresh: bool = False) -> _T:
        def attempt() -> _T:
            try:
                if self._session is not None and not afresh:
                    with suppress(self._pkcs11.PKCS11Error):
                        return work(self._session)
                self._forget()
                return work(self._open_session())
            except self._pkcs11.PKCS11Error as cause:
                # Its frames hold the PIN, and a search that ends with them: in this thread now, not in another later.
                cause.with_traceback(None)
                self._forget()
                detail = f"the token is not there or refuses: {type(cause).__name__}"
                raise KeyHolderUnavailable(detail, retry_after_s=RETRY_S) from cause

        return await self._run(attempt)

    async def _run(self, work: Callable[[], _T]) -> _T:
        async with answered_within(self._deadline_s):
            return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _open_session(self) -> "Session":
        try:
            pin = self._pin()
        except (OSError, GatewayError) as cause:
            raise KeyHolderUnavailable("the PIN cannot be read now", retry_after_s=RETRY_S) from cause
        except ValueError:
            # The cause is not chained: one of decoding holds the file's bytes.
            raise KeyHolderUnavailable("the PIN is no UTF-8 text", retry_after_s=RETRY_S) from None
        if pin == self._refused_pin:
            del pin  # a traceback that shows values does not show it
            detail = "the token refused this PIN; it is not tried again until there is another"
            raise KeyHolderUnavailable(detail, retry_after_s=RETRY_S)
        self._library = self._pkcs11.lib(self._path)
        token = self._library.get_token(token_label=self._token)
        try:
            session: Session = token.open(rw=True, user_pin=pin)
        except (self._pkcs11.PinIncorrect, self._pkcs11.PinInvalid, self._pkcs11.PinLenRange):
            self._refused_pin = pin
            raise
        self._session, self._refused_pin = session, None
        return session

    def _forget(self) -> None:
        # Finalising ends also the session that a refused login has left open.
        self._session = None
        if self._library is not None:
            with suppress(self._pkcs11.PKCS11Error):
                self._library.finalize()
            self._library = None

    def _template(self, label: str) -> dict[Any, Any]:
        attribute = self._pkcs11.Attribute
        return {
            attribute.LABEL: label,
            attribute.TOKEN: True,
            attribute.SENSITIVE: True,
            attribute.EXTRACTABLE: False,
        }

    def _keys(self, session: "Session", label: str) -> list[_TokenKey]:
        # Searched with all that a key of ours is, so that one that could be read out is never used.
        wanted = {
            self._pkcs11.Attribute.CLASS: self._pkcs11.ObjectClass.SECRET_KEY,
            self._pkcs11.Attribute.KEY_TYPE: self._pkcs11.KeyType.AES,
        }
        found: Any = session.get_objects(wanted | self._template(label))
        return list(found)

    def _present(self, session: "Session", label: str) -> list[_TokenKey]:
        keys = self._keys(session, label)
        if not keys:
            raise self._pkcs11.NoSuchKey
        return keys

    def _seal(self, key: _TokenKey, plain: KeyMaterial, associated_data: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + key.encrypt(plain.expose(), **self._gcm(nonce, associated_data))
        if len(sealed) != _WRAPPED_BYTES or self._open(key, sealed, associated_data) != plain:
            raise self._pkcs11.FunctionFailed
        return sealed

    def _open(self, key: _TokenKey, sealed: bytes, associated_data: bytes) -> KeyMaterial:
        nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        return KeyMaterial.from_bytes(key.decrypt(ciphertext, **self._gcm(nonce, associated_data)))

    def _gcm(self, nonce: bytes, associated_data: bytes) -> dict[str, Any]:
        parameters = self._pkcs11.GCMParams(nonce, associated_data, TAG_BYTES * 8)
        return {"mechanism": self._pkcs11.Mechanism.AES_GCM, "mechanism_param": parameters}


def _import() -> ModuleType:
    try:
        import pkcs11  # noqa: PLC0415  an extra that most deployments go without
    except ImportError as cause:
        raise Misconfigured("a PKCS #11 token needs python-pkcs11: pip install 'maas-gateway[pkcs11]'") from cause
    return pkcs11


def _label(reference: Reference) -> str:
    label = reference.get("label", "")
    if not _LABEL.fullmatch(label):
        raise CiphertextRejected(REJECTED)
    return label

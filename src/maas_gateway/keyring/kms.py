"""A root-key holder that is AWS KMS: the root key never leaves it, each wrapping and unwrapping is a call.

Rules:
- a root key is a symmetric KMS key, named by its ARN: one that the operator configured, or one a
  version that the gateway makes, with the alias `alias/maas-gateway-<name>` and the tag `maas-gateway`;
- a key is made once for each name, which its alias tells; a kill between making key and alias leaves a
  key that nothing uses;
- only a key with that tag is scheduled for deletion; a configured one is its operator's;
- what a key is wrapped for goes into the encryption context as a digest: CloudTrail logs the context in
  plain text. Whoever reads that log sees when a wrapped key was used, and can tell which from a guess
  at its tenant, purpose and version;
- unwrapping names the key, so that a ciphertext cannot choose another one;
- credentials come from boto3's usual places, never from our settings;
- a request is tried twice where the deadline has room for it, and no attempt outlives it.

The identity needs kms:DescribeKey, kms:Encrypt and kms:Decrypt on its keys; to make and destroy them
also kms:CreateKey, kms:CreateAlias, kms:TagResource, kms:ListResourceTags and kms:ScheduleKeyDeletion.

Protects against a stolen database, backup or disk of this machine. Does not protect against whoever
has that identity's credentials or runs code here; nor, if the identity may use keys of other
accounts, against one who can write the ring's references: allow it its own keys only.

Source: AWS Key Management Service API Reference, CreateKey, CreateAlias, DescribeKey, Encrypt,
Decrypt, ListResourceTags, ScheduleKeyDeletion; Developer Guide, "Encryption context".
"""

import asyncio
import base64
import logging
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from maas_gateway.crypto.aead import REJECTED
from maas_gateway.crypto.digests import sha256
from maas_gateway.crypto.key_material import KEY_BYTES, KeyMaterial
from maas_gateway.errors import CiphertextRejected, Conflict, KeyHolderUnavailable, Misconfigured
from maas_gateway.keyring.breaker import RETRY_S, answered_within
from maas_gateway.keyring.holder import Reference

MAX_WRAPPED_BYTES: Final = 512
"""What the key store keeps of a wrapped key; KMS makes less than 200 of 32 bytes."""

_KEY: Final = "key"
_LABEL: Final = "maas-gateway"
"""The tag of our keys, the start of their aliases, and the one entry of an encryption context."""
_ALGORITHM: Final = "SYMMETRIC_DEFAULT"
_DELETION_DAYS: Final = 7
"""The shortest that KMS takes."""
_GOING: Final = frozenset({"PendingDeletion", "PendingReplicaDeletion"})
_MISSING, _TAKEN = "NotFoundException", "AlreadyExistsException"
_NOT_OURS: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
_ARN = re.compile(r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]{1,32}):[0-9]{12}:key/[A-Za-z0-9-]{1,64}", re.ASCII)
_NONSENSE: Final = "AWS KMS did not answer as it does"
_REFUSALS: Final = {
    _MISSING: "AWS KMS has not got the root key",
    "DisabledException": "the root key is disabled at AWS KMS",
    "KMSInvalidStateException": "the root key is at AWS KMS in a state in which it cannot be used",
    "AccessDeniedException": "AWS KMS does not let this gateway do that with the root key",
    "ThrottlingException": "AWS KMS has too much to do",
}
_LEAST_FOR_TWO_TRIES_S: Final = 4.0
_LONGEST_BACKOFF_S: Final = 1.0
"""Of botocore's standard mode, before the second try."""

_T = TypeVar("_T")


class _Refused(Exception):
    """KMS answered with an error, which `code` names."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class KMSHolder:
    """Root keys at AWS KMS.

    Args:
        region: the region; none means what boto3 finds.
        endpoint_url: another address than AWS's own; none means what boto3 finds.
        key: id, ARN or alias of the operator's key; none lets the gateway make keys of its own.
        deadline_s: how long a call of this holder may take.

    Raises:
        Misconfigured: boto3 is not installed, or there is no region.
    """

    kind: Final = "kms"

    def __init__(self, *, region: str | None, endpoint_url: str | None, key: str | None, deadline_s: float) -> None:
        self._session = _session(region)
        self._endpoint_url = endpoint_url
        self._key = key
        self._deadline_s = deadline_s
        self._opening = threading.Lock()
        self._client: Any = None  # boto3 makes its classes when it runs

    async def create(self, name: str) -> Reference:
        """Return the configured key, or make one of that name.

        Raises:
            KeyHolderUnavailable: KMS does not answer, refuses, or has not got the configured key.
            Conflict: the key that is there is not for symmetric encryption.
        """
        return {_KEY: await self._run(lambda: self._create(name))}

    async def wrap(self, reference: Reference, key: KeyMaterial, associated_data: bytes) -> bytes:
        """Wrap under that KMS key.

        Raises:
            CiphertextRejected: the reference is none of this holder's.
            KeyHolderUnavailable: KMS does not answer, or refuses.
        """
        arn = self._named(reference)
        return await self._run(lambda: self._encrypt(arn, key, associated_data))

    async def unwrap(self, reference: Reference, wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        """Unwrap with that KMS key.

        Raises:
            CiphertextRejected: it was altered or moved, another key wrapped it, or the reference is none of this
                holder's.
            KeyHolderUnavailable: KMS does not answer, has not got the key or has it disabled.
        """
        arn = self._named(reference)
        return await self._run(lambda: self._decrypt(arn, wrapped, associated_data))

    async def destroy(self, reference: Reference) -> None:
        """Have that KMS key deleted in seven days if this gateway made it; leave an operator's as it is.

        Until then an administrator can cancel the deletion, but nothing opens with the key.

        Raises:
            CiphertextRejected: the reference is none of this holder's.
            KeyHolderUnavailable: KMS does not answer, or refuses.
        """
        arn = self._named(reference)
        await self._run(lambda: self._destroy(arn))

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _run(self, act: Callable[[], _T]) -> _T:
        try:
            async with answered_within(self._deadline_s):
                return await asyncio.to_thread(act)
        except _Refused as refused:
            detail = _REFUSALS.get(refused.code, "AWS KMS refuses")
            raise KeyHolderUnavailable(detail, retry_after_s=RETRY_S) from refused

    def _named(self, reference: Reference) -> str:
        arn = reference.get(_KEY, "")
        found = _ARN.fullmatch(arn)
        if found is None:
            raise CiphertextRejected(REJECTED)
        # Asked in another region, KMS says that there is no such key; a destruction would seem done.
        if found["region"] != self._session.region_name:
            raise KeyHolderUnavailable("the root key is at AWS KMS in another region than the configured one")
        return arn

    def _create(self, name: str) -> str:
        if self._key is not None:
            return _usable(self._describe(self._key))
        alias = f"alias/{_LABEL}-{name}"
        known = self._describe(alias)
        if known is not None:
            return _usable(known)
        made = self._ask(
            "create_key",
            "KeyMetadata",
            Description="Root key of maas-gateway",
            KeySpec=_ALGORITHM,
            KeyUsage="ENCRYPT_DECRYPT",
            Tags=[{"TagKey": _LABEL, "TagValue": name}],
        )
        try:
            self._ask("create_alias", AliasName=alias, TargetKeyId=made["KeyId"])
        except _Refused as refused:
            if refused.code != _TAKEN:
                raise
            return _usable(self._describe(alias))  # another process was faster; our key stays unused
        return _usable(made)

    def _encrypt(self, arn: str, key: KeyMaterial, associated_data: bytes) -> bytes:
        wrapped: bytes = self._ask(
            "encrypt",
            "CiphertextBlob",
            KeyId=arn,
            Plaintext=key.expose(),
            EncryptionContext=_context(associated_data),
            EncryptionAlgorithm=_ALGORITHM,
        )
        if not 0 < len(wrapped) <= MAX_WRAPPED_BYTES:
            raise KeyHolderUnavailable(_NONSENSE, retry_after_s=RETRY_S)
        return wrapped

    def _decrypt(self, arn: str, wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        if not 0 < len(wrapped) <= MAX_WRAPPED_BYTES:
            raise CiphertextRejected(REJECTED)
        try:
            secret: bytes = self._ask(
                "decrypt",
                "Plaintext",
                KeyId=arn,
                CiphertextBlob=wrapped,
                EncryptionContext=_context(associated_data),
                EncryptionAlgorithm=_ALGORITHM,
            )
        except _Refused as refused:
            if refused.code in _NOT_OURS:
                raise CiphertextRejected(REJECTED) from refused
            raise
        if len(secret) != KEY_BYTES:
            raise CiphertextRejected(REJECTED)
        return KeyMaterial.from_bytes(secret)

    def _destroy(self, arn: str) -> None:
        known = self._describe(arn)
        if known is None or known["KeyState"] in _GOING or self._is_configured(arn):
            return
        tags = self._ask("list_resource_tags", "Tags", KeyId=arn)
        if any(tag["TagKey"] == _LABEL for tag in tags):
            self._ask("schedule_key_deletion", KeyId=arn, PendingWindowInDays=_DELETION_DAYS)

    def _is_configured(self, arn: str) -> bool:
        configured = None if self._key is None else self._describe(self._key)
        return configured is not None and configured["Arn"] == arn

    def _describe(self, key: str) -> Mapping[str, Any] | None:
        try:
            metadata: Mapping[str, Any] = self._ask("describe_key", "KeyMetadata", KeyId=key)
        except _Refused as refused:
            if refused.code == _MISSING:
                return None
            raise
        return metadata

    def _ask(self, operation: str, wanted: str | None = None, **parameters: object) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # noqa: PLC0415

        try:
            answer = getattr(self._open(), operation)(**parameters)
        except ClientError as cause:
            raise _Refused(cause.response.get("Error", {}).get("Code", "")) from cause
        except (BotoCoreError, ValueError) as cause:
            raise KeyHolderUnavailable("AWS KMS does not answer", retry_after_s=RETRY_S) from cause
        if wanted is None:
            return None
        if wanted not in answer:
            raise KeyHolderUnavailable(_NONSENSE, retry_after_s=RETRY_S)
        return answer[wanted]

    def _open(self) -> Any:
        # Here and not in the constructor: looking for credentials can be a call of its own.
        with self._opening:
            if self._client is None:
                self._client = self._session.client(
                    "kms", endpoint_url=self._endpoint_url, config=_limits(self._deadline_s)
                )
            return self._client


def _session(region: str | None) -> Any:
    try:
        import boto3.session  # type: ignore[import-untyped]  # noqa: PLC0415  of the extra "kms"
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ImportError as cause:
        raise Misconfigured("AWS KMS needs boto3; run: pip install 'maas-gateway[kms]'") from cause
    # At DEBUG this library writes the bodies of requests, and with them the keys that are to be wrapped.
    logger = logging.getLogger("botocore")
    logger.setLevel(max(logger.level, logging.INFO))
    try:
        session = boto3.session.Session(region_name=region)
    except BotoCoreError as cause:
        raise Misconfigured("boto3 cannot read its own configuration of AWS") from cause
    if session.region_name is None:
        raise Misconfigured("AWS KMS needs a region; set keys.kms.region")
    return session


def _limits(deadline_s: float) -> Any:
    from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415  of the extra "kms"

    n_tries = 2 if deadline_s >= _LEAST_FOR_TWO_TRIES_S else 1
    # Each try connects and reads; the wait before the second takes its share.
    timeout_s = (deadline_s - _LONGEST_BACKOFF_S * (n_tries - 1)) / (2 * n_tries)
    return Config(
        connect_timeout=timeout_s,
        read_timeout=timeout_s,
        retries={"mode": "standard", "total_max_attempts": n_tries},
    )


def _context(associated_data: bytes) -> dict[str, str]:
    return {_LABEL: base64.b64encode(sha256(associated_data)).decode("ascii")}


def _usable(known: Mapping[str, Any] | None) -> str:
    if known is None:
        raise KeyHolderUnavailable(_REFUSALS[_MISSING], retry_after_s=RETRY_S)
    if known.get("KeySpec", _ALGORITHM) != _ALGORITHM or known.get("KeyUsage") != "ENCRYPT_DECRYPT":
        raise Conflict("the key at AWS KMS is not for symmetric encryption")
    return str(known["Arn"])

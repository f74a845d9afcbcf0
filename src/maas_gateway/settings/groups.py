"""The groups of settings, each with its knobs, their bounds and what they are for."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, RedisDsn

from maas_gateway.auth.provider_address import LISTED_PATTERN, MAX_LISTED

_MIB: Final = 1 << 20

ProviderHost = Annotated[str, Field(pattern=f"^{LISTED_PATTERN}$", max_length=MAX_LISTED)]
Port = Annotated[int, Field(ge=0, le=65_535)]


class Group(BaseModel):
    """What every group has in common: nothing that is not named, and no change."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class HTTP(Group):
    """The public door."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8080
    """Port to listen on."""
    workers: int = Field(default=1, ge=1, le=64)
    """Worker processes."""
    max_body_bytes: int = Field(default=16 * _MIB, ge=1_024, le=1 << 30)
    """Largest body of a prediction, in bytes; management bodies are bounded at 1 MiB, uploads by uploads.max_bytes."""
    deadline_s: float = Field(default=30, gt=0, le=3_600)
    """Seconds after which a prediction is given up."""
    keep_alive_s: int = Field(default=5, ge=1, le=3_600)
    """Seconds that a connection without a request stays open; behind a proxy, longer than the proxy keeps it."""
    drain_s: float = Field(default=0, ge=0, le=600)
    """Seconds between a SIGTERM and the ports' closing, in which health says not ready and all is answered still."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses whose X-Forwarded-For and X-Forwarded-Proto are believed."""


class GRPC(Group):
    """The gRPC door: the Open Inference Protocol over HTTP/2."""

    is_enabled: bool = True
    """Whether it is open."""
    host: str | None = None
    """Address to listen on; none means that of the public door."""
    port: Port = 0
    """Port to listen on; 0 means the HTTP port + 1."""
    max_message_bytes: int = Field(default=16 * _MIB, ge=1_024, le=1 << 30)
    """Largest message, in bytes, inflated."""
    max_calls: int = Field(default=1_024, ge=1, le=100_000)
    """Calls that one worker answers at once, streams included; one more is answered RESOURCE_EXHAUSTED."""
    max_streams: int = Field(default=256, ge=1, le=100_000)
    """Streams that are open at once in one worker; one more is answered UNAVAILABLE."""
    max_calls_a_connection: int = Field(default=128, ge=1, le=100_000)
    """Calls at once on one connection; its client holds further ones back."""
    max_under_way: int = Field(default=8, ge=1, le=1_024)
    """Requests of one stream that are under way at once; the next is read when the oldest is answered."""
    idle_s: float = Field(default=300, ge=1, le=86_400)
    """Seconds after which a stream ends on which nothing comes, and a connection without calls."""
    ping_every_s: float = Field(default=60, ge=10, le=7_200)
    """Seconds of silence after which a client is asked whether it is still there."""
    least_ping_s: float = Field(default=10, ge=1, le=3_600)
    """Least seconds between a client's own pings; one that pings more often is disconnected."""


class TLS(Group):
    """TLS on the public ports, HTTP and gRPC; off without a certificate. `docs/tls.md` shows it."""

    certificate_file: Path | None = None
    """Certificate with its chain, PEM, the server's own first; a new one is taken up without a restart."""
    key_file: Path | None = None
    """Its private key, PEM, not encrypted; refused if others can read it."""
    client_ca_file: Path | None = None
    """Authorities of clients' certificates, PEM; none asks no client for a certificate."""
    requires_client_certificate: bool = True
    """Whether, with client_ca_file, a client without a certificate is refused; each needs a credential besides."""

    @property
    def is_on(self) -> bool:
        """Whether the ports speak TLS."""
        return self.certificate_file is not None


class Metrics(Group):
    """The metrics door, for Prometheus."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 0
    """Port to listen on; 0 means the HTTP port + 1000."""


class Database(Group):
    """Where state is kept."""

    url: str | None = None
    """Main database, `postgresql+asyncpg://…` or `sqlite+aiosqlite:///…`; none means a file in the data directory."""
    keys_url: str | None = None
    """Key store; none means a file in the data directory, or with PostgreSQL its database `<name>_keys`."""
    pool_size: int = Field(default=5, ge=1, le=200)
    """Connections kept open by each worker, for each of the two."""


PurposeName = Literal["root", "artifacts", "token-signing", "statements", "audit", "console-sessions"]


class KMS(Group):
    """AWS KMS; credentials come from the usual places of its own library, never from here."""

    region: str | None = None
    """The region; none means what the library finds."""
    endpoint_url: AnyHttpUrl | None = None
    """Another address than AWS's own."""
    key: str | None = None
    """Id, ARN or alias of the key; none lets the gateway make keys of its own, one a root version."""


class Transit(Group):
    """The Transit engine of Vault or OpenBao."""

    url: AnyHttpUrl | None = None
    """The server's address."""
    mount: str = Field(default="transit", pattern=r"^[A-Za-z0-9_./-]{1,128}$")
    """Where the engine is mounted."""
    key: str = Field(default="maas-gateway", pattern=r"^[A-Za-z0-9_-]{1,128}$")
    """The key's name."""
    token_file: Path | None = None
    """The file with the token; read anew at each call, so that an agent may renew it."""
    namespace: str | None = None
    """The namespace, where there are any."""
    ca_file: Path | None = None
    """Certificates that the server's is checked against; none means the system's."""


class PKCS11(Group):
    """A hardware security module."""

    library: Path | None = None
    """The module's PKCS#11 library."""
    token: str = "maas-gateway"  # noqa: S105  a label, no secret
    """The token's label."""
    pin_file: Path | None = None
    """The file with the user's PIN."""


class Keys(Group):
    """Keys: who holds the root key, and how long keys live."""

    holder: Literal["file", "passphrase", "kms", "transit", "pkcs11"] = "file"
    """Who holds new versions of the root key; versions at other configured holders still open."""
    root_file: Path | None = None
    """The holder `file`: its keyset, mode 0600; none means `keys/root.json` in the data directory."""
    passphrase_file: Path | None = None
    """The holder `passphrase`: a file of passphrases, one a line, the first for what is new; mode 0600."""
    deadline_s: float = Field(default=5, ge=0.1, le=60)
    """Seconds after which a call of the holder is given up."""
    rotate_after_days: dict[PurposeName, int] = {}
    """By purpose, the age in days at which a ring is rotated by itself; a purpose left out is rotated by hand."""
    retire_after_days: dict[PurposeName, int] = {}
    """By purpose, the days for which an old version still opens; then it is retired, once nothing needs it."""


class Tokens(Group):
    """Access tokens."""

    audience: str = Field(default="maas-gateway", min_length=1, max_length=200)
    """The `aud` claim."""
    life_s: int = Field(default=900, ge=60, le=86_400)
    """Seconds from issue to expiry."""
    skew_s: int = Field(default=10, ge=0, le=120)
    """Seconds by which clocks may differ."""
    refresh_life_s: int = Field(default=86_400, ge=300, le=7_776_000)
    """Seconds from a user's sign-in until it can be refreshed no more."""


class OIDC(Group):
    """Tokens of other issuers, which tenants register (OpenID Connect)."""

    allowed_hosts: tuple[ProviderHost, ...] = ()
    """Hosts that may be asked for an issuer's keys, as `host` or `host:port`: with `tenant@` before it, for that tenant's
    issuers only, else for any tenant's, whoever registers one first; none means that no other issuer counts."""
    deadline_s: float = Field(default=3, ge=0.1, le=30)
    """Seconds after which fetching an issuer's keys is given up."""
    keys_life_s: int = Field(default=600, ge=1, le=3_600)
    """Seconds after which an issuer's keys are fetched again."""
    refetch_s: int = Field(default=30, ge=1, le=600)
    """Least seconds between two fetches of one issuer's keys, however many tokens name a key that is unknown."""


class Passwords(Group):
    """argon2id."""

    memory_kib: int = Field(default=19_456, ge=8_192, le=1 << 20)
    """Memory cost, in KiB."""
    passes: int = Field(default=2, ge=1, le=20)
    """Time cost."""
    n_parallel: int = Field(default=2, ge=1, le=64)
    """Hashes that run at once."""


class Uploads(Group):
    """Models that come in."""

    max_bytes: int = Field(default=512 * _MIB, ge=1_024, le=1 << 36)
    """Largest model accepted, in bytes."""
    max_tenant_bytes: int = Field(default=1 << 40, ge=1_024, le=1 << 50)
    """Most bytes that a tenant's sealed models take together; one more is refused."""
    max_tenant_versions: int = Field(default=10_000, ge=1, le=1_000_000)
    """Most versions that a tenant has, of all its models together."""
    conversion_memory_bytes: int = Field(default=10 << 30, ge=4 << 30, le=1 << 40)
    """Most memory that a conversion may need, in bytes: 1 GiB and 20 times the model's size; a model that needs more is refused."""
    conversion_deadline_s: float = Field(default=120, ge=10, le=3_600)
    """Seconds after which a conversion is given up."""


class Inference(Group):
    """How predictions run."""

    n_threads: int = Field(default=2, ge=1, le=256)
    """Threads that run engines."""
    max_batch_rows: int = Field(default=64, ge=1, le=65_536)
    """Most rows that one engine call takes."""
    max_queue: int = Field(default=1_024, ge=1, le=1_000_000)
    """Requests that may wait for one model; one more is answered 503."""


class Processes(Group):
    """Confined processes, which compute models that need TensorFlow itself or have loops; one a model and worker."""

    per_tenant: int = Field(default=4, ge=0, le=1_000)
    """Most that one tenant's models take at once, in each worker; a version beyond that is not ready."""
    in_all: int = Field(default=16, ge=0, le=10_000)
    """Most that all tenants' models take at once, in each worker."""
    memory_bytes: int = Field(default=4 << 30, ge=1 << 29, le=1 << 40)
    """Address space of one, in bytes; TensorFlow takes 1.6 GiB of it before a model is loaded, 0.6 GiB of that in memory."""
    n_threads: int = Field(default=1, ge=1, le=64)
    """Threads that compute in one."""
    call_s: float = Field(default=30, gt=0, le=3_600)
    """Seconds after which a call is ended, with its process; one that nobody waits for any more ends within a second."""
    load_s: float = Field(default=120, ge=1, le=3_600)
    """Seconds after which loading a model is given up."""


class Quotas(Group):
    """Rate limits and usage."""

    url: RedisDsn | None = None
    """Valkey or Redis, where every worker counts in the same buckets; none means that each worker has its part."""
    flush_s: float = Field(default=1, ge=0.1, le=60)
    """Seconds after which usage is written; a process that dies loses no more."""


class Logs(Group):
    """Log lines."""

    form: Literal["json", "console"] = "console"
    """JSON objects for machines, or short lines for people."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is written."""

"""Every knob, read here and nowhere else: a TOML file, then `MAAS_…` environment variables over it.

Rules: an unknown key is refused, in the file and in the environment; a secret is a path, never a
value; nothing secret has a default. Without a file the embedded defaults hold. In production
(`environment = "production"`) every development form is refused.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, RedisDsn, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from maas_gateway.auth.provider_address import HOST_PATTERN, MAX_HOST
from maas_gateway.errors import Misconfigured

PREFIX: Final = "MAAS_"
DELIMITER: Final = "__"
CONFIG_VARIABLE: Final = "MAAS_CONFIG"
"""Names the TOML file where no `--config` does."""
_MIB: Final = 1 << 20
_LEAST_PASSWORD_COST: Final = 9_216 * 4

ProviderHost = Annotated[str, Field(pattern=f"^{HOST_PATTERN}$", max_length=MAX_HOST)]
Port = Annotated[int, Field(ge=0, le=65_535)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class HTTP(_Group):
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
    trusted_proxies: tuple[str, ...] = ()
    """Addresses whose X-Forwarded-For and X-Forwarded-Proto are believed."""


class Metrics(_Group):
    """The metrics door, for Prometheus."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 0
    """Port to listen on; 0 means the HTTP port + 1000."""


class Database(_Group):
    """Where state is kept."""

    url: str | None = None
    """Main database, `postgresql+asyncpg://…` or `sqlite+aiosqlite:///…`; none means a file in the data directory."""
    keys_url: str | None = None
    """Key store; none means a file in the data directory, or with PostgreSQL its database `<name>_keys`."""
    pool_size: int = Field(default=5, ge=1, le=200)
    """Connections kept open by each worker, for each of the two."""


PurposeName = Literal["root", "artifacts", "token-signing", "statements", "audit", "console-sessions"]


class KMS(_Group):
    """AWS KMS; credentials come from the usual places of its own library, never from here."""

    region: str | None = None
    """The region; none means what the library finds."""
    endpoint_url: AnyHttpUrl | None = None
    """Another address than AWS's own."""
    key: str | None = None
    """Id, ARN or alias of the key; none lets the gateway make keys of its own, one a root version."""


class Transit(_Group):
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


class PKCS11(_Group):
    """A hardware security module."""

    library: Path | None = None
    """The module's PKCS#11 library."""
    token: str = "maas-gateway"  # noqa: S105  a label, no secret
    """The token's label."""
    pin_file: Path | None = None
    """The file with the user's PIN."""


class Keys(_Group):
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


class Tokens(_Group):
    """Access tokens."""

    audience: str = Field(default="maas-gateway", min_length=1, max_length=200)
    """The `aud` claim."""
    life_s: int = Field(default=900, ge=60, le=86_400)
    """Seconds from issue to expiry."""
    skew_s: int = Field(default=10, ge=0, le=120)
    """Seconds by which clocks may differ."""
    refresh_life_s: int = Field(default=86_400, ge=300, le=7_776_000)
    """Seconds from a user's sign-in until it can be refreshed no more."""


class OIDC(_Group):
    """Tokens of other issuers, which tenants register (OpenID Connect)."""

    allowed_hosts: tuple[ProviderHost, ...] = ()
    """Hosts that may be asked for an issuer's keys, as `host` or `host:port`; none means that no other issuer counts."""
    deadline_s: float = Field(default=3, ge=0.1, le=30)
    """Seconds after which fetching an issuer's keys is given up."""
    keys_life_s: int = Field(default=600, ge=1, le=3_600)
    """Seconds after which an issuer's keys are fetched again."""
    refetch_s: int = Field(default=30, ge=1, le=600)
    """Least seconds between two fetches of one issuer's keys, however many tokens name a key that is unknown."""


class Passwords(_Group):
    """argon2id."""

    memory_kib: int = Field(default=19_456, ge=8_192, le=1 << 20)
    """Memory cost, in KiB."""
    passes: int = Field(default=2, ge=1, le=20)
    """Time cost."""
    n_parallel: int = Field(default=2, ge=1, le=64)
    """Hashes that run at once."""


class Uploads(_Group):
    """Models that come in."""

    max_bytes: int = Field(default=512 * _MIB, ge=1_024, le=1 << 36)
    """Largest model accepted, in bytes."""
    conversion_memory_bytes: int = Field(default=10 << 30, ge=4 << 30, le=1 << 40)
    """Most address space that the converting child gets, in bytes; it gets what the model's size asks for, up to this."""
    conversion_deadline_s: float = Field(default=120, ge=10, le=3_600)
    """Seconds after which a conversion is given up."""


class Inference(_Group):
    """How predictions run."""

    n_threads: int = Field(default=2, ge=1, le=256)
    """Threads that run engines."""
    max_batch_rows: int = Field(default=64, ge=1, le=65_536)
    """Most rows that one engine call takes."""
    max_queue: int = Field(default=1_024, ge=1, le=1_000_000)
    """Requests that may wait for one model; one more is answered 503."""


class Quotas(_Group):
    """Rate limits and usage."""

    url: RedisDsn | None = None
    """Valkey or Redis, where every worker counts in the same buckets; none means that each worker has its part."""
    flush_s: float = Field(default=1, ge=0.1, le=60)
    """Seconds after which usage is written; a process that dies loses no more."""


class Logs(_Group):
    """Log lines."""

    form: Literal["json", "console"] = "console"
    """JSON objects for machines, or short lines for people."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is written."""


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        use_attribute_docstrings=True,
    )

    environment: Literal["development", "production"] = "development"
    """Production refuses what is only safe on one's own machine."""
    data_dir: Path = Path("var")
    """Where embedded state lives."""
    public_url: AnyHttpUrl | None = None
    """The address clients use; the `iss` of tokens. None means `http://<host>:<port>`, in development only."""
    http: HTTP = HTTP()
    metrics: Metrics = Metrics()
    database: Database = Database()
    keys: Keys = Keys()
    kms: KMS = KMS()
    transit: Transit = Transit()
    pkcs11: PKCS11 = PKCS11()
    tokens: Tokens = Tokens()
    oidc: OIDC = OIDC()
    passwords: Passwords = Passwords()
    uploads: Uploads = Uploads()
    inference: Inference = Inference()
    quotas: Quotas = Quotas()
    logs: Logs = Logs()

    @model_validator(mode="after")
    def _refuse_half_a_holder(self) -> Self:
        keys = self.keys
        needed: dict[str, list[tuple[str, object]]] = {
            "passphrase": [("keys.passphrase_file", keys.passphrase_file)],
            "transit": [("transit.url", self.transit.url), ("transit.token_file", self.transit.token_file)],
            "pkcs11": [("pkcs11.library", self.pkcs11.library), ("pkcs11.pin_file", self.pkcs11.pin_file)],
        }
        missing = [name for name, value in needed.get(keys.holder, []) if value is None]
        if missing:
            raise ValueError(f"the holder '{keys.holder}' needs {' and '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _refuse_development_forms(self) -> Self:
        if self.environment == "production":
            faults = production_faults(self)
            if faults:
                raise ValueError("; ".join(faults))
        return self

    @property
    def base_url(self) -> str:
        """The public address without a trailing slash."""
        if self.public_url is not None:
            return str(self.public_url).rstrip("/")
        return f"http://{self.http.host}:{self.http.port}"

    @property
    def metrics_port(self) -> int:
        """The port of the metrics door."""
        return self.metrics.port or (self.http.port + 1000 if self.http.port else 0)

    @property
    def main_url(self) -> str:
        """The main database."""
        return self.database.url or f"sqlite+aiosqlite:///{(self.data_dir / 'gateway.sqlite').resolve()}"

    @property
    def keys_url(self) -> str:
        """The key store."""
        if self.database.keys_url is not None:
            return self.database.keys_url
        if self.database.url is not None and not self.database.url.startswith("sqlite"):
            base, question, options = self.database.url.partition("?")
            return f"{base}_keys{question}{options}"
        return f"sqlite+aiosqlite:///{(self.data_dir / 'keys.sqlite').resolve()}"

    @property
    def root_file(self) -> Path:
        """The root key's keyset file."""
        return self.keys.root_file or self.data_dir / "keys" / "root.json"


def production_faults(settings: Settings) -> list[str]:
    """Return, in sentences, what production may not have."""
    faults = []
    if settings.public_url is None or settings.public_url.scheme != "https":
        faults.append("public_url must be set, and https")
    if not settings.data_dir.is_absolute():
        faults.append("data_dir must be an absolute path")
    if settings.database.url is None:
        faults.append("database.url must be set")
    faults += _holder_faults(settings)
    if settings.passwords.memory_kib * settings.passwords.passes < _LEAST_PASSWORD_COST:
        faults.append(
            "passwords must cost what OWASP asks for: memory_kib 19456 with 2 passes, 12288 with 3, 9216 with 4"
        )
    if settings.logs.form != "json":
        faults.append('logs.form must be "json"')
    return faults


def _holder_faults(settings: Settings) -> list[str]:
    holder, keys = settings.keys.holder, settings.keys
    secret = {"file": keys.root_file, "passphrase": keys.passphrase_file}.get(holder)
    name = {"file": "keys.root_file", "passphrase": "keys.passphrase_file"}.get(holder)
    if name is not None and secret is None:
        return [f"{name} must be set, outside the data directory"]
    if secret is not None and secret.resolve().is_relative_to(settings.data_dir.resolve()):
        return [f"{name} must lie outside the data directory, or a copy of that directory opens itself"]
    if holder == "transit" and settings.transit.url is not None and settings.transit.url.scheme != "https":
        return ["transit.url must be https"]
    return []


def load_settings(config: Path | None = None, over: Mapping[str, Any] | None = None) -> Settings:
    """Read the configuration.

    Args:
        config: a TOML file; none means the one that MAAS_CONFIG names, else embedded defaults.
        over: values of the command line, nested like the file; they win over the file and the environment.

    Raises:
        Misconfigured: the file is unreadable, a key is unknown, or a value is out of bounds.
    """
    content: dict[str, Any] = {}
    config = config or _config_of(os.environ)  # noqa: TID251  the one reader
    if config is not None:
        try:
            content = tomllib.loads(config.read_text(encoding="utf-8"))
        except OSError as cause:
            raise Misconfigured(f"the configuration {config} cannot be read: {cause.strerror}") from cause
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
            raise Misconfigured(f"the configuration {config} is not TOML: {cause}") from cause
    _refuse_unknown_variables(os.environ)  # noqa: TID251  the one reader
    try:
        environment = EnvSettingsSource(Settings)()
        return Settings.model_validate(_merged(_merged(content, environment), dict(over or {})))
    except ValidationError as cause:
        raise Misconfigured(_sentence(cause)) from None
    except SettingsError as cause:
        raise Misconfigured(f"{_unreadable(os.environ)}: a list or a group is written as JSON") from cause  # noqa: TID251  the one reader


def _config_of(environment: Mapping[str, str]) -> Path | None:
    named = environment.get(CONFIG_VARIABLE)
    return Path(named) if named else None


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    for name in environment:
        if not name.upper().startswith(PREFIX):
            continue
        if name.upper() == CONFIG_VARIABLE:
            continue
        first, *rest = name.upper().removeprefix(PREFIX).split(DELIMITER)
        field = Settings.model_fields.get(first.lower())
        if field is None:
            raise Misconfigured(f"the environment variable {name} is no setting; see docs/settings.md")
        group = field.annotation
        known = group.model_fields if isinstance(group, type) and issubclass(group, BaseModel) else {}
        if rest and rest[0].lower() not in known:
            raise Misconfigured(f"the environment variable {name} is no setting; see docs/settings.md")


def _unreadable(environment: Mapping[str, str]) -> str:
    """Return the environment variable whose value cannot be read."""
    source = EnvSettingsSource(Settings)
    for name, value in environment.items():
        source.env_vars = {name.lower(): value}
        try:
            source()
        except SettingsError:
            return f"the environment variable {name}"
    return "the environment"


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        merged[name] = _merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _sentence(error: ValidationError) -> str:
    faults = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in fault["loc"])
        message = (
            "it is no setting" if fault["type"] == "extra_forbidden" else fault["msg"].removeprefix("Value error, ")
        )
        faults.append(f"{where}: {message}" if where else message)
    return "configuration: " + "; ".join(faults)

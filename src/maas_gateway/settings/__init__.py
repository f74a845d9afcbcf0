"""Every knob, read here and nowhere else: a TOML file, then `MAAS_…` environment variables over it.

Rules: an unknown key is refused, in the file and in the environment; a secret is a path, never a
value; nothing secret has a default. Without a file the embedded defaults hold. In production
(`environment = "production"`) every development form is refused.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import AnyHttpUrl, BaseModel, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from maas_gateway.errors import Misconfigured
from maas_gateway.settings.groups import (
    GRPC,
    HTTP,
    KMS,
    OIDC,
    PKCS11,
    TLS,
    Database,
    Inference,
    Keys,
    Logs,
    Metrics,
    Passwords,
    Processes,
    Quotas,
    Tokens,
    Transit,
    Uploads,
)

PREFIX: Final = "MAAS_"
DELIMITER: Final = "__"
CONFIG_VARIABLE: Final = "MAAS_CONFIG"
"""Names the TOML file where no `--config` does."""
_LEAST_PASSWORD_COST: Final = 9_216 * 4


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
    """The address clients use; the `iss` of tokens. None means `<scheme>://<host>:<port>`, in development only."""
    http: HTTP = HTTP()
    grpc: GRPC = GRPC()
    tls: TLS = TLS()
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
    processes: Processes = Processes()
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
    def _refuse_half_of_tls(self) -> Self:
        tls = self.tls
        if (tls.certificate_file is None) != (tls.key_file is None):
            raise ValueError("TLS needs both tls.certificate_file and tls.key_file")
        if tls.client_ca_file is not None and not tls.is_on:
            raise ValueError("tls.client_ca_file needs tls.certificate_file and tls.key_file")
        if tls.is_on and self.public_url is not None and self.public_url.scheme != "https":
            raise ValueError("public_url must be https where TLS is on, or it names an address that does not answer")
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
        return self.local_url

    @property
    def local_url(self) -> str:
        """The address of this machine's own port, without a trailing slash."""
        return f"{'https' if self.tls.is_on else 'http'}://{self.http.host}:{self.http.port}"

    @property
    def grpc_host(self) -> str:
        """The address of the gRPC door."""
        return self.http.host if self.grpc.host is None else self.grpc.host

    @property
    def grpc_port(self) -> int:
        """The port of the gRPC door."""
        return self.grpc.port or (self.http.port + 1 if self.http.port else 0)

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

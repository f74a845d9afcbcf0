"""Settings: where they come from, which wins, what is refused, and in which words."""

import itertools
from pathlib import Path

import pytest

from maas_gateway.errors import Misconfigured
from maas_gateway.resources import resource
from maas_gateway.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.upper().startswith("MAAS_"):
            monkeypatch.delenv(name)


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


def test_embedded_defaults_are_for_ones_own_machine() -> None:
    settings = load_settings()
    assert settings.environment == "development"
    assert settings.http.host == settings.metrics.host == "127.0.0.1"
    assert settings.main_url.startswith("sqlite+aiosqlite:///")
    assert settings.main_url != settings.keys_url
    assert settings.root_file == Path("var/keys/root.json")
    assert (settings.base_url, settings.metrics_port) == ("http://127.0.0.1:8080", 9080)


def test_with_tls_the_gateway_calls_itself_https(tmp_path: Path) -> None:
    tls = "[tls]\ncertificate_file = 'c'\nkey_file = 'k'\n"
    assert load_settings(written(tmp_path, tls)).base_url == "https://127.0.0.1:8080"
    own = load_settings(written(tmp_path, f"public_url = 'https://models.example'\n{tls}"))
    assert (own.base_url, own.local_url) == ("https://models.example", "https://127.0.0.1:8080")


SOURCES = ("file", "environment", "command line")


@pytest.mark.parametrize(
    "given",
    [c for n in (1, 2, 3) for c in itertools.combinations(SOURCES, n)],
    ids=" and ".join,
)
def test_command_line_wins_over_environment_over_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    path = written(tmp_path, "[http]\nport = 1001\nworkers = 3\n" if "file" in given else "[http]\nworkers = 3\n")
    if "environment" in given:
        monkeypatch.setenv("MAAS_HTTP__PORT", "1002")
    over = {"http": {"port": 1003}} if "command line" in given else {}
    settings = load_settings(path, over)
    assert settings.http.port == 1001 + SOURCES.index(given[-1])
    assert settings.http.workers == 3, "what the winner does not say is left as it was"


def test_environment_names_the_file_unless_the_command_line_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAAS_CONFIG", str(written(tmp_path, "[http]\nport = 1001\n")))
    assert load_settings().http.port == 1001
    other = tmp_path / "other.toml"
    other.write_text("[http]\nport = 1002\n")
    assert load_settings(other).http.port == 1002


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("htpp = 1", "configuration: htpp: it is no setting", id="an unknown group"),
        pytest.param("[http]\nprot = 1", "configuration: http.prot: it is no setting", id="an unknown key"),
        pytest.param("[http]\nport = 'x'", "configuration: http.port: ", id="a text for a number"),
        pytest.param("[http]\nport = 65536", "configuration: http.port: ", id="a number that is too large"),
        pytest.param("[http]\nworkers = 0", "configuration: http.workers: ", id="a number that is too small"),
        pytest.param("[tokens]\nlife_s = 90000", "configuration: tokens.life_s: ", id="a token life of over a day"),
        pytest.param("[passwords]\nmemory_kib = 1024", "configuration: passwords.memory_kib: ", id="cheap passwords"),
        pytest.param("http = 7", "configuration: http: ", id="a number for a group"),
        *(
            pytest.param(
                f"[oidc]\nallowed_hosts = ['{host}']", "configuration: oidc.allowed_hosts.0: ", id=f"host '{host}'"
            )
            for host in (
                "https://login.example.org",
                "login.example.org/",
                "LOGIN.example.org",
                "*.example.org",
                "",
                "a:0",
                "::1",
                "@login.example.org",
                "acme@",
                "ACME@login.example.org",
                "acme@globex@login.example.org",
            )
        ),
        pytest.param("environment = 'staging'", "configuration: environment: ", id="an unknown environment"),
        pytest.param("public_url = 'nowhere'", "configuration: public_url: ", id="an address that is none"),
        pytest.param("[tls]\nkey_file = 'k'", "TLS needs both", id="a key without a certificate"),
        pytest.param("[tls]\ncertificate_file = 'c'", "TLS needs both", id="a certificate without a key"),
        pytest.param("[tls]\nclient_ca_file = 'a'", "tls.client_ca_file needs", id="client authorities without TLS"),
        pytest.param(
            "public_url = 'http://x'\n[tls]\ncertificate_file = 'c'\nkey_file = 'k'",
            "public_url must be https where TLS is on",
            id="an address in the clear with TLS",
        ),
        pytest.param("[http", "is not TOML", id="no TOML"),
        pytest.param("a = '\udcff'", "is not TOML", id="no UTF-8"),
    ],
)
def test_file_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(Misconfigured) as caught:
        load_settings(path)
    assert sentence in caught.value.detail
    assert "\n" not in caught.value.detail.removesuffix("\n")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"none\.toml cannot be read: No such file"):
        load_settings(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("MAAS_HTPP__PORT", "1", "MAAS_HTPP__PORT is no setting"),
        ("MAAS_HTTP__PROT", "1", "MAAS_HTTP__PROT is no setting"),
        ("maas_http__prot", "1", "maas_http__prot is no setting"),
        ("MAAS_PORT", "1", "MAAS_PORT is no setting"),
        ("MAAS_", "1", "MAAS_ is no setting"),
        ("MAAS_DATA_DIR__X", "1", "MAAS_DATA_DIR__X is no setting"),
        ("MAAS_HTTP__PORT__X", "1", "http.port"),
        ("MAAS_HTTP__PORT", "http", "http.port"),
        ("MAAS_HTTP", "{x", "MAAS_HTTP: a list or a group is written as JSON"),
        ("MAAS_HTTP", '{"prot": 1}', "http.prot: it is no setting"),
        ("MAAS_HTTP__TRUSTED_PROXIES", "10.0.0.1", "MAAS_HTTP__TRUSTED_PROXIES: a list or a group is written as JSON"),
    ],
)
def test_environment_variable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as caught:
        load_settings()
    assert sentence in caught.value.detail


@pytest.mark.parametrize("name", ["TEST_MAAS_SWITCH", "MAASTRICHT", "MY_MAAS_HTTP__PORT"])
def test_other_environment_variables_are_none_of_ours(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert load_settings() == load_settings()


def test_list_is_written_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAS_HTTP__TRUSTED_PROXIES", '["10.0.0.1"]')
    assert load_settings().http.trusted_proxies == ("10.0.0.1",)


PRODUCTION = """
environment = "production"
data_dir = "/var/lib/maas"
public_url = "https://models.example.org/"
[database]
url = "postgresql+asyncpg://maas:hunter2@db/maas"
[keys]
root_file = "/run/secrets/root"
[logs]
form = "json"
"""


def test_production_starts_with_everything_set(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, PRODUCTION))
    assert settings.base_url == "https://models.example.org"
    assert settings.keys_url == "postgresql+asyncpg://maas:hunter2@db/maas_keys"


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ('public_url = "https', 'public_url = "http', "public_url must be set, and https"),
        ('public_url = "https://models.example.org/"', "", "public_url must be set, and https"),
        ('"/var/lib/maas"', '"var"', "data_dir must be an absolute path"),
        ('url = "postgresql+asyncpg://maas:hunter2@db/maas"', "", "database.url must be set"),
        ('root_file = "/run/secrets/root"', "", "keys.root_file must be set"),
        ('"/run/secrets/root"', '"/var/lib/maas/keys/root"', "keys.root_file must lie outside"),
        ('"/run/secrets/root"', '"/run/../var/lib/maas/root"', "keys.root_file must lie outside"),
        ('form = "json"', "", "logs.form must be"),
        ("[logs]", "[passwords]\nmemory_kib = 9216\npasses = 1\n[logs]", "passwords must cost what OWASP asks for"),
    ],
)
def test_production_refuses_a_development_form(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    assert before in PRODUCTION
    with pytest.raises(Misconfigured) as caught:
        load_settings(written(tmp_path, PRODUCTION.replace(before, after)))
    assert sentence in caught.value.detail
    assert "hunter2" not in caught.value.detail


@pytest.mark.parametrize(("memory_kib", "passes"), [(19_456, 2), (12_288, 3), (9_216, 4), (47_104, 1)])
def test_production_takes_every_cost_that_owasp_names(tmp_path: Path, memory_kib: int, passes: int) -> None:
    text = PRODUCTION + f"[passwords]\nmemory_kib = {memory_kib}\npasses = {passes}\n"
    assert load_settings(written(tmp_path, text)).passwords.passes == passes


def test_packed_production_file_names_what_must_be_set() -> None:
    with pytest.raises(Misconfigured) as caught:
        load_settings(resource("config") / "production.toml")
    for name in ("public_url", "database.url", "keys.root_file"):
        assert name in caught.value.detail


def test_packed_development_file_says_what_the_defaults_are() -> None:
    assert load_settings(resource("config") / "development.toml") == load_settings()


def test_settings_cannot_be_changed() -> None:
    settings = load_settings()
    with pytest.raises(Exception, match="frozen"):
        settings.environment = "production"
    with pytest.raises(Exception, match="frozen"):
        settings.http.port = 1


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and hasattr(group, "model_fields"):
            assert group.__doc__, name
            for inner, described in group.model_fields.items():
                assert described.description, f"{name}.{inner}"
        else:
            assert field.description, name

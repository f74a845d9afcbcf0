"""What `doctor` says of a certificate: its faults, and what is worth knowing of a good one."""

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from builders.certificates import Authority
from maas_gateway.cli.doctor import run_doctor
from maas_gateway.place import prepare
from maas_gateway.settings import load_settings

pytestmark = pytest.mark.thorough

AUTHORITY = Authority()
OTHER = Authority().issue("localhost")
Spoil = Callable[[Path, Path], object]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of a prepared place, with TLS."""
    folder = tmp_path_factory.mktemp("doctor")
    path = folder / "gateway.toml"
    path.write_text(
        f'data_dir = "{folder}/place"\npublic_url = "https://models.example"\n'
        f'[tls]\ncertificate_file = "{folder}/server.pem"\nkey_file = "{folder}/server.key"\n'
    )
    asyncio.run(prepare(load_settings(path), makes_root_key=True))
    return path


def _said(config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as ended:
        run_doctor(config, {})
    return ended.value.code, capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        pytest.param(lambda c, _: c.unlink(), "cannot be read", id="a certificate that is missing"),
        pytest.param(lambda c, _: c.write_bytes(OTHER.chain), "the key is not that of", id="a key that does not fit"),
        pytest.param(lambda _, k: k.chmod(0o640), "can be read by others; run: chmod 600", id="a key others can read"),
        pytest.param(
            lambda c, _: AUTHORITY.issue("models.example", ends=timedelta(seconds=-1)).written(c.parent),
            "has expired",
            id="an expired certificate",
        ),
    ],
)
def test_a_certificate_that_cannot_be_used_is_a_fault(
    config: Path, capsys: pytest.CaptureFixture[str], spoil: Spoil, sentence: str
) -> None:
    spoil(*AUTHORITY.issue("models.example").written(config.parent))
    code, said = _said(config, capsys)
    (fault,) = [line for line in said.splitlines() if line.startswith("fault: ")]
    assert (code, sentence in fault) == (os.EX_CONFIG, True), fault


def test_a_certificate_that_ends_soon_or_is_for_another_host_is_noted(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for host, days, sentences in (
        ("models.example", 31, []),
        ("models.example", 29, ["in 28 days"]),
        ("other.example", 31, ["is for other.example, and clients use models.example"]),
    ):
        AUTHORITY.issue(host, ends=timedelta(days=days)).written(config.parent)
        code, said = _said(config, capsys)
        notes = [line for line in said.splitlines() if line.startswith("note: the certificate ")]
        assert (code, len(notes)) == (os.EX_OK, len(sentences)), said
        assert all(sentence in note for sentence, note in zip(sentences, notes, strict=True)), notes

"""Credentials that a service manager hands over, as the configuration names them."""

from pathlib import Path

import pytest

from datamover.config.credentials import resolve
from datamover.config.load import load
from datamover.errors import ConfigError


def written(directory: Path, text: str) -> Path:
    path = directory / "datamover.toml"
    path.write_text(text)
    return path


def test_named_in_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``credential:NAME`` is the file of that name in the directory that the environment names, for every path."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/datamover.service")
    loaded = load(
        written(tmp_path, '[service]\nkey_file = "credential:key"\n[database]\npassword_file = "credential:db.pass"\n')
    )
    assert loaded.service.key_path == Path("/run/credentials/datamover.service/key")
    assert loaded.database.password_file == Path("/run/credentials/datamover.service/db.pass")


@pytest.mark.parametrize("name", ["", "../key", "a/b", ".hidden", "a b", "x" * 300])
def test_what_is_no_name(name: str) -> None:
    """A name leads to no other directory."""
    with pytest.raises(ValueError, match="expected the name of a credential"):
        resolve(f"credential:{name}", {"CREDENTIALS_DIRECTORY": "/run/credentials"})


def test_nobody_handed_any_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a service manager the one line says how to go on."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match=r"service.key_file = .*LoadCredential=key:FILE, or set \$CREDENTIALS_DIREC"):
        load(written(tmp_path, '[service]\nkey_file = "credential:key"\n'))

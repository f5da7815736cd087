"""The logins of [[sources.credentials]]: where each is sent, and how its secret is read."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from datamover.config import schema
from datamover.errors import AuthenticationFailed, ConfigError
from datamover.web.credentials import SourceCredentials
from datamover.web.url import WebUrl


def credentials(*tables: dict[str, Any]) -> SourceCredentials:
    return SourceCredentials.from_config(schema.Sources.model_validate({"credentials": tables}))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("s3cr3t\n")
    path.chmod(0o600)
    return path


def header(found: SourceCredentials, url: str) -> bytes | None:
    pair = found.header_for(WebUrl.parse(url))
    assert pair is None or pair[0] == b"Authorization"
    return None if pair is None else pair[1]


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://portal.example.org/data", True),
        ("https://portal.example.org/data/a?x=1", True),
        ("https://portal.example.org/database", False),
        ("https://portal.example.org/", False),
        ("https://portal.example.org/data/../a", False),
        ("https://portal.example.org/data/..%2fa", False),
        ("http://portal.example.org/data/a", False),
        ("https://portal.example.org:8443/data/a", False),
        ("https://www.portal.example.org/data/a", False),
        ("https://portal.example.org.evil.net/data/a", False),
    ],
)
def test_where_a_login_is_sent(secret: Path, url: str, sent: bool) -> None:
    """A login goes to URLs under its prefix, and nowhere else."""
    found = credentials({"url": "https://portal.example.org/data", "token_file": str(secret)})
    assert header(found, url) == (b"Bearer s3cr3t" if sent else None)


def test_the_longest_prefix_wins(tmp_path: Path) -> None:
    """Of two logins the one with the longer path is sent."""
    for name in ("short", "long"):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o600)
    found = credentials(
        {"url": "https://example.org/", "token_file": str(tmp_path / "short")},
        {"url": "https://example.org/a/", "token_file": str(tmp_path / "long")},
    )
    assert header(found, "https://example.org/a/b") == b"Bearer long"
    assert header(found, "https://example.org/b") == b"Bearer short"


def test_a_user_and_a_password(tmp_path: Path) -> None:
    """A user name and a password go out as Basic, in UTF-8."""
    (tmp_path / "password").write_text("pass:wörd")
    (tmp_path / "password").chmod(0o600)
    found = credentials(
        {"url": "https://example.org/", "username": "müller", "password_file": str(tmp_path / "password")}
    )
    assert header(found, "https://example.org/") == b"Basic " + b64encode("müller:pass:wörd".encode())


def test_a_secret_is_read_again_when_it_changes(secret: Path) -> None:
    """A replaced secret is used from the next request on."""
    found = credentials({"url": "https://example.org/", "token_file": str(secret)})
    assert header(found, "https://example.org/") == b"Bearer s3cr3t"
    secret.write_text("another one")
    assert header(found, "https://example.org/") == b"Bearer another one"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "one line"),
        (b"a\nb", "one line"),
        (b"\xff", "not UTF-8"),
        (b"a\r\nX: y", "one line"),
    ],
)
def test_secrets_that_cannot_be_used(secret: Path, content: bytes | None, words: str) -> None:
    """A secret that is missing or not one line is told by its file's name, never by what it holds."""
    found = credentials({"url": "https://example.org/", "token_file": str(secret)})
    if content is None:
        secret.unlink()
    else:
        secret.write_bytes(content)
    with pytest.raises(AuthenticationFailed, match=rf"{secret}: .*{words}"):
        header(found, "https://example.org/")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"url": "example.org"}, r"url: expected a prefix"),
        ({"url": "https://*.example.org/"}, r"url: expected a prefix"),
        ({"url": "https://example.org:*/"}, r"url: expected a prefix"),
        ({"url": "https://me:s3cr3t@example.org/"}, r"url: expected a prefix"),
        ({"url": "ftp://me:s3cr3t@example.org/"}, r"url: expected a prefix"),
        ({"url": "https://[example.org/"}, r"url: expected a prefix"),
        ({"url": "https://example.org/"}, "expected token_file, or username and password_file"),
        ({"url": "https://example.org/", "username": "me"}, "expected token_file, or username and password_file"),
        ({"url": "https://example.org/", "password_file": "/p"}, "expected token_file, or username and password_file"),
        (
            {"url": "https://example.org/", "username": "me", "password_file": "/p", "token_file": "/t"},
            "expected token_file, or username and password_file",
        ),
        ({"url": "https://example.org/", "username": "a:b", "password_file": "/p"}, "username = 'a:b': expected"),
    ],
)
def test_tables_that_cannot_be_used(table: dict[str, Any], words: str) -> None:
    """A login that is not a prefix and one secret is told by file and key, without secrets."""
    with pytest.raises(ConfigError, match=rf"datamover\.toml: sources\.credentials\.0.*{words}") as raised:
        credentials(table)
    assert "s3cr3t" not in raised.value.message

"""Files that hold secrets."""

import os
from pathlib import Path

import pytest

from datamover.config.load import load
from datamover.errors import AuthenticationFailed, ConfigError
from datamover.protocols import secret_keys
from datamover.security.passwords import hash_password
from datamover.security.secret_files import Unusable, check_all, exposure, make, read, replace
from datamover.web.credentials import SecretFile


@pytest.mark.parametrize(("mode", "good"), [(0o600, True), (0o400, True), (0o640, True), (0o440, True)])
def test_closed(mode: int, good: bool) -> None:
    """The owner's alone, or the group's to read: what deployments and systemd make."""
    assert (exposure(Path("/x"), 0o100000 | mode) is None) is good


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o606, 0o777, 0o601])
def test_open_to_others(tmp_path: Path, mode: int) -> None:
    """It is refused wherever it is read, with what to run."""
    path = tmp_path / "secret"
    path.write_text("s3cret\n")
    path.chmod(mode)
    line = f"{path} has permissions {mode:04o}, so others may read or change it: run chmod 0600 {path}"
    with pytest.raises(Unusable) as refused:
        read(path)
    assert refused.value.reason == line
    with pytest.raises(AuthenticationFailed) as failed:
        SecretFile(path).read()
    assert failed.value.message == f"cannot use a secret: {line}"
    path.chmod(0o600)
    assert SecretFile(path).read() == "s3cret"


def test_made_and_replaced(tmp_path: Path) -> None:
    """What is made is its owner's alone and never overwrites; what replaces keeps the owner and the permissions."""
    path = tmp_path / "below" / "key"
    make(path, b"one")
    make(path, b"two")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"one", 0o600)
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1, 1)
    replace(path, b"three")
    found = path.stat()
    assert (path.read_bytes(), found.st_mode & 0o777) == (b"three", 0o640)
    assert os.listdir(path.parent) == ["key"]
    if os.geteuid() == 0:
        assert (found.st_uid, found.st_gid) == (1, 1)


SECTIONS = {
    "service.key_file": '[service]\nkey_file = "{}"',
    "service.notify_secret_file": '[service]\nnotify_secret_file = "{}"',
    "database.password_file": '[database]\nurl = "postgresql://h/d"\npassword_file = "{}"',
    "destinations.x.private_key_file": '[destinations.x]\nurl = "sftp://u@h/x"\nknown_hosts_file = "{0}.pub"\n'
    'private_key_file = "{0}"',
    "destinations.x.passphrase_file": '[destinations.x]\nurl = "sftp://u@h/x"\nknown_hosts_file = "{0}.pub"\n'
    'private_key_file = "/k"\npassphrase_file = "{0}"',
    "destinations.x.password_file": '[destinations.x]\nurl = "sftp://u@h/x"\nknown_hosts_file = "{0}.pub"\n'
    'password_file = "{0}"',
    "sources.credentials.1.token_file": '[[sources.credentials]]\nurl = "https://a/"\ntoken_file = "/t"\n'
    '[[sources.credentials]]\nurl = "https://b/"\ntoken_file = "{}"',
    "clients.c.notify_secret_file": f'[clients.c]\npassword_hash = "{hash_password("x")}"\nnotify_secret_file = "{{}}"',
}


@pytest.mark.parametrize("key", SECTIONS)
def test_every_key_that_names_one(tmp_path: Path, key: str) -> None:
    """A configuration is refused for it, by the key's name; a public file may be everybody's to read."""
    secret = tmp_path / "secret"
    public = tmp_path / "secret.pub"
    for path in (secret, public):
        path.write_text("x\n")
        path.chmod(0o644)
    file = tmp_path / "datamover.toml"
    file.write_text(SECTIONS[key].format(secret))
    with pytest.raises(ConfigError) as refused:
        check_all(load(file), str(file), secret_keys())
    assert refused.value.message.startswith(f"{file}: {key}: {secret} has permissions 0644")
    secret.chmod(0o600)
    check_all(load(file), str(file), secret_keys())

"""A configuration with many mistakes: all of them are told together, wherever they are found."""

import getpass
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datamover.admin import main as admin
from tests.servers.others import as_user
from tests.servers.ports import free_port

CONFIGURATION = """
[service]
listn = ["tcp:10700"]
listen = ["http"]
roles = ["api", "engin"]
max_active = "8"
engine_processes = 99

[databse]
url = "x"

[database]
url = "mysql://db/dm"
connections = 0

[destinations.archive]
description = "has no url"

[destinations.disk]
url = "file:///DIRECTORY/disk"
file_mode = 644
bandwith = "2MB/s"

[destinations.own]
url = "file:///DIRECTORY/data/staging"

[destinations.web]
url = "gopher://example.org/x"

[destinations.vis]
url = "sftp://vis.example.org/srv"
pasword_file = "/nonexistent/password"

[sources]
allow = ["example.org", "https://ok.example.org/"]
allow_addresses = ["10.20.0.0/99"]

[[sources.credentials]]
url = "https://portal.example.org/"
username = "portal"

[http]
proxy = "proxy:3128"
ca_file = "/nonexistent/ca.pem"

[transfers]
idle_timeout = "soon"

[limits]
request_size = "big"

[clients.portal]
password_hash = "not a hash"
destinations = ["archive", "disc"]
methods = ["jobs.sumbit"]

[clients.nobody]
admin = "yes please"

[monitor]
clients = ["portl"]

[tls]
certificate_file = "/etc/x.pem"

[console]
telnet = "tcp:10701:interface=127.0.0.1"

[ala]
destination = "disk"
email = "nobody"
"""

TOLD = [
    'service.listn: unknown key; did you mean "listen"?',
    "service.listen.0 = 'http': expected a Twisted endpoint",
    "service.roles.1 = 'engin': expected 'api' or 'engine'; did you mean \"engine\"?",
    "service.max_active = '8': expected a whole number above 0",
    "service.engine_processes = 99: expected at most",
    'databse: unknown key; did you mean "database"?',
    "database.url: expected a URL such as",
    "database.connections = 0: expected a whole number above 0",
    "destinations.archive.url: missing, and there is no default",
    "destinations.disk.file_mode = 644: expected permission bits",
    'destinations.disk.bandwith: unknown key; did you mean "bandwidth"?',
    "destinations.own.url = 'file:///DIRECTORY/data/staging': is",
    "destinations.web.url = 'gopher://example.org/x': expected a URL with one of the schemes",
    "destinations.vis.url = 'sftp://vis.example.org/srv': expected",
    "destinations.vis.known_hosts_file: missing, and there is no default",
    'destinations.vis.pasword_file: unknown key; did you mean "password_file"?',
    "sources.allow.0 = 'example.org': expected",
    "sources.allow_addresses.0 = '10.20.0.0/99': expected",
    "sources.credentials.0: expected token_file, or username and password_file",
    "http.proxy: expected a URL such as",
    "http.ca_file = '/nonexistent/ca.pem': expected a readable file",
    "transfers.idle_timeout = 'soon': expected a time such as",
    "limits.request_size = 'big': expected a size such as",
    "clients.portal.password_hash: expected what `datamover-admin hash-password` prints",
    "clients.portal.destinations = 'disc': expected the name of a [destinations.NAME]; did you mean \"disk\"?",
    "clients.portal.methods = 'jobs.sumbit': expected a method's name",
    "clients.nobody.admin = 'yes please': expected true or false",
    "clients.nobody: expected password_hash, or certificate, or both",
    "monitor.clients = 'portl': expected the name of a [clients.NAME]; did you mean \"portal\"?",
    "tls: expected certificate_file and key_file, or neither",
    "console.password_hash: missing: expected what",
    "ala.email = 'nobody': expected the e-mail address",
]


def test_all_mistakes_are_told_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mistakes in values, names, between sections and in what they lead to are told at once, each in a line."""
    file = tmp_path / "datamover.toml"
    text = CONFIGURATION.replace("/DIRECTORY", str(tmp_path))
    file.write_text(text.replace("[service]", f'[service]\ndata_directory = "{tmp_path}/data"'))
    assert admin(["check-config", "--config", str(file)]) == 1
    lines = capsys.readouterr().err.splitlines()
    told = [line.removeprefix("datamover-admin: ").removeprefix(f"{file}: ") for line in lines]
    expected = [sentence.replace("/DIRECTORY", str(tmp_path)) for sentence in TOLD]
    missing = [sentence for sentence in expected if not any(line.startswith(sentence) for line in told)]
    assert missing == []
    assert [line for line in told if not line.startswith(tuple(expected))] == []
    assert len(told) == len(TOLD)


def command(*arguments: str, user: str | None = None) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "datamover.admin", *arguments]
    if user is not None:
        line = as_user(user, line)
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_named_is_looked_at(open_directory: Path) -> None:
    """Files that are not there and directories that cannot be written, as the user who asks, are told together."""
    closed = open_directory / "closed"
    closed.mkdir()
    closed.chmod(0o755 if os.geteuid() == 0 else 0o555)
    (open_directory / "file").touch()
    file = open_directory / "datamover.toml"
    file.write_text(
        f"""
[service]
data_directory = "{closed}/data"
[destinations.there]
url = "file://{open_directory}/there"
[destinations.file]
url = "file://{open_directory}/file"
[destinations.closed]
url = "file://{closed}/archive"
[console]
ssh = "tcp:10703:interface=127.0.0.1"
authorized_keys_file = "{open_directory}/no-keys"
"""
    )
    there = open_directory / "there"
    there.mkdir()
    there.chmod(0o777)
    user = "nobody" if os.geteuid() == 0 else getpass.getuser()
    done = command("check-config", "--config", str(file), user="nobody" if os.geteuid() == 0 else None)
    told = [line.removeprefix(f"datamover-admin: {file}: ") for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert told == [
        f"console.authorized_keys_file = '{open_directory}/no-keys': No such file or directory (as user {user!r}): "
        "expected a readable file",
        f"service.data_directory = '{closed}/data': {closed}/data is missing, and cannot be made in {closed} "
        f"(as user {user!r})",
        f"destinations.file.url = 'file://{open_directory}/file': {open_directory}/file is not a directory",
        f"destinations.closed.url = 'file://{closed}/archive': {closed}/archive is missing, and cannot be made in "
        f"{closed} (as user {user!r})",
    ]


def test_destinations_are_tried(open_directory: Path) -> None:
    """``--connect`` writes, reads and removes a file at each destination, and says what cannot be used, and why.

    It fails, too, if the database is away, which a look at the file alone tells without failing.
    """
    file = open_directory / "datamover.toml"
    (open_directory / "known_hosts").touch()
    tables = f"""
[service]
data_directory = "{open_directory}/data"
[destinations.disk]
url = "file://{open_directory}/disk"
"""
    file.write_text(tables)
    good = command("check-config", "--connect", "--config", str(file))
    assert (good.returncode, good.stderr) == (0, "")
    assert "connected      disk: connect, authenticate, write, read, replace, delete, in " in good.stdout
    away = f"""
[destinations.away]
url = "sftp://mover@127.0.0.1:{free_port()}/srv"
password_file = "{open_directory}/password"
known_hosts_file = "{open_directory}/known_hosts"
"""
    (open_directory / "password").write_text("secret")
    (open_directory / "password").chmod(0o600)
    file.write_text(tables + away)
    bad = command("check-config", "--connect", "--config", str(file))
    assert bad.returncode == 1
    assert "failed         away: connect: CONNECT_FAILED: " in bad.stdout
    assert bad.stderr == "datamover-admin: 1 destination cannot be used: away\n"
    file.write_text(f'{tables}[database]\nurl = "postgresql://mover@127.0.0.1:{free_port()}/mover"\n')
    bad = command("check-config", "--connect", "--config", str(file))
    assert bad.returncode == 1
    assert "connected      disk: " in bad.stdout
    assert re.fullmatch(r"datamover-admin: the database is away: connection to .+ refused.*\n", bad.stderr)
    assert command("check-config", "--config", str(file)).returncode == 0


def test_the_sample_is_printed() -> None:
    """``sample-config`` prints the commented sample, which is one that can be used."""
    done = command("sample-config")
    assert done.stdout == (Path(__file__).parents[2] / "etc/datamover.toml").read_text()

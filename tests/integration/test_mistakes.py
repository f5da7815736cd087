"""A configuration with many mistakes: all of them are told together, wherever they are found."""

from pathlib import Path

import pytest

from datamover.admin import main as admin

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
pasword_file = "/etc/x"

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

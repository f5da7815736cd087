"""The configuration: what is read, and the one line that refuses what cannot be."""

import os
from pathlib import Path
from typing import Any

import pytest

from datamover.config.endpoints import endpoint_interface, holds_password, is_private_listener
from datamover.config.load import find, load
from datamover.config.schema import Config, Service
from datamover.config.units import parse_duration, parse_mode, parse_rate, parse_size
from datamover.datasets.ala.section import AlaSection
from datamover.datasets.configured import CONFIG
from datamover.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dm.toml"


def read(file: Path, text: str) -> Config:
    file.write_text(text)
    return load(file, CONFIG)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (4096, 4096),
        ("4096", 4096),
        ("5B", 5),
        ("200MB", 200_000_000),
        ("200 MB", 200_000_000),
        ("200MiB", 200 * 2**20),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("1.5GB", 1_500_000_000),
        ("2TiB", 2**41),
        ("9007199254740993", 2**53 + 1),
        ("1PB", 10**15),
    ],
)
def test_sizes(value: Any, size: int) -> None:
    """A size is a whole number of bytes, in decimal or binary units."""
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value", [-1, 1.5, True, "", "MB", "5KB", "5kiB", "-5MB", "5 M", "1e3", "∞", None, [], "9" * 400, 2**63, "8192PiB"]
)
def test_no_sizes(value: Any) -> None:
    """What is no size is refused with an example of one."""
    with pytest.raises(ValueError, match='expected a size such as 4096, "200MB" or "200MiB"'):
        parse_size(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (30, 30.0),
        (0.5, 0.5),
        ("30", 30.0),
        ("30s", 30.0),
        ("10m", 600.0),
        ("2h", 7200.0),
        ("90d", 7_776_000.0),
        ("250ms", 0.25),
    ],
)
def test_times(value: Any, seconds: float) -> None:
    """A time is a number of seconds, or has a unit."""
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value",
    [-1, True, "", "10 minutes", "1w", float("inf"), float("nan"), "inf", "9" * 400, 10**400, "365001d", None],
)
def test_no_times(value: Any) -> None:
    """What is no time is refused with an example of one."""
    with pytest.raises(ValueError, match='expected a time such as 30, "30s"'):
        parse_duration(value)


def test_rates_and_modes() -> None:
    """A rate is a size a second, a mode octal digits in a string."""
    assert (parse_rate("200MB/s"), parse_rate("1kB"), parse_rate(5)) == (200_000_000, 1000, 5)
    assert (parse_mode("0644"), parse_mode("750")) == (0o644, 0o750)
    for value in ("fast", "5MB/h", -1, None):
        with pytest.raises(ValueError, match='expected a rate such as "200MB/s"'):
            parse_rate(value)
    for mode in (644, 0o644, "0844", "rw-r--r--", "4755", "00644", ""):
        with pytest.raises(ValueError, match='expected permission bits as a string, such as "0644"'):
            parse_mode(mode)


@pytest.mark.parametrize(
    ("listener", "interface", "private"),
    [
        ("tcp:10700:interface=127.0.0.1", "127.0.0.1", True),
        ("tcp:port=10700:interface=127.0.0.2", "127.0.0.2", True),
        ("tcp:10700:interface=\\:\\:1", "::1", True),
        ("tcp:10700:interface=localhost", "localhost", True),
        ("unix:/run/dm.sock", None, True),
        ("unix:address=/run/dm.sock:mode=660", None, True),
        ("tcp:10700", "", False),
        ("tcp:0:interface=10.0.0.5", "10.0.0.5", False),
        ("tcp:10700:interface=127.example.org", "127.example.org", False),
        ("tcp:10700:interface=\\:\\:", "::", False),
    ],
)
def test_listeners(listener: str, interface: str | None, private: bool) -> None:
    """An endpoint string tells where it listens, and whether only this machine can reach it."""
    assert endpoint_interface(listener) == interface
    assert is_private_listener(listener) is private


@pytest.mark.parametrize(
    "listener",
    [
        "",
        "10700",
        "tcp",
        "tcp:",
        "tcp:http",
        "tcp:70000",
        "tcp:²",
        "unix",
        "ssl:443",
        "tcp:80:interfce=127.0.0.1",
        "a=b",
        "tcp:1\\",
    ],
)
def test_no_listeners(listener: str) -> None:
    """What is no tcp or unix endpoint, or has a key that those do not know, is none."""
    with pytest.raises(ValueError, match=r"."):
        endpoint_interface(listener)


@pytest.mark.parametrize(
    ("url", "holds"),
    [
        ("sftp://bob:pw@host/x", True),
        ("sftp://bob:p/w@host/x", True),
        ("sftp://bob:p@w@host/x", True),
        ("sftp://bob:@host/x", True),
        ("sftp://:pw@host", True),
        ("sftp://bob:p?w@host", True),
        ("sftp://bob@host:22/x", False),
        ("sftp://host:22/srv/a@b", False),
        ("sftp://[::1]:22/srv/a@b", False),
        ("sftp://host/a:b@c", False),
        ("file:///a:b@c", False),
        ("nothing", False),
    ],
)
def test_passwords_in_urls(url: str, holds: bool) -> None:
    """A password in a URL is found, also where it makes the URL hard to read."""
    assert holds_password(url) is holds


def test_what_the_file_says(file: Path) -> None:
    """Every section is read into its values."""
    config = read(
        file,
        """
        [service]
        listen = ["tcp:8080", "unix:/run/dm.sock"]
        data_directory = "/srv/dm"
        roles = ["api"]
        max_active = 4
        [database]
        url = "postgresql://dm@db.example.org:5432/dm?sslmode=require"
        password_file = "/etc/dm/password"
        [destinations.vis-1]
        url = "sftp://dm@vis.example.org/srv"
        known_hosts_file = "/etc/dm/known_hosts"
        bandwidth = "2MB/s"
        [sources]
        allow = ["https://*.example.org/"]
        [[sources.credentials]]
        url = "https://portal.example.org/"
        token_file = "/etc/dm/token"
        [[sources.credentials]]
        url = "https://portal.example.org/"
        username = "dm"
        password_file = "/etc/dm/password"
        [http]
        proxy = "http://proxy.example.org:3128"
        [transfers]
        idle_timeout = "2m"
        min_rate = 0
        [limits]
        request_size = "1MiB"
        [clients.portal]
        password_hash = "$argon2id$x"
        destinations = ["vis-1"]
        admin = true
        [tls]
        plaintext = ["tcp:8080"]
        [console]
        telnet = "unix:/run/console.sock"
        password_hash = "$argon2id$x"
        """,
    )
    assert config.path == file
    assert config.service.key_path == Path("/srv/dm/key")
    assert config.service.roles == {"api"}
    assert config.database.url == "postgresql://dm@db.example.org:5432/dm?sslmode=require"
    assert config.destinations["vis-1"].bandwidth == 2_000_000
    assert config.destinations["vis-1"].file_mode == 0o644
    assert config.destinations["vis-1"].model_extra == {"known_hosts_file": "/etc/dm/known_hosts"}
    assert [credential.username for credential in config.sources.credentials] == [None, "dm"]
    assert (config.transfers.idle_timeout, config.transfers.min_rate) == (120.0, 0)
    assert config.limits.request_size == 2**20
    assert config.clients["portal"].admin


def test_the_atlas(file: Path) -> None:
    """[ala] is read with its defaults; a header of the configuration goes before those known."""
    assert read(file, "").declared == {}
    text = '[destinations.x]\nurl = "file:///x"\n[ala]\ndestination = "x"\nemail = "a@example.org"\n'
    ala = read(file, text).declared["ala"]
    assert isinstance(ala, AlaSection)
    assert (ala.path, ala.mode, ala.occurrences_url) == ("ALA", "offline", "https://biocache-ws.ala.org.au/ws")
    assert (ala.species_url, ala.reason_type_id, ala.poll_interval) == ("https://bie-ws.ala.org.au/ws", 4, 5.0)
    assert (ala.quality, ala.max_unpacked) == ("all", 20 * 10**9)
    assert "userVerified" in ala.good_flags
    text += 'occurrences_url = "http://127.0.0.1:8080/ws/"\n[ala.columns]\n"Long." = "lon"'
    ala = read(file, text).declared["ala"]
    assert isinstance(ala, AlaSection)
    assert ala.occurrences_url == "http://127.0.0.1:8080/ws"
    assert next(iter(ala.headers)) == "Long."
    assert ala.headers["decimalLongitude"] == "lon"


def test_empty_file_is_the_defaults(file: Path) -> None:
    """Nothing needs to be said: an empty file gives the defaults."""
    config = read(file, "")
    assert config.service == Service()
    assert config.destinations == load(None).destinations


def test_no_file_gives_one_local_destination() -> None:
    """Without a file there is one destination below the data directory, and loopback alone."""
    config = load(None)
    assert list(config.destinations) == ["local"]
    assert config.destinations["local"].url == (config.service.data_directory / "files").as_uri()
    assert all(is_private_listener(listener) for listener in config.service.listen)


REFUSED = [
    # The file as such.
    ("= 5", "not TOML: "),
    ('path = "/x"', "path: unknown key"),
    # Keys and kinds.
    ("[servce]", 'servce: unknown key; did you mean "service"?'),
    ("[service]\nlisten_on = []", "service.listen_on: unknown key"),
    ("service = 5", "service = 5: expected a table"),
    ("[[service]]\nx = 1", "service = an array of tables: expected a table"),
    ("destinations = []", "destinations = []: expected a table"),
    ("[destinations]\nx = 5", "destinations.x = 5: expected a table"),
    ("[destinations.x]", "destinations.x.url: missing, and there is no default"),
    ("[destinations.x]\nurl = 5", "destinations.x.url = 5: expected a string"),
    ("[clients.x]", "clients.x: expected password_hash, or certificate, or both"),
    # [service]
    ('[service]\nlisten = "tcp:80"', "service.listen = 'tcp:80': expected an array, such as [\"tcp:80\"]"),
    ('[service]\nlisten = ["http"]', "service.listen.0 = 'http': expected a Twisted endpoint such as"),
    ("[service]\nlisten = [5]", "service.listen.0 = 5: expected a string"),
    (
        '[service]\nlisten = ["tcp:80"]',
        "service.listen = 'tcp:80': expected a loopback or Unix listener, or at least one",
    ),
    ('[service]\ndata_directory = "data"', "service.data_directory = 'data': expected an absolute path"),
    (
        '[service]\ndata_directory = "~nobody-of-that-name/x"',
        "service.data_directory = '~nobody-of-that-name/x': expected",
    ),
    ("[service]\ndata_directory = 5", "service.data_directory = 5: expected a path as a string"),
    ("[service]\nroles = []", 'service.roles = []: expected "api", "engine" or both'),
    ('[service]\nroles = "api"', "service.roles = 'api': expected an array"),
    ('[service]\nroles = ["web"]', "service.roles.0 = 'web': expected 'api' or 'engine'"),
    ("[service]\nmax_active = 0", "service.max_active = 0: expected a whole number above 0"),
    ('[service]\nmax_active = "8"', "service.max_active = '8': expected a whole number above 0"),
    ("[service]\nmax_active = 1.5", "service.max_active = 1.5: expected a whole number above 0"),
    ('[service]\nkey_file = "key"', "service.key_file = 'key': expected an absolute path"),
    # [database]
    ('[database]\nurl = "postgresql://dm:hunter2@db/dm"', "database.url: holds a password: leave it out, and name"),
    ('[database]\nurl = "postgresql://dm:hunter/2@db/dm"', "database.url: holds a password: leave it out, and name"),
    (
        '[database]\nurl = "postgresql://db/dm?password=hunter2"',
        "database.url: holds a password: leave it out, and name",
    ),
    ('[database]\nurl = "postgresql://db/?sslpassword=hunter2"', "database.url: holds a password: leave it out"),
    ('[database]\nurl = "host=db password=hunter2"', 'database.url: expected a URL such as "postgresql://'),
    ('[database]\nurl = "mysql://db/dm"', 'database.url: expected a URL such as "postgresql://'),
    ('[database]\nurl = "postgresql://[db"', 'database.url: expected a URL such as "postgresql://'),
    ('database = "postgresql://dm:hunter2@db/dm"', "database = …: expected a table"),
    ('[database]\nurl = ["postgresql://dm:hunter2@db/dm"]', "database.url = …: expected a string"),
    ('[database]\npassword = "hunter2"', "database.password: unknown key"),
    ("[database]\nconnections = -1", "database.connections = -1: expected a whole number above 0"),
    (
        f"[database]\nconnections = {2**31}",
        f"database.connections = {2**31}: expected less than or equal to {2**31 - 1}",
    ),
    # [destinations]
    ('[destinations."a b"]\nurl = "file:///x"', "destinations.'a b': expected a name of at most 63"),
    ('[destinations."a\\nb"]\nurl = "file:///x"', "destinations.'a\\nb': expected a name of at most 63"),
    ('[destinations."a\\nb"]', "destinations.'a\\nb'.url: missing"),
    (f'[destinations.{"a" * 64}]\nurl = "file:///x"', f"destinations.'{'a' * 64}': expected a name of at most 63"),
    (
        '[destinations.x]\nurl = "file:///x"\nfile_mode = 644',
        "destinations.x.file_mode = 644: expected permission bits",
    ),
    ('[destinations.x]\nurl = "file:///x"\nbandwidth = 0', "destinations.x.bandwidth = 0: expected more than 0"),
    ('[destinations.x]\nurl = "file:///x"\nbandwidth = "fast"', "destinations.x.bandwidth = 'fast': expected a rate"),
    (
        '[destinations.x]\nurl = "file:///x"\nverify = "yes"',
        "destinations.x.verify = 'yes': expected 'size' or 'read-back'",
    ),
    ('[destinations.x]\nurl = "file:///x"\nmax_active = 0', "destinations.x.max_active = 0: expected a whole number"),
    # [sources]
    ('[sources]\nallow = "https://x/"', "sources.allow = 'https://x/': expected an array"),
    ('[[sources.credentials]]\nurl = "https://x/"\ntoken = "hunter2"', "sources.credentials.0.token: unknown key"),
    # [http], [transfers], [limits]
    ('[http]\nproxy = "http://bob:hunter2@proxy:3128"', 'http.proxy: expected a URL such as "http://proxy'),
    ('[http]\nproxy = "proxy:3128"', 'http.proxy: expected a URL such as "http://proxy'),
    ('[http]\nca_file = "ca.pem"', "http.ca_file = 'ca.pem': expected an absolute path"),
    ("[transfers]\nidle_timeout = 0", "transfers.idle_timeout = 0: expected more than 0"),
    ("[transfers]\nidle_timeout = inf", "transfers.idle_timeout = inf: expected a time such as"),
    ('[transfers]\nretry_cap = "soon"', "transfers.retry_cap = 'soon': expected a time such as"),
    ("[transfers]\nmin_rate = -1", "transfers.min_rate = -1: expected a rate such as"),
    ("[transfers]\nmax_attempts = 0", "transfers.max_attempts = 0: expected a whole number above 0"),
    ('[limits]\nrequest_size = "big"', "limits.request_size = 'big': expected a size such as"),
    ("[limits]\nrequest_size = 0", "limits.request_size = 0: expected more than 0"),
    ("[limits]\nfiles = 0", "limits.files = 0: expected a whole number above 0"),
    # [clients], [console]
    ("[clients.x]\npassword_hash = 12345678", "clients.x.password_hash = …: expected a string"),
    ('[clients.x]\npassword_hash = "h"\nadmin = 5', "clients.x.admin = 5: expected true or false"),
    ('[clients.x]\npassword_hash = "h"\nadmin = []', "clients.x.admin = []: expected true or false"),
    ('[clients.x]\npassword_hash = "h"\ndestinations = ["y"]', "clients.x.destinations = 'y': expected the name of a"),
    ('[clients."x:y"]\npassword_hash = "h"', "clients.'x:y': expected a name of at most 63"),
    ('[[clients]]\npassword_hash = "hunter2"', "clients = an array of tables: expected a table"),
    (
        '[console]\ntelnet = "tcp:10701"\npassword_hash = "h"',
        "console.telnet = 'tcp:10701': expected a loopback or Unix",
    ),
    (
        '[console]\ntelnet = "tcp:1:interface=127.0.0.1"',
        "console.password_hash: missing: expected what `datamover-admin",
    ),
    # [ala]
    ('[ala]\nemail = "a@example.org"', "ala.destination: missing, and there is no default"),
    ('[ala]\ndestination = "x"', "ala.email: missing, and there is no default"),
    *(
        (f'[destinations.x]\nurl = "file:///x"\n[ala]\ndestination = "x"\nemail = "a@example.org"\n{text}', said)
        for text, said in [
            ('mode = "sync"', "ala.mode = 'sync': expected 'offline' or 'direct'"),
            ('species_lookup = "some"', "ala.species_lookup = 'some': expected 'single' or 'bulk'"),
            ('path = "../x"', "ala.path = '../x': expected a directory below the destination's root"),
            ('occurrences_url = "ala.org.au/ws"', "ala.occurrences_url = 'ala.org.au/ws': expected an http(s) URL"),
            ('species_url = "http://bob:hunter2@x/ws"', "ala.species_url = …: expected an http(s) URL"),
            ('species_url = "http://x/ws?key=1"', "ala.species_url = 'http://x/ws?key=1': expected an http(s) URL"),
            ('species_url = "http://[x/ws"', "ala.species_url = 'http://[x/ws': expected an http(s) URL"),
            ("reason_type_id = 0", "ala.reason_type_id = 0: expected a whole number above 0"),
            ("poll_interval = 0", "ala.poll_interval = 0: expected more than 0"),
            ('max_wait = "long"', "ala.max_wait = 'long': expected a time such as"),
            ('max_unpacked = "big"', "ala.max_unpacked = 'big': expected a size such as"),
            ("max_ratio = 0.5", "ala.max_ratio = 0.5: expected a whole number above 0"),
            ('token = "hunter2"', "ala.token: unknown key"),
            ('token_file = "t"', "ala.token_file = 't': expected an absolute path"),
            ('good_flags = "x"', "ala.good_flags = 'x': expected an array"),
            ('columns = ["x"]', "ala.columns = ['x']: expected a table"),
            ('[ala.columns]\n"Long" = "x"', "ala.columns.Long = 'x': expected 'species', 'lon', 'lat'"),
        ]
    ),
    ('[ala]\ndestination = "x"\nemail = "nobody"', "ala.email = 'nobody': expected the e-mail address"),
    ('[ala]\ndestination = "y"\nemail = "a@example.org"', "ala.destination = 'y': expected the name of a [destinat"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_refused(file: Path, text: str, said: str) -> None:
    """What cannot be used is refused in one line that names file, key, value and expectation, and no secret."""
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    assert caught.value.message.startswith(f"{file}: {said}")
    assert all(line.isprintable() for line in caught.value.message.split("\n"))
    assert caught.value.message.split("\n") == list(caught.value.problems)
    assert not any(secret in caught.value.message for secret in ("hunter", "12345678"))


def test_a_wrong_role_is_told_once(file: Path) -> None:
    """A wrong role is not also reported as a lack of roles."""
    with pytest.raises(ConfigError) as caught:
        read(file, '[service]\nroles = ["apis"]')
    assert (
        caught.value.message == f"{file}: service.roles.0 = 'apis': expected 'api' or 'engine'; did you mean \"api\"?"
    )


def test_long_values_are_cut(file: Path) -> None:
    """A message has no more of a value than fits a line."""
    with pytest.raises(ConfigError) as caught:
        read(file, f'[destinations.x]\nurl = "file:///x"\nverify = "{"y" * 10_000}"')
    assert len(caught.value.message) < 400


def test_unreadable_files(tmp_path: Path) -> None:
    """A file that is missing, a directory or not UTF-8 is refused with the reason."""
    for path, said in ((tmp_path / "none.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=f"{said}.*: expected a readable configuration file"):
            load(path)
    (tmp_path / "latin.toml").write_bytes("# café".encode("latin-1"))
    with pytest.raises(ConfigError, match="not TOML"):
        load(tmp_path / "latin.toml")


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named file comes before the environment's, and that before the one in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datamover.config.load.SYSTEM_FILE", tmp_path / "system.toml")
    assert find(environment={}) is None
    (tmp_path / "system.toml").touch()
    assert find(environment={}) == tmp_path / "system.toml"
    (tmp_path / "datamover.toml").touch()
    assert find(environment={}) == Path("datamover.toml")
    assert find(environment={"DATAMOVER_CONFIG": ""}) == Path("datamover.toml")
    assert find(environment={"DATAMOVER_CONFIG": "/e.toml"}) == Path("/e.toml")
    assert find("/n.toml", {"DATAMOVER_CONFIG": "/e.toml"}) == Path("/n.toml")


def test_a_file_that_may_not_be_looked_at(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration in a directory that may not be entered is an error, not a missing file."""
    closed = open_directory / "closed"
    closed.mkdir(mode=0o000)
    monkeypatch.chdir(open_directory)
    monkeypatch.setattr("datamover.config.load.SYSTEM_FILE", closed / "datamover.toml")
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        found = find(environment={})
        with pytest.raises(ConfigError, match="Permission denied: expected a readable configuration file"):
            load(found)
    finally:
        if root:
            os.seteuid(0)
        closed.chmod(0o700)

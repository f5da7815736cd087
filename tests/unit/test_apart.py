"""Destinations and what is the service's own, each apart from the other."""

import re
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from datamover.config.layout import Layout
from datamover.config.load import load
from datamover.errors import ConfigError
from datamover.registry.apart import check_apart
from datamover.registry.destinations import Registry


def check(directory: Path, url: str, *, data: str = "data", more: str = "") -> None:
    """Check a configuration with one destination, whose path ``url`` is below ``directory``; raises ConfigError."""
    file = directory / "etc/datamover.toml"
    file.parent.mkdir(exist_ok=True)
    text = f'[destinations.place]\nurl = "file://HERE/{url}"\n[service]\ndata_directory = "HERE/{data}"\n{more}'
    file.write_text(text.replace("HERE", str(directory)))
    settings = load(file)
    check_apart(Registry.from_config(settings, Clock()).directories, settings, str(file))


@pytest.fixture(params=["missing", "there"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with links in it, before the service's first start and after it."""
    if request.param == "there":
        for name in ("files", "staging", "postgresql/cluster", "postgresql-18-programs", "exports"):
            (tmp_path / "data" / name).mkdir(parents=True)
        for name in ("key", "console_host_key", "postgresql-start.lock"):
            (tmp_path / "data" / name).touch()
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "around").symlink_to(f"{tmp_path}/deep/er/../../data/staging")
    (tmp_path / "deep/up").symlink_to("..")
    return tmp_path


REFUSED = [
    ("data", "is HERE/data (service.data_directory)"),
    ("data/", "is HERE/data (service.data_directory)"),
    ("data//.", "is HERE/data (service.data_directory)"),
    ("", "holds HERE/data (service.data_directory)"),
    ("deep/up", "leads to HERE, which holds HERE/data (service.data_directory)"),
    ("link", "leads to HERE/data, which is HERE/data (service.data_directory)"),
    ("link/", "leads to HERE/data, which is HERE/data (service.data_directory)"),
    ("data/staging", "is HERE/data/staging, which the service keeps for itself"),
    ("data/staging/", "is HERE/data/staging, which the service keeps for itself"),
    ("data/STAGING", "is HERE/data/STAGING, which the service keeps for itself"),
    ("data/staging/x/y", "lies in HERE/data/staging, which the service keeps for itself"),
    ("link/staging", "leads to HERE/data/staging, which is HERE/data/staging, which the service keeps for itself"),
    ("around/x", "leads to HERE/data/staging/x, which lies in HERE/data/staging, which the service keeps for itself"),
    ("deep/up/data/key", "leads to HERE/data/key, which is HERE/data/key, which the service keeps for itself"),
    ("data/postgresql", "is HERE/data/postgresql, which the service keeps for itself"),
    ("data/postgresql/cluster", "lies in HERE/data/postgresql, which the service keeps for itself"),
    ("data/postgresql-18-programs/bin", "lies in HERE/data/postgresql-18-programs, which the service keeps for itself"),
    ("data/postgresql-start.lock", "is HERE/data/postgresql-start.lock, which the service keeps for itself"),
    ("data/key", "is HERE/data/key, which the service keeps for itself"),
    ("data/.key-abc", "is HERE/data/.key-abc, which the service keeps for itself"),
    ("data/console_host_key", "is HERE/data/console_host_key, which the service keeps for itself"),
    ("etc", "holds HERE/etc/datamover.toml (this configuration)"),
]


@pytest.mark.parametrize(("url", "said"), REFUSED, ids=[url for url, _ in REFUSED])
def test_no_destination_is_or_holds_or_lies_in_what_is_the_services(here: Path, url: str, said: str) -> None:
    """Whatever the path looks like, before the first start too; the line names file, key, value and collision."""
    with pytest.raises(ConfigError) as refused:
        check(here, url)
    message = refused.value.message.replace(str(here), "HERE")
    assert message.startswith(f"HERE/etc/datamover.toml: destinations.place.url = 'file://HERE/{url}': {said}")
    assert message.endswith(
        "Name a directory that is apart from it, such as HERE/data/files/place, or move it elsewhere"
    )


@pytest.mark.parametrize(
    "url",
    [
        *("data/files", "data/files/", "data/files/portal", "link/files", "data/exports", "data/exports/staging"),
        *("data2", "data-postgresql", "dat", "keys", "data/keys", "data/.hidden", "deep", "deep/er"),
    ],
)
def test_others_may_be_destinations(here: Path, url: str) -> None:
    """``files`` and a directory of the user's own in the data directory, and whatever is beside it."""
    check(here, url)


def test_the_data_directory_behind_a_link(here: Path) -> None:
    """It is refused by its own name, by the link's, and with the link on the way to it."""
    (here / "links").mkdir()
    (here / "links/data").symlink_to("../data")
    for url in ("data", "data/staging", "links/data/key", "links", ""):
        with pytest.raises(ConfigError, match=r"\(service\.data_directory\)"):
            check(here, url, data="links/data")
    for url in ("data/files", "links/data/files"):
        check(here, url, data="links/data")


@pytest.mark.parametrize("part", ["staging", "postgresql"])
def test_a_part_on_another_disk(tmp_path: Path, part: str) -> None:
    """Where a directory of the service's is a link, what it leads to is the service's, and so is what holds that."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / part).symlink_to("../scratch/mover")
    told = re.escape(f"{tmp_path}/data/{part} (service.data_directory)")
    for url, relation in (("scratch", "holds"), ("scratch/mover", "is"), ("scratch/mover/x", "lies in")):
        with pytest.raises(ConfigError, match=f"': {relation} {told}"):
            check(tmp_path, url)
    check(tmp_path, "scratch/other")


def test_a_link_that_leads_out_of_the_data_directory(here: Path) -> None:
    """Is a destination elsewhere."""
    (here / "data").mkdir(exist_ok=True)
    (here / "data/out").symlink_to("../elsewhere")
    check(here, "data/out")


SFTP = '[destinations.far]\nurl = "sftp://me@far.example.org/srv"\nknown_hosts_file = "HERE/{}"\n{} = "HERE/{}"\n'
FILES = [
    ("service.key_file", 'key_file = "HERE/own/deep/secret"\n'),
    ("service.notify_secret_file", 'notify_secret_file = "HERE/own/secret"\n'),
    ("tls.key_file", '[tls]\ncertificate_file = "HERE/x.pem"\nkey_file = "HERE/own/secret"\n'),
    ("console.authorized_keys_file", '[console]\nauthorized_keys_file = "HERE/own/secret"\n'),
    ("http.ca_file", '[http]\nca_file = "HERE/own/secret"\n'),
    ("clients.portal.notify_secret_file", '[clients.portal]\npassword_hash = "x"\nnotify_secret_file = "HERE/own/s"\n'),
    (
        "sources.credentials.0.token_file",
        '[[sources.credentials]]\nurl = "https://example.org/"\ntoken_file = "HERE/own/secret"\n',
    ),
    ("destinations.far.private_key_file", SFTP.format("known", "private_key_file", "own/secret")),
    ("destinations.far.known_hosts_file", SFTP.format("own/known", "password_file", "secret")),
]


@pytest.mark.parametrize(("key", "more"), FILES, ids=[key for key, _ in FILES])
def test_no_destination_holds_a_file_that_is_named(tmp_path: Path, key: str, more: str) -> None:
    """A client could read a key there, or put another one in its place; beside the file there is no harm."""
    with pytest.raises(ConfigError) as refused:
        check(tmp_path, "own", more=more)
    assert f"': holds {tmp_path}/own/" in refused.value.message
    assert f"({key})" in refused.value.message
    check(tmp_path, "own2", more=more)


def test_a_file_in_files(tmp_path: Path) -> None:
    """The key may be in the data directory, but not where clients' files are."""
    check(tmp_path, "data/files", more='key_file = "HERE/data/keys/key"\n')
    with pytest.raises(ConfigError, match=r"': holds .*/data/files/key \(service\.key_file\)"):
        check(tmp_path, "data/files", more='key_file = "HERE/data/files/key"\n')


def test_a_file_behind_a_link(tmp_path: Path) -> None:
    """Neither the directory of the link may be a destination, nor that of the file."""
    for name in ("links", "keys"):
        (tmp_path / name).mkdir()
    (tmp_path / "links/key").symlink_to("../keys/key")
    for url in ("links", "keys"):
        with pytest.raises(ConfigError, match=f"': holds {tmp_path}/links/key"):
            check(tmp_path, url, more='key_file = "HERE/links/key"\n')


def test_places_elsewhere_are_not_looked_at(tmp_path: Path) -> None:
    """An SFTP server's root may have the same path: it is another machine's."""
    settings = f'[destinations.far]\nurl = "sftp://me@far.example.org{tmp_path}/data"\nknown_hosts_file = "HERE/k"\n'
    check(tmp_path, "store", more=f'{settings}password_file = "HERE/p"\n')


def test_the_built_in_configuration_is_apart() -> None:
    """Its one destination is ``files`` in the data directory."""
    settings = load(None)
    registry = Registry.from_config(settings, Clock())
    assert registry.directories == {"local": str(Layout(settings.service.data_directory).files)}
    check_apart(registry.directories, settings, "the built-in configuration")

"""What of a new configuration takes effect while the service runs."""

from pathlib import Path

import pytest

from datamover.config.load import load
from datamover.config.schema import Client, Config, DestinationTable, Limits, Monitor, Service
from datamover.datasets.configured import CONFIG
from datamover.errors import ConfigError
from datamover.runtime.diff import changes
from datamover.security.passwords import hash_password

ARCHIVE = DestinationTable(url="file:///srv/archive")


def of(**sections: object) -> Config:
    return CONFIG.model_validate({"path": Path("/etc/datamover/datamover.toml"), **sections})


def test_the_same() -> None:
    """Nothing changes with a file that says the same."""
    found = changes(of(destinations={"a": ARCHIVE}), of(destinations={"a": ARCHIVE}))
    assert (found.changed, found.restart) == ((), ())


def test_what_takes_effect() -> None:
    """Destinations and clients are told by name, everything else by its key."""
    before = of(destinations={"a": ARCHIVE, "gone": ARCHIVE})
    after = of(
        destinations={"a": ARCHIVE.model_copy(update={"max_active": 2}), "new": ARCHIVE},
        limits=Limits(queued=7),
        service=Service(max_active=3),
        monitor=Monitor(public=True),
    )
    found = changes(before, after)
    assert found.changed == (
        "destinations.a",
        "destinations.gone",
        "destinations.new",
        "limits.queued",
        "monitor.public",
        "service.max_active",
    )
    assert found.restart == ()
    assert found.settings == after


def test_what_needs_a_restart() -> None:
    """It is named, and what is in force does not pretend to it."""
    before = of()
    after = of(
        service=Service(listen=("tcp:1:interface=127.0.0.1",), roles=frozenset({"api"}), max_active=3, lease=60),
        database={"connections": 3},
        log={"format": "json"},
        monitor={"listen": "tcp:2:interface=127.0.0.1"},
    )
    found = changes(before, after)
    assert found.restart == (
        "database.connections",
        "log.format",
        "monitor.listen",
        "service.lease",
        "service.listen",
        "service.roles",
    )
    assert found.changed == ("service.max_active",)
    assert found.settings.service == before.service.model_copy(update={"max_active": 3})
    assert (found.settings.database, found.settings.log, found.settings.monitor) == (
        before.database,
        before.log,
        before.monitor,
    )


def test_a_declared_section() -> None:
    """It is told by its name alone, whether it comes, changes or goes; it is checked with what is in force."""
    places = {"a": ARCHIVE}
    one, other = ({"destination": "a", "email": "portal@example.org", "quality": each} for each in ("all", "none"))
    without, before, after = (
        of(destinations=places),
        of(destinations=places, ala=one),
        of(destinations=places, ala=other),
    )
    for running, read in ((without, before), (before, after), (after, without)):
        found = changes(running, read)
        assert (found.changed, found.restart, found.settings) == (("ala",), (), read)
    with pytest.raises(ConfigError, match=r"ala\.destination = 'a': expected the name of a"):
        changes(before, of(ala=one))


def test_what_would_not_fit_together() -> None:
    """The last client does not go while a listener stays that is open to the network."""
    clients = {"portal": Client(password_hash=hash_password("x"))}
    running = of(service=Service(listen=("tcp:10700",)), clients=clients)
    with pytest.raises(ConfigError) as refused:
        changes(running, of(service=Service(listen=("tcp:10700:interface=127.0.0.1",))))
    assert "service.listen = 'tcp:10700': expected a loopback" in refused.value.message


def test_local_stays_with_the_data_directory(tmp_path: Path) -> None:
    """``local`` moves with the data directory, which a restart moves."""
    file = tmp_path / "datamover.toml"
    file.write_text('[service]\ndata_directory = "/srv/one"\n')
    before = load(file, CONFIG)
    file.write_text('[service]\ndata_directory = "/srv/two"\n')
    found = changes(before, load(file, CONFIG))
    assert (found.changed, found.restart) == ((), ("service.data_directory",))
    assert found.settings.destinations["local"].url == "file:///srv/one/files"

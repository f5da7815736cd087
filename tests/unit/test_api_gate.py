"""Which requests are read, by their headers alone."""

import socket

import pytest

from datamover.api.http.request_filter import RequestFilter
from datamover.config.schema import Client, Config, Service


def gate(*listeners: str, hosts: tuple[str, ...] = ()) -> RequestFilter:
    clients = {"portal": Client(password_hash="x")}
    return RequestFilter.from_config(Config(service=Service(listen=listeners, hosts=hosts), clients=clients))


@pytest.mark.parametrize(
    ("listener", "host", "served"),
    [
        ("tcp:10700:interface=127.0.0.1", "localhost", True),
        ("tcp:10700:interface=127.0.0.1", "10.1.2.3", False),
        ("tcp:10700:interface=127.0.0.1", socket.gethostname() + ".x", False),
        ("tcp:10700:interface=10.1.2.3", "10.1.2.3:10700", True),
        ("tcp:10700:interface=10.1.2.3", "10.1.2.4:10700", False),
        ("tcp:10700", "10.1.2.3", True),
        ("tcp:10700", "[2001:db8::1]:10700", True),
        ("tcp:10700", socket.gethostname(), True),
        ("tcp:10700", "evil.example.org", False),
        ("tcp:10700:interface=0.0.0.0", "192.0.2.1", True),
        ("unix:/run/datamover.sock", "localhost", True),
        ("unix:/run/datamover.sock", "10.1.2.3", False),
        ("tcp:10700", "", False),
        ("tcp:10700", "10.1.2.3:port", False),
    ],
)
def test_a_listeners_own_names_are_served(listener: str, host: str, served: bool) -> None:
    """A listener for every address is called by any of them; one for one address by that; by no other name."""
    assert gate(listener).serves(host) is served


def test_further_names_are_configured() -> None:
    """service.hosts are served beside them, in any case and with a dot at the end."""
    named = gate("tcp:10700:interface=127.0.0.1", hosts=("DataMover.example.org",))
    assert named.serves("datamover.example.org.:10700")
    assert not named.serves("example.org")

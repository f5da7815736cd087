"""The [monitor] and [log] sections."""

from pathlib import Path

import pytest

from datamover.config.load import load
from datamover.errors import ConfigError

CLIENT = '[clients.portal]\npassword_hash = "x"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[monitor]\nclients = ["portal"]\n', "monitor.clients = 'portal': expected the name of a"),
        ('[monitor]\nlisten = "tcp:10702"\n', "monitor.listen = 'tcp:10702': expected a loopback or Unix listener"),
        ('[monitor]\nlisten = "nonsense"\n', "monitor.listen = 'nonsense': expected a Twisted endpoint"),
        ('[log]\nformat = "xml"\n', "log.format = 'xml': expected 'text' or 'json'"),
    ],
)
def test_refused(tmp_path: Path, text: str, complaint: str) -> None:
    """A client that does not exist, a listener that is open to all, and an unknown format are refused."""
    path = tmp_path / "datamover.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert complaint in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        '[monitor]\nlisten = "tcp:10702:interface=127.0.0.1"\n',
        '[monitor]\nlisten = "tcp:10702"\npublic = true\n',
        '[monitor]\nlisten = "tcp:10702"\nclients = ["portal"]\n[tls]\nplaintext = ["tcp:10702"]\n' + CLIENT,
    ],
)
def test_accepted(tmp_path: Path, text: str) -> None:
    """A listener may be open where a login is asked for, or none is wanted."""
    path = tmp_path / "datamover.toml"
    path.write_text(text)
    assert load(path).monitor.listen

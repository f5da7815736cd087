"""What engine processes and their parent say to each other."""

import json
from pathlib import Path

import pytest

from datamover.config.load import load
from datamover.datasets.configured import CONFIG
from datamover.engine.share import ProcessShare
from datamover.errors import ConfigError
from datamover.monitor.metrics import Metrics
from datamover.processes.messages import ChildConfig, StatusMessage
from datamover.processes.metrics_buffer import MetricsBuffer, count

TABLES = """
[service]
data_directory = "/srv/data"
engine_processes = 3
lease = "10s"
[destinations.visualiser]
url = "sftp://datamover@vis.example.org:22/srv/data"
private_key_file = "/etc/datamover/id"
known_hosts_file = "/etc/datamover/known_hosts"
file_mode = "0640"
bandwidth = "200MB/s"
[sources]
allow = ["https://*.example.org/"]
[[sources.credentials]]
url = "https://portal.example.org/"
token_file = "/etc/datamover/token"
[clients.portal]
password_hash = "$argon2id$…"
destinations = ["visualiser"]
[ala]
destination = "visualiser"
email = "someone@example.org"
[gbif]
"""


@pytest.mark.parametrize("text", [None, TABLES])
def test_a_brief(tmp_path: Path, text: str | None) -> None:
    """The settings arrive as they are, whatever the file says by then."""
    path = None
    if text is not None:
        path = tmp_path / "datamover.toml"
        path.write_text(text)
    brief = ChildConfig("a-node", ProcessShare(2, 3), load(path, CONFIG))
    if path is not None:
        path.unlink()
    line = brief.line()
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert ChildConfig.from_line(line.encode()) == brief


def test_a_brief_of_another_version() -> None:
    """Settings that this version does not know are refused in words, not taken for others."""
    line = ChildConfig("a-node", ProcessShare(), load(None, CONFIG)).line().replace('"lease"', '"leash"')
    with pytest.raises(ConfigError, match=r"service\.leash: unknown key"):
        ChildConfig.from_line(line.encode())


def test_a_word() -> None:
    """A word arrives as it was said."""
    word = StatusMessage(True, (("claimed", 4), ("loop_failed", "claims")), None, ("claims do not turn",), True)
    assert StatusMessage.from_fields(json.loads(word.line())) == word


def test_counts_arrive() -> None:
    """What several processes gather adds up in the metrics of one."""
    metrics = Metrics()
    for tally in (MetricsBuffer(), MetricsBuffer()):
        for _ in range(2):
            tally.claimed(4)
            tally.bytes_moved("archive", 1000)
        tally.bytes_moved("visualiser", 1)
        tally.taken_over(0)
        tally.lease_lost()
        tally.loop_failed("claims")
        tally.lagged(0.3)
        tally.attempt_ended("completed", None)
        tally.attempt_ended("failed", "SOURCE_NOT_FOUND")
        word = StatusMessage(True, tally.take())
        assert [call for call in word.counted if call[0] == "bytes_moved"] == [
            ("bytes_moved", "archive", 2000),
            ("bytes_moved", "visualiser", 1),
        ]
        assert not tally.take()
        count(metrics, word.counted)

    def value(name: str, **labels: str) -> float | None:
        found: float | None = metrics.registry.get_sample_value(f"datamover_{name}", labels)
        return found

    assert value("claims_total") == 16
    assert value("bytes_moved_total", destination="archive") == 4000
    assert value("bytes_moved_total", destination="visualiser") == 2
    assert value("attempts_total", outcome="completed") == value("attempts_total", outcome="failed") == 2
    assert value("errors_total", code="SOURCE_NOT_FOUND") == 2
    assert value("lease_losses_total") == 2
    assert value("loop_failures_total", loop="claims") == 2
    assert value("lease_takeovers_total") == 0
    assert value("reactor_lag_seconds_count") == 2

"""Log lines for machines."""

import json
import signal
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, LogPublisher, formatEventAsClassicLogText
from twisted.python.failure import Failure

from datamover.monitor.logs import event, json_observer, line, log_file


def written(tell: Any) -> dict[str, Any]:
    """Return what ``tell``, given a logger, has written as its one line."""
    file = StringIO()
    tell(Logger("datamover.test", observer=LogPublisher(json_observer(file))))
    (text,) = file.getvalue().splitlines()
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line() -> None:
    """A line has the time, the level, the namespace, the message and the event's own fields; ids also stand out."""
    told = written(lambda log: log.info("job {job}: moved {source}", job=12, transfer=34, source="https://x/a"))
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "info",
        "namespace": "datamover.test",
        "message": "job 12: moved https://x/a",
        "fields": {"job": 12, "transfer": 34, "source": "https://x/a"},
        "job": 12,
        "transfer": 34,
    }


class Keeper:
    """Something whose repr shows what must not be shown."""

    def __repr__(self) -> str:
        return "Keeper(password='s3cret')"


def test_only_plain_values_are_fields() -> None:
    """An object that came along with an event is not written out."""
    told = written(lambda log: log.warn("a thing", thing=Keeper(), things=[Keeper()], yes=True, none=None, rate=1.5))
    assert told["fields"] == {"yes": True, "none": None, "rate": 1.5}


def test_always_json() -> None:
    """Line ends, odd characters and numbers that JSON has not do not break a line."""
    told = written(lambda log: log.error("two\nlines of {name}", name="\udcff“ü”", rate=float("nan")))
    assert told["message"] == "two\nlines of \udcff“ü”"
    assert told["fields"] == {"name": "\udcff“ü”"}


def test_a_failure() -> None:
    """A failure is told with its traceback."""
    failure = Failure(ValueError("wrong"))  # type: ignore[no-untyped-call]
    told = written(lambda log: log.failure("it broke", failure))
    assert told["level"] == "critical"
    assert "ValueError: wrong" in told["traceback"]


def test_twisteds_old_log() -> None:
    """Events of Twisted's old logging are lines as well."""
    event = {"message": ("hello",), "time": 0.0, "system": "-", "isError": 0}
    text = {"log_text": "hello", "log_format": "{log_text}", "log_time": 0.0, "log_system": "-"}
    told = json.loads(line({**event, **text}))
    assert (told["message"], told["level"], told["time"]) == ("hello", "info", "1970-01-01T00:00:00.000+00:00")
    assert told["fields"] == {}


@pytest.fixture
def usr1() -> Iterator[None]:
    """SIGUSR1 as it is when nobody has asked for it."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"nodaemon": False, "logfile": "named.log"}, "named.log"),
        ({"nodaemon": False, "logfile": None}, "twistd.log"),
        ({"nodaemon": True, "logfile": "kept.log"}, "kept.log"),
    ],
)
@pytest.mark.usefixtures("usr1")
def test_in_a_file(options: dict[str, Any], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines go to the log file that twistd was told, or, in the background, to its own; SIGUSR1 turns it over."""
    monkeypatch.chdir(tmp_path)
    file = log_file(options, lambda call: call())
    observer = json_observer(file)
    observer({"log_format": "before", "log_time": 0.0})
    signal.raise_signal(signal.SIGUSR1)
    observer({"log_format": "after", "log_time": 0.0})
    file.close()
    assert json.loads((tmp_path / f"{name}.1").read_text())["message"] == "before"
    assert json.loads((tmp_path / name).read_text())["message"] == "after"


@pytest.mark.parametrize("options", [{"nodaemon": True, "logfile": "-"}, {"nodaemon": True, "logfile": None}])
def test_in_the_foreground(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """In the foreground lines go to standard output."""
    json_observer(log_file(options, lambda call: call()))({"log_format": "hello", "log_time": 0.0})
    assert json.loads(capsys.readouterr().out)["message"] == "hello"


def test_a_line_of_another_process() -> None:
    """What another process wrote is logged here like our own, with its process id, in either form."""

    def fail(log: Logger) -> None:
        try:
            int("{braces}")
        except ValueError:
            log.failure("job {job} broke", job=7)

    told = written(fail)
    again = json.loads(line(event(told, 4711)))
    assert again == {**told, "fields": {"job": 7, "process": 4711}}
    text = formatEventAsClassicLogText(event(told, 4711))
    assert text is not None
    assert "[datamover.test#critical,4711] job 7 broke\n" in text
    assert "ValueError: invalid literal for int() with base 10: '{braces}'" in text

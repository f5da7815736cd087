"""The console for an hour, as an operator uses it: what stands on the screen, over SSH and over telnet."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unicodedata import normalize

import pytest

from datamover.security.passwords import hash_password
from tests.integration.test_console import PASSWORD, Ssh, directory, no_traceback, port, ssh
from tests.servers import postgres
from tests.servers.service import PATIENCE, Service
from tests.servers.terminal import Person

__all__ = ["directory", "no_traceback", "port", "ssh"]

pytestmark = pytest.mark.usefixtures("no_traceback")

GREETING = "datamover: help() lists what there is; Tab completes, Ctrl-D leaves."
CTRL_A, CTRL_C, CTRL_D, CTRL_E, CTRL_K, CTRL_L, CTRL_R, CTRL_U, CTRL_W = map(chr, (1, 3, 4, 5, 11, 12, 18, 21, 23))
UP, DOWN, RIGHT, LEFT, HOME, END = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[H", "\x1b[F"

Sit = Callable[..., Person]
"""Has somebody log in at a terminal."""


@pytest.fixture(scope="module")
def service(directory: Path, port: int, ssh: Ssh) -> Iterator[Service]:
    (directory / "archive").mkdir()
    (directory / "archive/a.csv").write_bytes(b"a" * 1500)
    (directory / "archive/large").write_bytes(b"a" * 3_000_000)
    tables = f"""
[database]
url = "{postgres.shared().fresh()}"
[destinations.archive]
url = "file://{directory}/archive"
description = "For keeps"
[destinations.slow]
url = "file://{directory}/slow"
bandwidth = "100kB/s"
[clients.portal]
password_hash = "{hash_password("a client's own")}"
[console]
telnet = "tcp:{port}:interface=127.0.0.1"
password_hash = "{hash_password(PASSWORD)}"
ssh = "tcp:{ssh.port}:interface=127.0.0.1"
authorized_keys_file = "{ssh.directory}/authorized"
[limits]
login_seconds = 30
"""
    service = Service(directory, tables)
    service.start_behind_a_login()
    yield service
    service.stop()


def command(ssh: Ssh, *options: str) -> list[str]:
    return [
        "ssh",
        "-F/dev/null",
        "-tt",
        f"-p{ssh.port}",
        f"-i{ssh.directory}/key",
        "-oIdentitiesOnly=yes",
        "-oIdentityAgent=none",
        "-oLogLevel=ERROR",
        "-oStrictHostKeyChecking=accept-new",
        f"-oUserKnownHostsFile={ssh.directory}/known",
        *options,
        "operator@127.0.0.1",
    ]


@pytest.fixture(params=["ssh", "telnet"])
def sit(request: pytest.FixtureRequest, service: Service, port: int, ssh: Ssh, tmp_path: Path) -> Iterator[Sit]:
    """Log in with Debian's client of either protocol, as often as is asked; ``environment`` reaches the console."""
    seated: list[Person] = []

    def come(*, environment: Mapping[str, str] = MappingProxyType({}), **keywords: Any) -> Person:
        if request.param == "ssh":
            options = [f"-oSendEnv={name}" for name in environment]
            seated.append(person := Person(command(ssh, *options), environment=environment, **keywords))
            person.prompted()
        else:
            exports = "".join(f" environ export {name}\n" for name in environment)
            (tmp_path / ".telnetrc").write_text(f"127.0.0.1\n{exports}")
            home = {"HOME": str(tmp_path), **environment}
            seated.append(person := Person(["telnet", "127.0.0.1", str(port)], environment=home, **keywords))
            person.login("operator", PASSWORD)
        person.until(lambda one: GREETING[:15] in one.text)
        return person

    yield come
    for person in seated:
        person.close()


def redrawn(before: str, person: Person) -> bool:
    """Tell whether a picture is another than the one before."""
    return person.screen.alternate and person.rows[0] != before


def job(person: Person, source: str = "archive:a.csv", to: str = "archive:b.csv", more: str = "") -> int:
    """Submit at the console; return the job's number."""
    found = re.search(r"job (\d+) is submitted", person.ask(f"submit('{source}', '{to}'{more})"))
    assert found is not None, person.text
    return int(found[1])


# The screen ---------------------------------------------------------------------------------------------------


def test_the_greeting_stays(sit: Sit) -> None:
    """The terminal tells its size, once and again, and what stands on the screen stays."""
    person = sit()
    assert GREETING in person.text
    person.ask("destinations()")
    before = person.rows
    assert "For keeps" in person.text
    person.resize(120, 40)
    time.sleep(0.3)
    person.look(0.2)
    assert person.rows == before
    person.resize(90, 30)
    time.sleep(0.3)
    person.look(0.2)
    assert person.rows == before
    assert "4" in person.ask("2 + 2")


def test_a_resize_in_the_middle_of_a_line(sit: Sit) -> None:
    """What is typed, and where the cursor is in it, outlasts a resize."""
    person = sit()
    person.type("1000 + 1" + LEFT * 4)
    person.until(lambda one: ">>> 1000 + 1" in one.rows)
    for size in ((100, 30), (40, 10), (80, 24)):
        person.resize(*size)
        person.look(0.2)
    person.until(lambda one: one.rows[-1] == ">>> 1000 + 1" and one.screen.cursor.x == 8)
    person.enter("0")
    person.until(lambda one: "10001" in one.rows)


KEPT = {
    "jobs()": ["job", "status", "files"],
    "files(1)": ["file", "status", "from"],
    "nodes()": ["active", "seen", "state"],
    "events()": ["at (UTC)", "job", "file"],
    "destinations()": ["active", "queued", "state"],
    "audit()": ["at (UTC)", "who", "action"],
    "help()": ["command", "what it does"],
}
"""The columns that a narrow screen has, too."""


@pytest.mark.parametrize("columns", [40, 80, 132])
def test_tables_fit(sit: Sit, columns: int) -> None:
    """Nothing of a table wraps: its rows are as many as its lines, and what is cut ends in an ellipsis.

    On a narrow screen columns that matter less make room for the others.
    """
    person = sit(columns=columns)
    long = "a-rather-long-directory-name/" * 3
    job(person, to=f"archive:{long}x.csv", more=f", label='{'label' * 20}'")
    for line in KEPT:
        answer = person.ask(line)
        width = max(len(row) for row in answer.split("\n"))
        assert width <= columns, answer
        assert set(KEPT[line]) <= set(re.split(" {2,}", answer.split("\n")[0])), answer
    assert "…" in person.ask("jobs(limit=1)")
    assert len(person.ask("jobs(limit=1)").strip().split("\n")) == 2


def test_a_long_line(sit: Sit) -> None:
    """A line that is longer than the screen is edited in its row, and shown whole when it is entered."""
    person = sit(columns=40)
    line = f"len('{'0123456789' * 12}')"
    person.type(line)
    person.until(lambda one: one.rows[-1].endswith("789')"))
    person.type(HOME)
    person.until(lambda one: one.rows[-1].startswith(">>> len('0123"))
    person.type(END)
    person.enter("")
    person.prompted()
    assert "120" in person.rows
    assert line in person.text.replace("\n", "")


@pytest.mark.parametrize(
    ("kind", "environment", "coloured"),
    [("xterm-256color", {}, True), ("dumb", {}, False), ("vt100", {}, False), ("xterm", {"NO_COLOR": "1"}, False)],
)
def test_colours(sit: Sit, kind: str, environment: dict[str, str], coloured: bool) -> None:
    """A status has its colour where the terminal has colours, and its user wants them."""
    person = sit(kind=kind, environment=environment)
    number = job(person, to="archive:colours/")
    person.enter(f"follow({number})")
    person.until(lambda one: "is COMPLETED" in one.text)
    person.prompted()
    before = len(person.raw)
    person.ask("jobs(limit=1)")
    assert (b"\x1b[32m" in person.raw[before:]) is coloured
    if kind == "dumb":
        assert b"\x1b" not in person.raw


# Typing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["é", "漢字", "e\u0301", "añb漢c", "😀", "ПРИВЕТ"])
def test_any_text(sit: Sit, text: str) -> None:
    """What is not ASCII arrives whole, is shown, and is edited by what one sees."""
    person = sit()
    assert person.ask(f"'{text}'") == normalize("NFC", repr(text))
    assert person.ask(f"print(ascii('{text}'))") == ascii(text)
    # The cursor steps over what one sees, and what is put before a character goes before all of it.
    seen = len(normalize("NFC", text))
    person.type(f"print(ascii('{text}'))" + LEFT * (3 + seen) + "x")
    person.until(lambda one: normalize("NFC", f">>> print(ascii('x{text}'))") in one.rows)
    person.enter("")
    person.prompted()
    assert person.rows[-2] == ascii(f"x{text}")


def test_backspace_takes_what_one_sees(sit: Sit) -> None:
    """A character goes with what combines with it, and a wide one leaves no half."""
    person = sit()
    person.enter("len('e\u0301漢\x7f\x7f')")
    person.prompted()
    assert person.rows[-2] == "0"
    assert person.rows[-3] == ">>> len('')"


def test_bytes_that_are_no_text(sit: Sit) -> None:
    """A terminal that sends Latin-1 is told so; nothing of the line runs."""
    person = sit()
    person.press(b"len('\xe9')\r")
    person.until(lambda one: "have your terminal send UTF-8; nothing of it was run" in one.words)
    person.prompted()


def test_a_line_without_end(sit: Sit) -> None:
    """A line that is too long is refused as a whole."""
    person = sit()
    person.type("1" + " + 1" * 3000)
    person.enter("")
    person.until(lambda one: "the line is longer than 8192 characters; nothing of it was run" in one.words)
    person.prompted()


def test_editing(sit: Sit) -> None:
    """Arrows, Home, End and the keys of a shell do what they do there."""
    person = sit()
    for typed, expected in [
        ("12" + LEFT + "9", "192"),
        ("23" + HOME + "1" + END + "4", "1234"),
        ("23" + CTRL_A + "1" + CTRL_E + "4", "1234"),
        ("\x1b[1~5" + "\x1b[4~6\x1bOH4\x1bOF7", "4567"),
        ("nonsense" + CTRL_U + "77", "77"),
        ("78 + nonsense" + CTRL_W + "1", "79"),
        ("80, nonsense" + CTRL_A + RIGHT * 2 + CTRL_K, "80"),
        ("123" + LEFT + "\x1b[3~", "12"),
        ("12" + LEFT + CTRL_D, "1"),
        ("5 + 6" + CTRL_W * 2 + CTRL_U + "90", "90"),
        ("'a b'" + CTRL_L, "'a b'"),
    ]:
        person.enter(typed)
        person.prompted()
        assert person.rows[-2] == expected, typed
    assert GREETING not in person.text  # Ctrl-L has cleared the screen, and nothing else does.


def test_history(sit: Sit, service: Service, directory: Path) -> None:
    """What was typed comes back by Up and Ctrl-R, in the next session too; secrets and what never ran do not."""
    person = sit()
    for line in ("111 + 1", "222 + 2", "hunter2", "hunter3 (", "'https://h/?sig=topsecret'", " 'left out'"):
        person.enter(line)
        person.look(0.3)
        person.type(CTRL_C)
        person.prompted()
    person.type(UP * 2 + DOWN)
    person.until(lambda one: "left out" in one.rows[-1])
    person.type(CTRL_C)
    person.enter("quit")
    person.ended()
    file = directory / "data/console_history/operator"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    kept = file.read_text()
    assert "222 + 2\n" in kept
    for secret in ("hunter", "topsecret", "left out"):
        assert secret not in kept
    again = sit()
    again.type(UP)
    again.until(lambda one: one.rows[-1] == ">>> quit")
    again.type(UP)
    again.until(lambda one: one.rows[-1] == ">>> 222 + 2")
    again.type(CTRL_C + CTRL_R + "11")
    again.until(lambda one: one.rows[-1] == "(search '11'): 111 + 1")
    again.type("9\x7f")
    again.enter("")
    again.prompted()
    assert again.rows[-2] == "112"
    again.type("half" + CTRL_R + "222" + CTRL_C)
    again.until(lambda one: one.rows[-1] == ">>> half")
    again.type(CTRL_C)
    again.prompted()


def test_completion(sit: Sit) -> None:
    """Tab completes names, jobs, destinations, statuses and arguments, inside quotes too."""
    person = sit()
    job(person)
    number = job(person)
    for typed, expected in [
        ("desti\t", ">>> destinations("),
        ("hold('arc\t", ">>> hold('archive'"),
        ("hold(\t", ">>> hold('"),
        ('hold("sl\t', '>>> hold("slow"'),
        ("jobs('FAI\t", ">>> jobs('FAILED'"),
        ("jobs(dest\t", ">>> jobs(destination="),
        ("jobs(destination='ar\t", ">>> jobs(destination='archive'"),
        ("submit('archive:a.csv', 'sl\t", ">>> submit('archive:a.csv', 'slow:"),
        ("help(expl\t", ">>> help(explain"),
        ("config('lim\t", ">>> config('limits'"),
        ("''.upp\t", ">>> ''.upp"),
        ("isins\t", ">>> isinstance"),
    ]:
        person.type(typed)
        person.until(lambda one, expected=expected: one.rows[-1].startswith(expected), typed)  # type: ignore[misc]
        person.type(CTRL_C)
        person.prompted()
    person.type("cancel(\t\t")
    person.until(lambda one: re.search(rf"^{number} ", one.text, re.MULTILINE) and one.rows[-1] == ">>> cancel(")
    person.type(CTRL_C)
    person.prompted()
    person.type("re\t\t")
    person.until(lambda one: re.search(r"retry\( +renotify\(|resume\(", one.text) and one.rows[-1] == ">>> re")
    person.type(CTRL_C)
    person.prompted()


# Leaving ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["exit()", "quit()", "exit", "quit", "raise SystemExit", CTRL_D])
def test_leaving(sit: Sit, way: str) -> None:
    """Each of the ways out ends the session, with status 0, and clears nothing."""
    person = sit()
    person.ask("2 + 2")
    before = person.rows
    if way == CTRL_D:
        person.type(way)
    else:
        person.enter(way)
    person.ended()
    assert person.rows[: len(before) - 1] == before[:-1]
    assert person.status == 0


def test_ctrl_c(sit: Sit) -> None:
    """Ctrl-C drops the line, and what was begun of several, and the next line runs."""
    person = sit()
    person.type("cancel(1" + CTRL_C)
    person.until(lambda one: one.rows[-2:] == [">>> cancel(1^C", ">>>"])
    person.enter("jobs(")
    person.until(lambda one: one.rows[-1] == "...")
    person.type(CTRL_C)
    person.prompted()
    assert "4" in person.ask("2 + 2")
    person.enter("from twisted.internet.defer import Deferred; Deferred()")
    person.look(0.3)
    person.type("3 + 4\r")  # It waits for what is running; Ctrl-C forgets it.
    person.look(0.2)
    person.type(CTRL_C)
    person.prompted()
    assert "\n7\n" not in person.text


def test_typed_ahead(sit: Sit) -> None:
    """Lines that are pasted run one after the other, each with its answer before the next."""
    person = sit()
    person.type("jobs(limit=1)\r40 + 2\rnodes()\r")
    person.until(lambda one: "seen" in one.text)
    person.prompted()
    text = person.text
    assert text.index("jobs(limit=1)") < text.index("\n42") < text.index("seen")
    assert text.count("\n>>>\n") == 0


def test_many_lines_at_once(sit: Sit) -> None:
    """However many lines wait for one that runs, each is run after it."""
    person = sit()
    person.type("jobs(limit=1)\r" + "".join(f"{number}\r" for number in range(600)))
    person.until(lambda one: "599" in one.rows)
    person.prompted()


def test_completion_writes_nothing_that_does_not_print(sit: Sit, service: Service) -> None:
    """A label that a client made to move the cursor is not offered."""
    person = sit()
    job(person, more=r", label='evil\x1b[2Jevil'")
    job(person, more=", label='evident'")
    before = len(person.raw)
    person.type("jobs(label='evi\t")
    person.until(lambda one: one.rows[-1] == ">>> jobs(label='evident'")
    assert b"\x1b[2J" not in person.raw[before:]


# Commands -----------------------------------------------------------------------------------------------------

WRONG = {
    "cancel('x')": "cancel: number is 'x': expected a job's number, such as 12",
    "cancel()": "cancel needs number, a job's number, such as 12: call it as cancel(12)",
    "cancel(1, 2)": "cancel takes 1 argument, and 2 are given",
    "cancel(10**5000)": "cancel: number is a very large number: expected a job's number",
    "jobs(label='\\ud800')": "it holds characters that are no text",
    "jobs(label='a\\0')": "it holds characters that are no text",
    "submit({'source': '\\ud800'})": "it holds characters that are no text",
    "submit({'source': jobs})": "it holds what a request cannot have",
    "submit(12, 'archive:x')": "expected a URL or",
    "cancel(12.5)": "expected a job's number",
    "cancel(True)": "expected a job's number",
    "cancel(0)": "expected a job's number",
    "cancel(99999)": "there is no job 99999; jobs() lists those there are",
    "job(99999)": "there is no job 99999",
    "follow(99999)": "there is no job 99999",
    "events(99999)": "there is no job 99999",
    "cancel(jobs)": "cancel: number is the command jobs: expected a job's number",
    "cancel(x)": "there is no name x: Text is written in quotes, 'x'",
    "cancel 12": "cancel: that cannot be read: call it as cancel(12)",
    "jobs('WRONG')": "expected a status in quotes: PENDING",
    "jobs(lable='x')": "jobs has no argument lable (did you mean label?)",
    "jobs('FAILED', status='FAILED')": "jobs is given status twice",
    "jobs(limit=0)": "expected a whole number from 1 to 1000",
    "jobs(since='soon')": "expected how long ago, such as '2h'",
    "jbos()": "there is no name jbos: did you mean jobs?",
    "top(1)": "top takes no arguments, and 1 is given",
    "hold('archive', ' ')": "hold: reason is ' ': expected the reason in quotes; call it as",
    "config('destination')": 'tls, transfers; did you mean "destinations"? Call it as config()',
    "jobs('FAILD')": 'did you mean "FAILED"? Call it as jobs()',
    "hold('archive')": "hold needs reason",
    "hold('moon', 'x')": "destination 'moon' is not registered; destinations() lists those there are",
    "test('moon')": "destination 'moon' is not registered",
    "drain('moon')": "no process is called 'moon'",
    "log('loud')": "expected a level in quotes: debug, info",
    "config('limts')": "expected one of",
    "submit('https://h/a.csv')": "to says where the file goes",
    "submit('ftp://h/a', 'archive:a')": "source:",
    "help('nothing')": "help() lists the commands",
    "audit(logins=1)": "expected True or False",
    "jobs": "jobs is a command: call it as jobs() or",
    "cancel": "cancel is a command: call it as cancel(12); help(cancel) tells more",
}


@pytest.mark.parametrize("line", list(WRONG))
def test_wrong_use(service: Service, ssh: Ssh, line: str) -> None:
    """What is wrong is a sentence that says what to do, on standard error, with status 1; never a traceback."""
    done = ssh.run("-oLogLevel=ERROR", line)
    assert (done.returncode, done.stdout) == (1, "")
    assert WRONG[line] in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_wrong_use_at_the_prompt(sit: Sit) -> None:
    """There is one prompt after each answer, right or wrong."""
    person = sit()
    for line in ("cancel('x')", "jobs", "job(99999)", "1 +", "2 + 2", ""):
        person.enter(line)
        person.prompted()
    shown = [row for row in person.whole.split("\n") if row.startswith(">>>")]
    assert shown == [">>> cancel('x')", ">>> jobs", ">>> job(99999)", ">>> 1 +", ">>> 2 + 2", ">>>", ">>>"]


def test_every_command_says_how_it_is_called(service: Service, ssh: Ssh) -> None:
    """help() lists each in one line; help(name) gives arguments and an example; its bare name says how to call it."""
    listed = ssh.run("help()").stdout
    names = set(re.findall(r"^([a-z]+)\(", listed, re.MULTILINE))
    assert names >= {"jobs", "job", "files", "events", "explain", "transfers", "destinations", "test", "top", "follow"}
    assert names >= {"nodes", "service", "config", "log", "audit", "submit", "cancel", "pause", "resume", "retry"}
    assert names >= {"renotify", "hold", "release", "drain", "undrain", "reload", "help", "exit", "quit"}
    told = ssh.run("help(jobs)").stdout
    assert told.startswith("jobs(status=None, *, owner=None")
    assert "  since: how long ago" in told
    assert "examples: jobs(), jobs('FAILED', since='2h')" in told
    assert ssh.run("help('jobs')").stdout == told
    for name in sorted(names - {"help", "exit", "quit"}):
        bare = ssh.run(name)
        assert f"{name} is a command: call it as {name}(" in bare.stderr


def test_top(sit: Sit, directory: Path) -> None:
    """What moves is redrawn; q ends it, Ctrl-C as well, and what stood on the screen is back, with one prompt."""
    person = sit()
    number = job(person, "archive:large", f"slow:top-{time.time()}")
    person.ask("2 + 2")
    before = person.rows
    for key in ("q", CTRL_C):
        person.enter("top()")
        person.until(lambda one: one.screen.alternate and "slow:t" in one.text, "a picture")
        person.until(partial(redrawn, person.rows[0]), "the next one")
        assert re.match(r"\d\d:\d\d:\d\d UTC: \d+ transfers? ", person.rows[0])
        assert person.rows[1] == "q or Ctrl-C ends this"
        person.resize(100, 20)
        person.look(0.3)
        person.resize(80, 24)
        person.type(key)
        person.until(lambda one: not one.screen.alternate, "the end")
        person.prompted()
        assert person.rows[: len(before) - 1] == before[:-1]
    assert "2 + 2" in person.text
    told = person.ask(f"explain({number})")
    assert "Destination slow has bandwidth = 100 kB/s" in told
    person.enter(f"cancel({number})")
    told = f"job {number} is being cancelled; follow({number}) shows when its files have stopped"
    person.until(lambda one: told in one.words, "what becomes of it")


def test_follow(sit: Sit) -> None:
    """Events come as they happen, until the job ends; q leaves it before."""
    person = sit()
    number = job(person, to=f"archive:follow-{time.time()}")
    person.enter(f"follow({number})")
    person.until(lambda one: f"job {number} is COMPLETED, 1 of 1 file in place" in one.text)
    person.prompted()
    assert "submitted" in person.text
    assert person.text.count("completed") >= 1
    slow = job(person, "archive:large", f"slow:follow-{time.time()}")
    person.enter(f"follow({slow})")
    person.until(lambda one: f"following job {slow}" in one.text)
    person.type("q")
    person.prompted()
    person.enter(f"follow({slow})")
    person.until(lambda one: one.text.count(f"following job {slow}") == 2)
    person.type(CTRL_C)
    person.prompted()
    person.ask(f"cancel({slow})")


def test_looking(service: Service, ssh: Ssh, directory: Path) -> None:
    """Every command that looks tells what is true of the live service."""

    def ask(line: str) -> str:
        done = ssh.run("-oLogLevel=ERROR", line)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    number = int(re.findall(r"\d+", ask("submit('archive:a.csv', 'archive:look/', label='mine')"))[0])
    assert "is COMPLETED, 1 of 1 file in place" in ask(f"follow({number})")
    assert (directory / "archive/look/a.csv").read_bytes() == b"a" * 1500
    assert re.search(rf"{number} +COMPLETED +operator +1/1 +100 +1\.5 kB", ask("jobs()"))
    one = ask("jobs('completed', owner='operator', label='mine', destination='archive', since='1h', limit=1)")
    assert one.splitlines()[1].split()[0] == str(number)
    for nobody, told in {
        "owner='nobody'": "of owner 'nobody'",
        "label='none'": "labelled 'none'",
        "destination='slow', label='mine'": "labelled 'mine' for destination 'slow'",
        "label='none', since='2020-01-01'": "labelled 'none' since 2020-01-01 00:00:00 UTC",
        "until='2020-02-01 13:00+01:00'": "until 2020-02-01 12:00:00 UTC",
    }.items():
        assert ask(f"jobs({nobody})") == f"there is no job {told}\n"
    assert ask("jobs('PARTIAL', owner='operator')") == "there is no PARTIAL job of owner 'operator'\n"
    assert re.match(r"there is no job until 2\d{3}-\d\d-\d\d ..:..:.. UTC$", ask("jobs(until='1h')"))
    assert ask(f"files({number}, 'failed')") == f"job {number} has no FAILED file\n"
    assert re.search(r"1\.5 kB +1\.5 kB", ask(f"files({number})"))
    assert re.search(rf"{number} +0? +\w+", ask("events()"))
    assert "submitted" in ask(f"events({number})")
    assert re.search(r"api, engine +\d+ +\d+ s ago +open", ask("nodes()"))
    told = ask("service()")
    assert "ready" in told
    assert "log level: info" in told
    tried = ask("test('archive')")
    assert re.search(r"replace +ok", tried)
    assert "archive does what a transfer needs" in tried
    assert "slow" in ask("destinations()")
    assert ask("transfers()") == "no transfer moves at this moment\n"
    assert ask("top()").count("transfers at") == 1
    assert "Ctrl-C" not in ask("top()")


def test_the_configuration(service: Service, ssh: Ssh) -> None:
    """What is in force is shown, defaults too, and no secret of it."""
    told = ssh.run("config()").stdout
    assert "[destinations.slow]" in told
    assert "bandwidth = 100000" in told
    assert 'file_mode = "0644"' in told
    assert "queued = 1000000" in told
    assert "password_hash = (withheld)" in told
    assert "$" not in told
    assert "authorized_keys_file" in told
    limits = ssh.run("config('limits')").stdout
    assert limits.startswith("[limits]\n")
    assert "login_seconds = 30" in limits
    assert "destinations" not in limits


def test_the_log_level(service: Service, ssh: Ssh) -> None:
    """It is told, changed while the service runs, and recorded."""
    assert "from level info on" in ssh.run("log()").stdout
    try:
        assert ssh.run("log('critical')").stdout == "the log has lines from level critical on, until the next start\n"
        before = len(service.log.read_text())
        ssh.run("2 + 2")
        assert service.log.read_text()[before:] == ""
    finally:
        assert ssh.run("log('info')").returncode == 0
    ssh.run("3 + 3")
    deadline = time.monotonic() + PATIENCE
    while "console 3 + 3: ok" not in service.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert re.search(r"service\.log +critical +ok", ssh.run("audit()").stdout)


def test_the_trail(service: Service, ssh: Ssh) -> None:
    """Logins are left out unless they are asked for; changes are there."""
    ssh.run("hold('archive', 'a while')")
    ssh.run("release('archive')")
    told = ssh.run("audit(100)").stdout
    assert re.search(r"destinations\.hold +archive a while +ok", told)
    assert not re.search(r" login +", told)
    assert re.search(r" login +", ssh.run("audit(100, logins=True)").stdout)


def test_a_submission_is_recorded(service: Service, ssh: Ssh) -> None:
    """What is submitted, or refused, at the console is in the trail; the same request_id makes one job."""
    first = ssh.run("submit('archive:a.csv', 'archive:twice/', request_id='once')").stdout
    number = int(re.findall(r"\d+", first)[0])
    again = ssh.run("submit('archive:a.csv', 'archive:twice/', request_id='once')").stdout
    assert f"job {number} was made for this request_id before" in again
    by_hand = "submit({'source': {'destination': 'archive', 'path': 'a.csv'}, 'destination': 'archive', 'path': 'd'})"
    assert "is submitted" in ssh.run(by_hand).stdout
    assert "'moon' is not a registered destination" in ssh.run("submit('archive:a.csv', 'moon:x')").stderr
    told = ssh.run("audit(100)").stdout
    assert re.search(r"jobs\.submit +archive:a\.csv archive:twice/ +ok", told)
    assert re.search(r"jobs\.submit +archive:a\.csv moon:x +UNKNOWN_DESTINATION", told)


def test_output_is_bounded(service: Service, ssh: Ssh) -> None:
    """No answer is larger than a megabyte."""
    done = ssh.run("'x' * 10_000_000")
    assert len(done.stdout) < 1_100_000
    assert "more characters" in done.stdout


def test_a_line_with_a_terminal(service: Service, ssh: Ssh) -> None:
    """One line with a terminal has its width; Ctrl-C ends what goes on."""
    person = Person([*command(ssh), "help()"], columns=60)
    try:
        person.ended()
        assert person.status == 0
        assert max(map(len, person.whole.split("\n"))) <= 60
        assert "jobs()" in person.whole
    finally:
        person.close()
    waiting = Person([*command(ssh), "__import__('twisted.internet.defer').internet.defer.Deferred()"])
    try:
        time.sleep(1)
        waiting.type(CTRL_C)
        waiting.ended()
        assert waiting.status == 130
    finally:
        waiting.close()

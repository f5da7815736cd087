"""The fixed bounds stand in one package, each is described and used, and docs/security.md tells their values."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from twisted.internet.abstract import FileDescriptor

from datamover.bounds import calls, console, door, servers, work
from datamover.config.schema import DatabaseSection, Limits

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "datamover/bounds"
TREES = {file: ast.parse(file.read_text()) for file in PACKAGE.glob("*.py")}
LIMITS = Limits()

BOUND = re.compile(r"_?(LONGEST|LARGEST|MOST|DEEPEST)(_\w+)?")
ELSEWHERE = {
    "what a name may have on disks, in URLs, and at others' services": {
        "datamover.datasets.ala.species: LARGEST_BATCH",
        "datamover.postgres.embedded.cluster: _LONGEST_SOCKET",
        "datamover.protocols.dav.refusals: LONGEST",
        "datamover.protocols.ftp.refusals: _LONGEST",
        "datamover.protocols.s3.address: LONGEST_KEY",
        "datamover.protocols.swift.large_objects: MOST_ENTRIES",
        "datamover.protocols.swift.limits: LARGEST",
        "datamover.protocols.swift.limits: LONGEST_NAME",
        "datamover.protocols.swift.urls: LONGEST_CONTAINER",
        "datamover.web.amounts: MOST_TOGETHER",
        "datamover.web.file_names: LONGEST_EXTENSION",
        "datamover.web.paths: LONGEST_NAME",
        "datamover.web.url: _LONGEST_HOST",
    },
    "what a message quotes": {
        "datamover.config.types: _LONGEST_SHOWN",
        "datamover.datasets.ala.lsid: _LONGEST_SHOWN",
        "datamover.datasets.cleaning.headers: LONGEST_SHOWN",
        "datamover.datasets.cleaning.headers: MOST_SHOWN",
        "datamover.protocols.http.cookies: _MOST_TOLD",
    },
    "what an operator gives": {
        "datamover.app.arguments: LONGEST",
        "datamover.config.units: _LARGEST",
        "datamover.config.units: _LONGEST",
        "datamover.protocols.tls.files: LARGEST",
        "datamover.web.policy: _MOST_DECODINGS",
    },
    "tuning": {
        "datamover.datasets.ala.offline: LONGEST_INTERVAL",
        "datamover.jobs.figures: MOST",
        "datamover.jobs.upkeep.quarantine: LONGEST",
        "datamover.jobs.upkeep.slices: MOST",
        "datamover.protocols.ftp.client.sessions: MOST",
        "datamover.protocols.ftp.names: MOST",
        "datamover.protocols.http.segments: LONGEST",
        "datamover.protocols.sftp.client.session: _LARGEST_READ",
        "datamover.protocols.sftp.client.session: _LARGEST_WRITE",
        "datamover.protocols.sftp.client.window: MOST",
    },
}
"""Constants with the name of a bound which are none of what is sent, held or waited for, by what they are instead."""


def constants(tree: ast.Module) -> list[tuple[str, bool]]:
    """Return the constants of a module, and of each whether a docstring follows."""
    found = []
    for statement, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            described = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            for target in targets:
                for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                    if isinstance(name, ast.Name) and name.id.isupper():
                        found.append((name.id, described))
    return found


def module(file: Path) -> str:
    return ".".join(file.relative_to(CHECKOUT).with_suffix("").parts)


def test_every_bound_is_described() -> None:
    """Each constant has a docstring of its own."""
    bare = [f"{module(file)}: {name}" for file, tree in TREES.items() for name, said in constants(tree) if not said]
    assert bare == []


def test_every_bound_has_a_name_of_its_own() -> None:
    """No two bounds have the same name, and each name has at least two words."""
    names = Counter(name for tree in TREES.values() for name, _ in constants(tree))
    assert len(names) > 100
    assert [name for name, times in names.items() if times > 1 or "_" not in name] == []


def test_every_bound_is_used() -> None:
    """No bound is left over that nothing checks."""
    files = set((CHECKOUT / "datamover").rglob("*.py")) - set(TREES)
    used = {
        (node.module, alias.name)
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("datamover.bounds")
        for alias in node.names
    }
    there = {(module(file), name) for file, tree in TREES.items() for name, _ in constants(tree)}
    assert there - used == set()


def test_bounds_stand_here() -> None:
    """No other module has a constant with the name of a bound, except for those that are none."""
    there = {
        f"{module(file)}: {name}"
        for file in set((CHECKOUT / "datamover").rglob("*.py")) - set(TREES)
        for name, _ in constants(ast.parse(file.read_text()))
        if BOUND.fullmatch(name)
    }
    assert there == set().union(*ELSEWHERE.values())


def size(number: int) -> str:
    """Return bytes as the page writes them."""
    for unit, width in (("MiB", 2**20), ("KiB", 2**10)):
        if number % width == 0:
            return f"{number // width} {unit}"
    return f"{number:,} bytes"


def seconds(number: float) -> str:
    return f"{number:g} s" if number >= 1 else f"{1000 * number:g} ms"


IN_WORDS = {1: "one", 2: "two"}
FIRST = {
    "a request's first line": size(door.LONGEST_FIRST_LINE),
    "its first line and headers": (
        f"{size(door.LARGEST_REQUEST_HEAD)}, {door.MOST_HEADERS} headers, {seconds(door.HEAD_SECONDS)}"
    ),
    "a body": f"`request_size`, {size(LIMITS.request_size)}",
    "a body before its login is checked": size(door.SMALL_BODY),
    "a body's pace": (
        f"{seconds(door.BODY_SILENCE)} of silence; "
        f"{door.SLOWEST_BODY // 1000} kB/s in every {seconds(door.BODY_WINDOW)}"
    ),
    "a body that is thrown away for want of a login": seconds(door.DISCARDED_BODY_SECONDS),
    f"room for bodies over {size(door.SMALL_BODY)}": f"{calls.LARGEST_BODIES_HELD} times `request_size`; half",
    f"bodies over {size(calls.SMALL_PARSED_BODY)} that are parsed": (
        f"{calls.LARGE_BODIES_AT_ONCE} at once, one of each client"
    ),
    "work of one iteration of the event loop": (
        f"{seconds(door.TURN_SECONDS)}, and the piece that was begun; for one connection one request, "
        f"{size(door.BODY_PIECE)} of a body, or {door.CHUNK_STEPS_IN_TURN} steps of its chunks"
    ),
    "received bytes of a TLS connection that are decrypted": (
        f"{size(door.TLS_PIECE)} at once, for {seconds(door.WORK_IN_TURN)} in one iteration"
    ),
    "work for one long call": f"{seconds(calls.WORK_AT_ONCE)} at once, then {seconds(door.WORK_IN_TURN)} a turn",
    "bytes of a connection that wait for a turn": f"{size(door.MOST_BYTES_AHEAD)}, and what one read brings",
    "answers that the client does not read": f"{size(FileDescriptor.bufferSize)} and the last one",
    "connections": (
        f"`connections`, {LIMITS.connections}, and {door.RESERVED_CONNECTIONS} from this machine; "
        f"`connections_per_address`, {LIMITS.connections_per_address}; half"
    ),
    "idle connections": seconds(door.IDLE_SECONDS),
    "calls whose client has closed its half of the connection": seconds(door.CLOSED_CALL_SECONDS),
    "logins that are checked": f"{door.LOGINS_AT_ONCE} at once; one of an address",
    "logins that wait": (
        f"{door.WAITING_LOGINS}; {door.WAITING_LOGINS_OF_ONE} of an address; "
        f"`login_seconds`, {seconds(LIMITS.login_seconds)}"
    ),
    "calls of `jobs.wait` and `jobs.events`": f"`waiting_calls`, {LIMITS.waiting_calls:,}; half",
    "database reads for all of these": (
        f"one in {seconds(calls.WAITING_POLL_SOON)}, or { {1.0: 'once a second'}[calls.WAITING_POLL] }; "
        f"{IN_WORDS[calls.WAITING_READS]} at once, one for each client"
    ),
    "what comes to the console before a login": (
        f"{size(console.BYTES_BEFORE_LOGIN)}; "
        f"{size(console.PIECE_READ)} of a connection in one iteration of the event loop"
    ),
    "what comes to the console after a login": (
        f"{seconds(console.READING_IN_TURN)} in one iteration of the event loop, "
        f"and the {size(console.PIECE_READ)} or the key that was begun"
    ),
    "a key that is offered to the console": size(console.LARGEST_OFFERED_KEY),
    "packets of an SSH client at the console, by what it says that it takes": (
        f"{size(console.SMALLEST_SSH_PACKET)} at least"
    ),
    "sessions of one SSH connection to the console": (
        f"{console.MOST_SESSIONS}; of the client's environment {console.MOST_VARIABLES} variables of "
        f"{size(console.LONGEST_VARIABLE)}"
    ),
    "what a session of the console shows and its terminal does not read": size(console.MOST_UNREAD_OUTPUT),
    "messages of an SSH server": (
        f"{servers.SSH_PACKETS_IN_TURN} in one iteration of the event loop; {size(servers.LARGEST_SSH_PACKET)} each; "
        f"{size(servers.LARGEST_SFTP_ANSWER)} an answer of SFTP"
    ),
    "archives that are made": f"{work.ARCHIVES_AT_ONCE} in a process; half",
    "datasets that are cleaned, each in a process of its own": f"{work.DATASETS_AT_ONCE}; half",
    "notices that are sent": (
        f"{work.NOTICES_AT_ONCE} of a process; half; {work.NOTICES_PER_HOST} to one host and port"
    ),
    "calls of `jobs.check`": f"`checks`, {LIMITS.checks}; half",
    "calls that change jobs (`jobs.pause` and so on), which leave events and lines in the audit trail": (
        f"`changes`, {LIMITS.changes:,} of a client in an hour, in each process"
    ),
    "files that are submitted": f"`submitted`, {LIMITS.submitted:,} of a client in an hour, in each process",
    "refused calls and logins in the audit trail": (
        f"{work.REFUSALS_STORED} { {60.0: 'a minute'}[work.REFUSALS_WINDOW] } for each action and address"
    ),
    "other calls that read or change jobs, until their answer is written": (
        f"half of `[database] connections`, {DatabaseSection().connections}; half"
    ),
    f"answers over {size(calls.SMALL_ANSWER)} that are made or not read yet": (
        f"{calls.LARGEST_BODIES_HELD} times `answer_size`; half"
    ),
}
"""What the first table says of each bound."""
PIECE = size(calls.BODY_SLICE)
SECOND = {
    "a text in a call": f"{calls.LONGEST_VALUE // 1024} Ki characters",
    "elements of a call": (
        f"{calls.MOST_ELEMENTS:,} where it names files, else {calls.FEW_ELEMENTS:,}; "
        f"{calls.DENSEST_ELEMENTS:,} in {PIECE}; of arrays and structs that hold others {calls.FREE_NESTING:,}, "
        f"and {calls.MOST_NESTING} more for each {PIECE}; arrays of `[limits] files` structs, or of "
        f"{calls.MOST_SOURCES:,} other values; structs of {calls.MOST_MEMBERS} members; "
        f"{calls.DEEPEST_NESTING} levels; names of {calls.LONGEST_KEY} characters, tags of {size(calls.LONGEST_TAG)}"
    ),
    "comments, CDATA sections, attributes, unknown elements": f"{calls.MOST_ODD_MARKUP:,} in {PIECE}",
    "sources of one `move`": f"{calls.MOST_SOURCES:,}",
    "a URL: of a source, of `notify`, of `move`": f"`[limits] url`, {size(LIMITS.url)}",
    "`label`, `request_id`, the reason of a hold, a checksum, a path": (
        f"{calls.LONGEST_LABEL}, {calls.LONGEST_REQUEST_ID}, {calls.LONGEST_REASON}, {calls.LONGEST_CHECKSUM} "
        f"characters, {calls.LONGEST_PATH:,} bytes"
    ),
    "any other parameter that is text": f"{calls.LONGEST_PARAMETER:,} characters",
    "an error's message, in answers, rows, events and the log": (
        f"{calls.LONGEST_MESSAGE:,} characters; a value in it {calls.LONGEST_QUOTED}, a URL {calls.LONGEST_QUOTED_URL}"
    ),
    "a call in the audit trail": f"{calls.LONGEST_SUBJECT} characters",
    "an answer, also that of a whole multicall": f"`[limits] answer_size`, {size(LIMITS.answer_size)}",
    "inspections by `jobs.check` and `destinations.test`": (
        f"{calls.INSPECTIONS_AT_ONCE} for one client at a time, in each process; `per_source_host` for one source host"
    ),
}
"""What the second table says of each bound."""
BEYOND = {
    "a body": f"Fault 1013; { {2: 'twice as much'}[door.DRAINED_TIMES] }: the connection ends",
    "bytes of a connection that wait for a turn": f"every {seconds(door.CLOSED_LOOK_SECONDS)} the service checks",
    "answers that the client does not read": f"after {seconds(door.IDLE_SECONDS)} the connection ends",
}
"""What the first table says of what exceeds a bound, where that is a bound too."""


def told() -> dict[str, list[str]]:
    """Return the further cells of each row of the page's tables of bounds, by the first one."""
    text = (CHECKOUT / "docs/security.md").read_text().partition("\n## Bounds\n")[2].partition("\n## ")[0]
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    found = {cells[0]: [cell.strip() for cell in cells[1:]] for cells in table}
    assert len(found) > 40
    return found


@pytest.mark.parametrize(("bound", "text"), [*FIRST.items(), *SECOND.items()])
def test_the_page_tells_the_bounds(bound: str, text: str) -> None:
    """A row says of a bound what its constant is, or the default of its key in ``[limits]``."""
    assert told()[bound][0] == text


def test_the_page_tells_what_follows() -> None:
    """So does the cell that says what happens beyond a bound."""
    assert {bound: text for bound, text in BEYOND.items() if text not in told()[bound][1]} == {}


def test_no_number_is_told_unchecked() -> None:
    """A new row with a number is compared too."""
    numbers = {bound for bound, cells in told().items() if re.search(r"\d", cells[0])}
    assert numbers - set(FIRST) - set(SECOND) == set()

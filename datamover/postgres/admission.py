"""What a PostgreSQL that is there says when it lets nobody in: told as that, with what mends it.

libpq gives no code for what ends a connection that is being made, only the text: the server's, in the server's
language. What is not known here is repeated as the server says it. Messages: PostgreSQL's src/backend/libpq/auth.c and
src/backend/utils/init/postinit.c, libpq's fe-auth.c and fe-connect.c; PgBouncer's src/client.c.
"""

import getpass
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from datamover.errors import Unavailable

INIT_DB = "`datamover-admin init-db --admin-url …`"


class AccessRefused(Unavailable):
    """The database is there, and does not let us in, or not do what we must; trying again helps once that is mended."""


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """Who asked to be let in, and where."""

    role: str
    database: str
    host: str
    """Or the directory of a socket."""

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> "LoginAttempt":
        """Return who asks, and where, by what libpq is told."""
        role = parameters.get("user") or getpass.getuser()
        host = parameters.get("host") or parameters.get("hostaddr") or "its local socket"
        return cls(role, parameters.get("dbname") or role, host)


_TRANSIENT = re.compile(
    r"the database system is|too many clients|remaining connection slots|terminating connection|the database is away"
    r"|(?:session|server) is (?:not )?(?:read-only|in hot standby)|server conn crashed|pgbouncer cannot connect"
    r"|query_wait_timeout|no more connections allowed|client_login_timeout",
    re.IGNORECASE,
)
"""What a server says that does not work now, and may soon."""
_BY_HOST = re.compile(r"(?<=\n)(?=connection to server )")
_HOST = re.compile(r'connection to server at "([^"]+)"')
_WHERE = re.compile(r"connection to server .*? failed: ", re.DOTALL)
"""What libpq begins with."""
_SEVERITY = re.compile(r"[^\s:]+:  ")
"""What comes before the server's own words, in whatever language."""
_FROM = re.compile(r'for host "([^"]+)"')

_KINDS: tuple[tuple[str, str, str], ...] = (
    (
        r"no password supplied|empty password returned",
        "asks role {role!r} for a password, and there is none",
        "put it into a file and name that in database.password_file",
    ),
    (
        r"password authentication failed|SASL authentication failed|no such user|server login failed",
        "does not take the password of role {role!r}, or has no such role",
        "put the right one into the file that database.password_file names, or have {init} give the role the one that "
        "is there",
    ),
    (
        r'^role "[^"]*" does not exist',
        "has no role {role!r}",
        "have {init} make it, or name another user in database.url",
    ),
    (
        r"is not permitted to log in",
        "does not let role {role!r} log in",
        "have {init} allow it, or run ALTER ROLE … LOGIN there",
    ),
    (
        r"no pg_hba.conf entry|pg_hba.conf rejects",
        "does not let role {role!r} into database {database!r} from this machine",
        "add a line to its pg_hba.conf that allows it, such as `{line}`, and reload it",
    ),
    (
        r'^database "[^"]*" does not exist|no such database',
        "has no database {database!r}",
        "have {init} make it, or name another in database.url",
    ),
    (
        r"permission denied for database",
        "does not let role {role!r} connect to database {database!r}",
        "have {init} allow it, or run GRANT CONNECT ON DATABASE … there",
    ),
    (
        r"is not currently accepting connections",
        "lets nobody into database {database!r}",
        "have {init} allow it, or run ALTER DATABASE … ALLOW_CONNECTIONS true there",
    ),
    (
        r"too many connections for (?:role|database)",
        "gives role {role!r}, or database {database!r}, no further connection",
        "raise its CONNECTION LIMIT, or lower database.connections",
    ),
    (
        r"(?:Peer|Ident) authentication failed",
        "lets in by the name of the system's user, which is not that of role {role!r}",
        "run datamover as the user of that name, map the two in its pg_ident.conf, or have its pg_hba.conf ask for a "
        "password",
    ),
    (
        r"does not support SSL|SSL was required|certificate|SSL error|could not (?:read|load)",
        "cannot be reached in the way that sslmode and the files in database.url ask for",
        "mend those, or the server's certificate",
    ),
)
"""What the text is recognised by, what it means, and the way out."""
_ELSE = ("refuses role {role!r}", "see there, or its log, why")
_NO_RIGHT = (
    "does not let role {role!r} work in database {database!r}",
    "have {init} give it its rights, or log in as the role that the tables belong to",
)


def refusal(text: str, login: LoginAttempt) -> AccessRefused | None:
    """Return what ``text``, which libpq gives when it cannot connect, tells of a server that does not let us in.

    None for one that is away, or busy.
    """
    said = _WHERE.sub("", text, count=1)
    spoken = _SEVERITY.match(said)
    said = " ".join(said[spoken.end() if spoken else 0 :].split())
    if _TRANSIENT.search(said):
        return None
    for pattern, fact, way_out in _KINDS:
        if re.search(pattern, said, re.IGNORECASE):
            return _told(fact, way_out, said, login)
    return _told(*_ELSE, said, login) if spoken else None


def by_host(text: str) -> Iterator[tuple[dict[str, str], str]]:
    """Part what libpq says of several hosts; yield each, as its parameter where it is told, and what is said of it."""
    for said in _BY_HOST.split(text):
        yield ({"host": found[1]} if (found := _HOST.match(said)) else {}), said


def no_right(said: str, login: LoginAttempt) -> AccessRefused:
    """Return what it means that the database lets us in and not work there."""
    return _told(*_NO_RIGHT, " ".join(said.split()), login)


def _told(fact: str, way_out: str, said: str, login: LoginAttempt) -> AccessRefused:
    sentence = f"the PostgreSQL at {{host}} {fact} ({{said}}): {way_out}"
    return AccessRefused(
        sentence.format(
            host=login.host, role=login.role, database=login.database, said=said, init=INIT_DB, line=_line(said, login)
        )
    )


def _line(said: str, login: LoginAttempt) -> str:
    """Return what would let us in, as a line of pg_hba.conf."""
    origin = _FROM.search(said)
    if origin is None or origin[1] == "[local]":
        return f"local {login.database} {login.role} scram-sha-256"
    return f"host {login.database} {login.role} {origin[1]}/{128 if ':' in origin[1] else 32} scram-sha-256"

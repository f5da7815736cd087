"""Refused logins: what the messages of a server that refuses a connection mean, and how to solve it.

libpq gives no error code for a connection that fails, only the server's text, in the server's language. A message that
is not recognised is repeated as it is. Sources of the messages: PostgreSQL's src/backend/libpq/auth.c and
src/backend/utils/init/postinit.c, libpq's fe-auth.c and fe-connect.c; PgBouncer's src/client.c.
"""

import getpass
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from datamover.errors import Unavailable

INIT_DB = "`datamover-admin init-db --admin-url …`"


class AccessRefused(Unavailable):
    """The database answers, but refuses the login or the rights that datamover needs.

    Trying again helps once an administrator has changed that.
    """


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """The role, the database and the host of a login."""

    role: str
    database: str
    host: str
    """A host's name or address, or the directory of a socket."""

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> "LoginAttempt":
        """Return the login that libpq's parameters describe."""
        role = parameters.get("user") or getpass.getuser()
        host = parameters.get("host") or parameters.get("hostaddr") or "its local socket"
        return cls(role, parameters.get("dbname") or role, host)


_TRANSIENT = re.compile(
    r"the database system is|too many clients|remaining connection slots|terminating connection|the database is away"
    r"|(?:session|server) is (?:not )?(?:read-only|in hot standby)|server conn crashed|pgbouncer cannot connect"
    r"|query_wait_timeout|no more connections allowed|client_login_timeout",
    re.IGNORECASE,
)
"""Messages of failures that pass by themselves."""
_BY_HOST = re.compile(r"(?<=\n)(?=connection to server )")
_HOST = re.compile(r'connection to server at "([^"]+)"')
_WHERE = re.compile(r"connection to server .*? failed: ", re.DOTALL)
"""libpq's own words, before the server's."""
_SEVERITY = re.compile(r"[^\s:]+:  ")
"""The severity before a server's message, in any language: "FATAL:  "."""
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
        "accepts no connections to database {database!r}",
        "have {init} allow it, or run ALTER DATABASE … ALLOW_CONNECTIONS true there",
    ),
    (
        r"too many connections for (?:role|database)",
        "gives role {role!r}, or database {database!r}, no further connection",
        "raise its CONNECTION LIMIT, or lower database.connections",
    ),
    (
        r"(?:Peer|Ident) authentication failed",
        "accepts only the role that is named as the system's user, which role {role!r} is not",
        "run datamover as the user of that name, map the two in its pg_ident.conf, or have its pg_hba.conf ask for a "
        "password",
    ),
    (
        r"does not support SSL|SSL was required|certificate|SSL error|could not (?:read|load)",
        "cannot be reached in the way that sslmode and the files in database.url ask for",
        "correct those, or the server's certificate",
    ),
)
"""The pattern of a message, what it means, and the solution."""
_ELSE = ("refuses role {role!r}", "see there, or its log, why")
_NO_RIGHT = (
    "does not let role {role!r} work in database {database!r}",
    "have {init} give it its rights, or log in as the role that the tables belong to",
)


def refusal(text: str, login: LoginAttempt) -> AccessRefused | None:
    """Return the meaning of libpq's error ``text`` if the server refuses the login; None if it is away or busy."""
    said = _WHERE.sub("", text, count=1)
    severity = _SEVERITY.match(said)
    said = " ".join(said[severity.end() if severity else 0 :].split())
    if _TRANSIENT.search(said):
        return None
    for pattern, fact, way_out in _KINDS:
        if re.search(pattern, said, re.IGNORECASE):
            return _error(fact, way_out, said, login)
    return _error(*_ELSE, said, login) if severity else None


def by_host(text: str) -> Iterator[tuple[dict[str, str], str]]:
    """Split libpq's error text by host; yield each host's parameter, if it is named, and its part of the text."""
    for said in _BY_HOST.split(text):
        yield ({"host": found[1]} if (found := _HOST.match(said)) else {}), said


def no_right(said: str, login: LoginAttempt) -> AccessRefused:
    """Return the error for a database that accepts the login but denies the rights that migrations need."""
    return _error(*_NO_RIGHT, " ".join(said.split()), login)


def _error(fact: str, way_out: str, said: str, login: LoginAttempt) -> AccessRefused:
    sentence = f"the PostgreSQL at {{host}} {fact} ({{said}}): {way_out}"
    return AccessRefused(
        sentence.format(
            host=login.host, role=login.role, database=login.database, said=said, init=INIT_DB, line=_line(said, login)
        )
    )


def _line(said: str, login: LoginAttempt) -> str:
    """Return the line of pg_hba.conf that would allow the login."""
    origin = _FROM.search(said)
    if origin is None or origin[1] == "[local]":
        return f"local {login.database} {login.role} scram-sha-256"
    return f"host {login.database} {login.role} {origin[1]}/{128 if ':' in origin[1] else 32} scram-sha-256"

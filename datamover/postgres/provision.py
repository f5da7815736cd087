"""Makes the role and the database that ``[database]`` names, with an administrator's login to the server.

What exists already, from an earlier run or made by hand, is corrected: the role can log in with the configured
password, and owns the database and the tables of an earlier datamover in it. A database that holds anything else is
not changed. Blocks.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password, make_dsn, parse_dsn

from datamover.config import schema
from datamover.errors import StartError
from datamover.postgres.external import ExternalPostgres
from datamover.postgres.failures import one_line
from datamover.postgres.hosts import CONNECT_TIMEOUT
from datamover.postgres.migrate import available

_SHARED = "postgres"
"""A database that every server has and many share; its owner is never changed."""
_ROLE = """
SELECT rolcanlogin, coalesce(rolvaliduntil <= now(), false), rolconnlimit = 0 FROM pg_roles WHERE rolname = %s
"""
_DATABASE = """
SELECT datdba::regrole::text, datdba = %s::regrole, datallowconn, datconnlimit = 0 FROM pg_database WHERE datname = %s
"""
_MIGRATED = """
SELECT EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = to_regclass('public.schema_migrations') AND attname = 'sha256'
)
"""
_OTHERS = """
SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.relname, n.nspname, c.oid::regclass::text,
    c.relowner::regrole::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relowner <> %(role)s::regrole
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE (d.classid, d.objid) = ('pg_class'::regclass, c.oid)
                    AND (d.deptype = 'e' OR (c.relkind = 'S' AND d.deptype IN ('a', 'i'))))
UNION ALL
SELECT 'ROUTINE', p.proname, n.nspname, p.oid::regprocedure::text, p.proowner::regrole::text
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.proowner <> %(role)s::regrole
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE (d.classid, d.objid, d.deptype) = ('pg_proc'::regclass, p.oid, 'e'))
"""
"""Objects that belong neither to the role nor to an extension; indexes and identities follow their tables."""
_MADE = re.compile(r"^CREATE (?:TABLE|FUNCTION|SEQUENCE) (\w+)", re.MULTILINE)

OnChange = Callable[[str], object]


def provide(settings: schema.Database, admin_url: str, told: OnChange) -> None:
    """Make or correct the role and database of ``settings.url``; ``told`` is called with a sentence for each change.

    Raises ConfigError for settings that cannot be used, and StartError for what the server refuses and for a database
    that holds other objects.
    """
    given = ExternalPostgres(settings)
    password = given.password()
    parameters = parse_dsn(settings.url or "")
    role = parameters.get("user", "datamover")
    name = parameters.get("dbname", role)
    with _connected(admin_url) as run:
        _role(run, role, password, told)
        becoming = "SET" if run.connection.server_version >= 160000 else "MEMBER"
        if not run("SELECT pg_has_role(%s, %s)", role, becoming)[0][0]:
            # To make a database that the role owns, the administrator must be able to become the role.
            run(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))
        _database(run, role, name, told)
        with _connected(str(make_dsn(admin_url, dbname=name))) as inside:
            _contents(inside, role, name, told)


class _Session:
    """Runs statements as the administrator, each in a transaction of its own."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __call__(self, statement: Any, *parameters: Any, **named: Any) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, named or parameters)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def _connected(url: str) -> Iterator[_Session]:
    try:
        connection = psycopg2.connect(url, connect_timeout=int(CONNECT_TIMEOUT))
        try:
            connection.autocommit = True
            yield _Session(connection)
        finally:
            connection.close()
    except psycopg2.Error as error:
        raise StartError(
            f"--admin-url: {one_line(error)}: expected the URL of a login that may make roles and databases there"
        ) from None


def _role(run: _Session, role: str, password: str | None, told: OnChange) -> None:
    name = sql.Identifier(role)
    found = run(_ROLE, role)
    if not found:
        run(sql.SQL("CREATE ROLE {} LOGIN").format(name) + _password(run, role, password))
        told(f"made the role {role}")
        return
    ((may_log_in, has_expired, is_shut),) = found
    if not may_log_in:
        run(sql.SQL("ALTER ROLE {} LOGIN").format(name))
        told(f"let the role {role} log in")
    if has_expired:
        run(sql.SQL("ALTER ROLE {} VALID UNTIL 'infinity'").format(name))
        told(f"let the password of the role {role} be valid again")
    if is_shut:
        run(sql.SQL("ALTER ROLE {} CONNECTION LIMIT -1").format(name))
        told(f"let the role {role} have connections")
    if password and not _has_password(run, role, password):
        run(sql.SQL("ALTER ROLE {}").format(name) + _password(run, role, password))
        told(f"gave the role {role} the password of database.password_file")


def _password(run: _Session, role: str, password: str | None) -> sql.Composable:
    if not password:
        return sql.SQL("")
    hidden = encrypt_password(password, role, run.connection, "scram-sha-256")
    return sql.SQL(" PASSWORD ") + sql.Literal(hidden)


def _has_password(run: _Session, role: str, password: str) -> bool:
    """Return whether a role is known to have this password; only a superuser can read that."""
    if run.connection.get_parameter_status("is_superuser") != "on":
        return False
    ((stored,),) = run("SELECT rolpassword FROM pg_authid WHERE rolname = %s", role)
    return stored is not None and verifies(stored, password)


def verifies(stored: str, password: str) -> bool:
    """Return whether a password matches a SCRAM verifier of pg_authid (RFC 5803, RFC 5802 section 3)."""
    try:
        method, secret, keys = stored.split("$")
        iterations, salt = secret.split(":")
        wanted = base64.b64decode(keys.split(":")[0])
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    except ValueError:
        return False
    key = hmac.digest(salted, b"Client Key", "sha256")
    return method == "SCRAM-SHA-256" and hmac.compare_digest(hashlib.sha256(key).digest(), wanted)


def _database(run: _Session, role: str, name: str, told: OnChange) -> None:
    """Make the database, or allow connections to the existing one, so that its contents can be read."""
    identifier = sql.Identifier(name)
    found = run(_DATABASE, _quoted(run, role), name)
    if not found:
        run(
            sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0").format(
                identifier, sql.Identifier(role)
            )
        )
        told(f"made the database {name}")
        return
    ((_, _, is_open, is_shut),) = found
    if not is_open:
        run(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(identifier))
    if is_shut:
        run(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(identifier))
    if not is_open or is_shut:
        told(f"let the database {name} have connections")


def _contents(run: _Session, role: str, name: str, told: OnChange) -> None:
    """Make the role the owner of the database and of datamover's objects in it, and give it its rights there."""
    ((owner, is_owner, _, _),) = run(_DATABASE, _quoted(run, role), name)
    made = {"schema_migrations", *(made for migration in available() for made in _MADE.findall(migration.sql))}
    migrated = run(_MIGRATED)[0][0]
    ours: list[tuple[str, str, str]] = []
    others: list[tuple[str, str, str]] = []
    for kind, bare, namespace, full, before in run(_OTHERS, role=_quoted(run, role)):
        (ours if migrated and namespace == "public" and bare in made else others).append((kind, full, before))
    if others and not migrated:
        raise StartError(
            f"the database {name} belongs to {owner} and holds what is not datamover's ({others[0][1]}): name another "
            "in database.url, to be made"
        )
    if not is_owner and not others and name != _SHARED:
        run(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(role)))
        told(f"gave the database {name}, which was {owner}'s, to the role {role}")
    for kind, full, before in ours:
        run(sql.SQL(f"ALTER {kind} {full} OWNER TO ") + sql.Identifier(role))
        told(f"gave {full}, which was {before}'s, to the role {role}")
    _rights(run, role, name, told)


def _rights(run: _Session, role: str, name: str, told: OnChange) -> None:
    grantee = sql.Identifier(role)
    if not run("SELECT has_database_privilege(%s, %s, 'CONNECT')", role, name)[0][0]:
        run(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(name), grantee))
        told(f"let the role {role} connect to the database {name}")
    if not run("SELECT to_regnamespace('public') IS NOT NULL")[0][0]:
        run(sql.SQL("CREATE SCHEMA public AUTHORIZATION {}").format(grantee))
        told("made the schema public")
    elif not run(
        "SELECT has_schema_privilege(%s, 'public', 'USAGE') AND has_schema_privilege(%s, 'public', 'CREATE')",
        role,
        role,
    )[0][0]:
        run(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(grantee))
        told(f"let the role {role} make tables in the schema public")


def _quoted(run: _Session, name: str) -> str:
    return str(psycopg2.extensions.quote_ident(name, run.connection))

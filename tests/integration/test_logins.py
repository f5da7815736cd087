"""A database that does not let the service in: told wherever it is met, with the way out; and what init-db mends."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.admin import main
from datamover.config.load import load
from datamover.config.schema import DatabaseSection
from datamover.postgres.admission import AccessRefused, LoginAttempt, refusal
from datamover.postgres.database import Database as Pool
from datamover.postgres.external import ExternalPostgres
from datamover.postgres.migrate import available, migrate
from datamover.postgres.provision import provide, verifies
from tests.servers.postgres import Postgres, running
from tests.servers.service import PATIENCE, Service

ROOT = Path(__file__).parents[2]
HBA = """\
host all postgres 127.0.0.1/32 trust
host all banned 127.0.0.1/32 reject
host all ghost,mover,other,asleep,expired 127.0.0.1/32 scram-sha-256
host all trusted 127.0.0.1/32 trust
local all postgres trust
local all all peer
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server that asks for passwords."""
    with running() as server:
        server.configure_logins(HBA)
        yield server


@pytest.fixture(autouse=True)
def _clean(server: Postgres) -> Iterator[None]:
    yield
    for (name,) in server.run("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"):
        server.run(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        server.run(f'DROP DATABASE "{name}" WITH (FORCE)')
    for (name,) in server.run("SELECT rolname FROM pg_roles WHERE oid > 16383"):
        server.run(f'DROP OWNED BY "{name}"')
        server.run(f'DROP ROLE "{name}"')


def admin(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "datamover.admin", *arguments],
        capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT, check=False,
    )  # fmt: skip


def configured(directory: Path, url: str, password: str | None = "right") -> str:
    file = directory / "datamover.toml"
    table = f'[database]\nurl = "{url}"\n'
    if password is not None:
        (directory / "password").write_text(password)
        (directory / "password").chmod(0o600)
        table += f'password_file = "{directory}/password"\n'
    file.write_text(table)
    return str(file)


def url(server: Postgres, role: str = "mover", database: str = "moves") -> str:
    return f"postgresql://{role}@127.0.0.1:{server.port}/{database}"


def settings(config: str) -> DatabaseSection:
    return load(Path(config)).database


def provided(server: Postgres, config: str) -> list[str]:
    """Do what init-db does as the administrator; return what it says that it did. Then the role is let in."""
    did: list[str] = []
    provide(settings(config), server.url, did.append)
    assert ExternalPostgres(settings(config)).look() is None
    return did


async def migrated(config: str, count: int | None = None) -> None:
    """Make the tables, or those of the first ``count`` migrations, as the role."""
    database = Pool(reactor, ExternalPostgres(settings(config)).dsn, 1)
    try:
        await database.open()
        await migrate(database, available()[:count])
    finally:
        await database.close()


# init-db, run again --------------------------------------------------------------------------------------------


def test_a_role_without_its_password(server: Postgres, tmp_path: Path) -> None:
    """A first run without a password file leaves a role that cannot log in; a second with one gives it its password,
    and a third finds nothing to do."""
    first = admin("init-db", "--config", configured(tmp_path, url(server), None), "--admin-url", server.url)
    assert first.returncode == 1
    assert first.stdout.splitlines() == ["made the role mover", "made the database moves"]
    assert "asks role 'mover' for a password, and there is none" in first.stderr

    config = configured(tmp_path, url(server))
    again = admin("init-db", "--config", config, "--admin-url", server.url)
    assert (again.returncode, again.stderr) == (0, "")
    told = again.stdout.splitlines()
    assert (told[0], told[-1]) == (
        "gave the role mover the password of database.password_file",
        "the database is up to date",
    )
    assert provided(server, config) == []
    changed = configured(tmp_path, url(server), "another")
    assert provided(server, changed) == ["gave the role mover the password of database.password_file"]


@pytest.mark.parametrize(
    ("left", "did"),
    [
        ("CREATE ROLE mover NOLOGIN PASSWORD 'right'", "let the role mover log in"),
        (
            "CREATE ROLE mover LOGIN PASSWORD 'right' VALID UNTIL '2001-01-01'",
            "let the password of the role mover be valid again",
        ),
        (
            "CREATE ROLE mover LOGIN PASSWORD 'right' CONNECTION LIMIT 0",
            "let the role mover have connections",
        ),
    ],
)
def test_a_role_that_may_not(server: Postgres, tmp_path: Path, left: str, did: str) -> None:
    """A role that may not log in, any more or at all, may again."""
    server.run(left)
    config = configured(tmp_path, url(server))
    assert provided(server, config) == [did, "made the database moves"]


@pytest_twisted.ensureDeferred
async def test_another_s_database(server: Postgres, tmp_path: Path) -> None:
    """A database that an earlier run made for another role goes over to the one that is named now, with its tables."""
    other = configured(tmp_path, url(server, "other"))
    provided(server, other)
    await migrated(other)
    config = configured(tmp_path, url(server))
    did = provided(server, config)
    assert did[:2] == ["made the role mover", "gave the database moves, which was other's, to the role mover"]
    assert "gave jobs, which was other's, to the role mover" in did
    assert provided(server, config) == []
    owners = server.run(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace",
        database="moves",
    )
    assert owners == [("mover",)]
    await migrated(config)


def test_a_stranger_s_database(server: Postgres, tmp_path: Path) -> None:
    """A database that holds something else is left as it is."""
    server.run("CREATE DATABASE moves")
    server.run("CREATE TABLE public.ledger (n integer)", database="moves")
    done = admin("init-db", "--config", configured(tmp_path, url(server)), "--admin-url", server.url)
    assert done.returncode == 1
    assert "the database moves belongs to postgres and holds what is not datamover's (ledger)" in done.stderr
    assert server.run("SELECT datdba::regrole::text FROM pg_database WHERE datname = 'moves'") == [("postgres",)]


def test_rights_that_are_missing(server: Postgres, tmp_path: Path) -> None:
    """The rights to connect, and to make tables, are given back; a schema that is gone, made."""
    config = configured(tmp_path, url(server))
    provided(server, config)
    server.run("REVOKE ALL ON DATABASE moves FROM public, mover")
    server.run("ALTER DATABASE moves ALLOW_CONNECTIONS false")
    assert provided(server, config) == [
        "let the database moves have connections",
        "let the role mover connect to the database moves",
    ]
    server.run("DROP SCHEMA public CASCADE", database="moves")
    assert provided(server, config) == ["made the schema public"]
    server.run("CREATE DATABASE postgres_like OWNER postgres")
    shared = configured(tmp_path, url(server, database="postgres"))
    assert provided(server, shared) == ["let the role mover make tables in the schema public"]
    assert server.run("SELECT datdba::regrole::text FROM pg_database WHERE datname = 'postgres'") == [("postgres",)]
    server.run("DROP OWNED BY mover")


@pytest_twisted.ensureDeferred
async def test_half_made(server: Postgres, tmp_path: Path) -> None:
    """Where a run ended between two migrations the next goes on."""
    config = configured(tmp_path, url(server))
    provided(server, config)
    await migrated(config, 2)
    await migrated(config)
    done = server.run("SELECT count(*) FROM schema_migrations", database="moves")
    assert done == [(len(available()),)]


def test_no_administrator(server: Postgres, tmp_path: Path) -> None:
    """A login that may not make roles, or may not log in at all, is told as the administrator's."""
    server.run("CREATE ROLE trusted LOGIN")
    config = configured(tmp_path, url(server))
    for login in ("trusted", "ghost"):
        done = admin("init-db", "--config", config, "--admin-url", url(server, login, "postgres"))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith("datamover-admin: --admin-url: ")
        assert "expected the URL of a login that may make roles and databases there" in done.stderr


# A wrong login ------------------------------------------------------------------------------------------------

WRONG = [
    ("mover", "moves", "wrong", "password authentication failed", "database.password_file names"),
    ("mover", "moves", None, "asks role 'mover' for a password", "name that in database.password_file"),
    ("ghost", "moves", "x", "does not take the password of role 'ghost', or has no such role", "init-db"),
    ("trusted", "moves", None, "has no role 'trusted'", "init-db"),
    ("asleep", "moves", "right", "does not let role 'asleep' log in", "ALTER ROLE"),
    ("banned", "moves", None, "pg_hba.conf rejects connection", "host moves banned 127.0.0.1/32 scram-sha-256"),
    ("stranger", "moves", None, "no pg_hba.conf entry", "host moves stranger 127.0.0.1/32 scram-sha-256"),
    ("mover", "nowhere", "right", "has no database 'nowhere'", "name another in database.url"),
    ("mover", "closed", "right", "does not let role 'mover' connect to database 'closed'", "GRANT CONNECT"),
    ("mover", "shut", "right", "accepts no connections to database 'shut'", "ALLOW_CONNECTIONS"),
    ("mover", "moves?sslmode=require", "right", "server does not support SSL", "sslmode"),
]


@pytest.mark.parametrize(("role", "database", "password", "told", "way_out"), WRONG)
@pytest_twisted.ensureDeferred
async def test_a_wrong_login(
    server: Postgres,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    role: str,
    database: str,
    password: str | None,
    told: str,
    way_out: str,
) -> None:
    """A login that the server does not take is a sentence: where, who, why, and the way out; never the password."""
    server.run("CREATE ROLE mover LOGIN PASSWORD 'right'")
    server.run("CREATE ROLE asleep NOLOGIN PASSWORD 'right'")
    for name in ("moves", "closed", "shut"):
        server.run(f"CREATE DATABASE {name}")
    server.run("REVOKE CONNECT ON DATABASE closed FROM public")
    server.run("ALTER DATABASE shut ALLOW_CONNECTIONS false")
    config = configured(tmp_path, url(server, role, database), password)
    assert main(["check-config", "--config", config]) == 1
    by_libpq = capsys.readouterr()
    assert (by_libpq.out, by_libpq.err.count("\n")) == ("", 1)
    assert by_libpq.err.startswith("datamover-admin: the PostgreSQL at 127.0.0.1 ")
    assert told in by_libpq.err
    assert way_out in by_libpq.err
    assert "wrong" not in by_libpq.err
    with pytest.raises(AccessRefused) as refused:
        await migrated(config)
    assert by_libpq.err == f"datamover-admin: {refused.value.message}\n"


def test_no_rights(server: Postgres, tmp_path: Path) -> None:
    """A role that may log in and make nothing is told so, with the way out."""
    server.run("CREATE ROLE mover LOGIN PASSWORD 'right'")
    server.run("CREATE DATABASE moves")
    done = admin("init-db", "--config", configured(tmp_path, url(server)))
    assert done.returncode == 1
    assert "does not let role 'mover' work in database 'moves' (permission denied for schema public)" in done.stderr


def test_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A database that is away is no fault of the configuration, and told beside it."""
    assert main(["check-config", "--config", configured(tmp_path, "postgresql://a@127.0.0.1:1/b", None)]) == 0
    told = capsys.readouterr()
    assert "postgresql://a@127.0.0.1:1/b (away: connection to server" in told.out
    assert told.err == ""


class working:  # noqa: N801 - a context manager
    """A service with a configuration that is there, launched, and stopped in the end."""

    def __init__(self, directory: Path, config: str, *, wait: bool = True) -> None:
        self._wait = wait
        self._service = Service(directory, "\n".join(Path(config).read_text().splitlines()))

    def __enter__(self) -> Service:
        self._service.start() if self._wait else self._service.launch()
        return self._service

    def __exit__(self, *_: object) -> None:
        self._service.stop()


def ready(service: Service) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/health/ready") as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.read().decode()
    except urllib.error.URLError:
        return 0, ""


def until(service: Service, answer: tuple[int, str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while (found := ready(service)) != answer:
        assert time.monotonic() < deadline, (found, service.log.read_text())
        time.sleep(0.05)


REFUSED = (503, "database refuses the login: see the log\n")


def test_at_the_start(server: Postgres, tmp_path: Path) -> None:
    """A service that is not let in says so in the log and in its readiness, goes on asking, and works once it is."""
    config = configured(tmp_path, url(server), "wrong")
    provided(server, config)
    (tmp_path / "password").write_text("other")
    with working(tmp_path, config, wait=False) as service:
        until(service, REFUSED)
        log = service.log.read_text()
        assert "the PostgreSQL at 127.0.0.1 does not take the password of role 'mover'" in log
        assert "trying again in" in log
        (tmp_path / "password").write_text("wrong")
        until(service, (200, "ok\n"))


def test_while_it_runs(server: Postgres, tmp_path: Path) -> None:
    """A password that is changed at the server is told as that, not as a database that is away; clients are told no
    more than that nothing works now."""
    config = configured(tmp_path, url(server))
    provided(server, config)
    with working(tmp_path, config) as service:
        server.run("ALTER ROLE mover PASSWORD 'changed'")
        server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mover'")
        until(service, REFUSED)
        assert "cannot connect: the PostgreSQL at 127.0.0.1 does not take the password" in service.log.read_text()
        (tmp_path / "password").write_text("changed")
        until(service, (200, "ok\n"))
        assert "the database is back" in service.log.read_text()


# Texts alone --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        'connection to server at "certificate.example.org", port 5432 failed: Connection refused',
        'connection to server at "h", port 5432 failed: FATAL:  the database system is starting up',
        'connection to server at "h", port 5432 failed: FATAL:  sorry, too many clients already',
        'connection to server at "h", port 5432 failed: session is read-only',
        'could not translate host name "h" to address: Name or service not known',
        "server closed the connection unexpectedly",
    ],
)
def test_away_or_busy(said: str) -> None:
    """What may be otherwise in a moment is not told as a refusal."""
    assert refusal(said, LoginAttempt("mover", "moves", "h")) is None


def test_other_languages() -> None:
    """A server's own words in its own language are a refusal, and repeated."""
    said = "FATAL:  Passwort-Authentifizierung für Benutzer »m« fehlgeschlagen"
    refused = refusal(f'connection to server at "h", port 5432 failed: {said}\n', LoginAttempt("m", "moves", "h"))
    assert refused is not None
    assert refused.message == (
        "the PostgreSQL at h refuses role 'm' (Passwort-Authentifizierung für Benutzer »m« fehlgeschlagen): "
        "see there, or its log, why"
    )


def test_verifier() -> None:
    """A password is told from another by the verifier that RFC 7677's example (section 3) comes to."""
    verifier = (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
    assert verifies(verifier, "pencil")
    assert not verifies(verifier, "pencils")
    assert not verifies("md5" + "0" * 32, "pencil")

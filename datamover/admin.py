"""``datamover-admin``: commands for administrators. A failing one writes one sentence to standard error.

This module reads the command line and prints results; other packages do the work.
"""

import argparse
import getpass
import os
import sys
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import psycopg2
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from datamover import __version__
from datamover.app.arguments import host_and_port, seconds
from datamover.app.inspection import check_named
from datamover.app.options import read_config
from datamover.app.summary import database_away, not_held, summary, try_destinations
from datamover.config.documentation import sample
from datamover.config.schema import Config
from datamover.errors import ConfigError, DataMoverError, Problems, StartError
from datamover.jobs.backup import BackupTools, is_empty, opened, renumber
from datamover.jobs.installation import identify
from datamover.postgres.database import Database
from datamover.postgres.embedded.cluster import Cluster
from datamover.postgres.embedded.server import EmbeddedPostgres
from datamover.postgres.embedded.user import user_name
from datamover.postgres.external import ExternalPostgres
from datamover.postgres.failures import one_line
from datamover.postgres.migrate import migrate
from datamover.postgres.provision import provide
from datamover.sealing.keyring import Cipher
from datamover.sealing.rotation import ResealReport, prepare, reseal, settle, turn
from datamover.security.passwords import hash_password
from datamover.text.quantities import count

SCAN_TIMEOUT = 30.0
"""Seconds."""
SETTLING = 60.0
"""Seconds within which a sealed value is stored."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status, 0 or 1; a wrong command line raises SystemExit(2)."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except DataMoverError as error:
        problems = error.problems if isinstance(error, ConfigError) else [error.full]
        for problem in problems:
            print(f"datamover-admin: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the man page is made of it, too."""
    parser = argparse.ArgumentParser(prog="datamover-admin", description="Prepare and check a datamover.")
    parser.add_argument("--version", action="version", version=f"datamover {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    # It may stand before the command or behind it: a default behind it would replace what stands before it.
    for place, default in ((parser, None), (common, argparse.SUPPRESS)):
        told = "the configuration (default: where the service looks)"
        place.add_argument("--config", metavar="FILE", default=default, help=told)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[common], help=text, description=text)
        added.set_defaults(run=run)
        return added

    init = command("init-db", init_db, "Prepare the database and its tables; running it again is safe.")
    init.add_argument(
        "--admin-url",
        metavar="URL",
        help="the URL of a PostgreSQL login that may create roles and databases: also make those of database.url",
    )
    command("migrate", migrate_db, "Bring the database's tables up to date.")
    dump = command("backup", backup, "Write a backup of the database; the service may be running.")
    dump.add_argument("file", metavar="FILE", type=Path, help="a new file; nobody else may read it")
    load = command("restore", restore, "Read a backup into an empty database.")
    load.add_argument("file", metavar="FILE", type=Path, help="a file that `backup` has written")
    check = command("check-config", check_config, "Check the configuration and what it names, and print a summary.")
    told = "also try each destination with a small file; it fails, too, if the database is away"
    check.add_argument("--connect", action="store_true", help=told)
    command("sample-config", print_sample, "Print a commented sample of the configuration, with every key.")
    command("hash-password", print_hash, "Read a password and print its hash for password_hash.")
    rotate = command("rotate-key", rotate_key, "Replace the key that seals rows; services may be running.")
    steps = rotate.add_mutually_exclusive_group()
    steps.add_argument("--prepare", action="store_true", help="only add the next key to the file, for you to copy")
    steps.add_argument("--keep", action="store_true", help="leave the old key in the file")
    rotate.add_argument(
        "--wait",
        metavar="SECONDS",
        type=seconds,
        default=SETTLING,
        help=f"time for values sealed with the old key to be stored, before it is removed (default: {SETTLING:.0f})",
    )
    scan = command("scan-host-key", scan_host, "Print an SSH server's host keys and their fingerprints.")
    scan.add_argument("host", metavar="HOST[:PORT]", type=host_and_port)
    return parser


def init_db(options: argparse.Namespace) -> None:
    settings = _settings(options)
    if settings.database.url is None:
        if options.admin_url is not None:
            raise ConfigError("--admin-url is for the PostgreSQL that database.url names, and none is named")
    elif options.admin_url is not None:
        provide(settings.database, options.admin_url, print)
    migrate_db(options)


def migrate_db(options: argparse.Namespace) -> None:
    async def work(reactor: Any, database: Database, tools: BackupTools) -> None:
        for migration in await migrate(database):
            print(f"applied {migration.number:04d}_{migration.name}")
        print("the database is up to date")

    _with_database(_settings(options), work)


def backup(options: argparse.Namespace) -> None:
    settings = _settings(options)

    async def work(reactor: Any, database: Database, tools: BackupTools) -> None:
        size = tools.dump(options.file)
        print(f"wrote {options.file}, {count(size, 'byte')}")
        print(f"also keep {settings.service.key_path}, in another place: signed URLs cannot be read without it")

    _with_database(settings, work)


def restore(options: argparse.Namespace) -> None:
    settings = _settings(options)
    key = settings.service.key_path
    file = opened(options.file)

    async def work(reactor: Any, database: Database, tools: BackupTools) -> None:
        if not await is_empty(database):
            raise StartError(
                "the database is not empty: restore into a new one, or, if it is embedded, into a new data_directory"
            )
        if (proof := tools.proof(file)) is not None and not cipher.opens(proof):
            raise ConfigError(
                f"service.key_file: {key} is not the key that the rows in {options.file} are sealed with: put the key "
                "from the time of the backup there, and run this again; nothing was restored"
            )
        tools.load(file)
        await renumber(database)
        await migrate(database)
        await identify(database, cipher)
        print(f"restored {options.file}: the service may be started")

    with file:
        if not key.exists():
            raise ConfigError(f"service.key_file: {key} is missing: first put the key there that belongs to the backup")
        cipher = Cipher.from_file(key)
        _with_database(settings, work)


def _tell(report: ResealReport) -> None:
    print(f"{count(report.sealed, 'row is', 'rows are')} sealed with the new key")
    if report.lost:
        print(
            f"{count(report.lost, 'row was', 'rows were')} sealed with a key that is not in the file: without it what "
            "it sealed is lost"
        )
    if report.refused:
        rows = count(report.refused, "row")
        print(f"{rows} could not be changed ({report.reason}): the old key is still needed")


def rotate_key(options: argparse.Namespace) -> None:
    settings = _settings(options)
    path = settings.service.key_path
    if options.prepare:
        prepare(path)
        print(f"{path} holds the next key: copy the file to every machine that has a copy of it")
        return

    async def work(reactor: Any, database: Database, tools: BackupTools) -> None:
        await migrate(database)
        await identify(database, Cipher.from_file(path))
        cipher = turn(path)
        print(f"{path}: the new key seals, and the old one still opens")
        if options.keep:
            _tell(await reseal(database, cipher))
            print("the old key is kept")
            return
        print(f"checking again in {options.wait:g} s for values that were sealed meanwhile")
        await settle(
            path,
            database,
            lambda: task.deferLater(reactor, options.wait, lambda: None),
            _tell,
        )
        print("the old key is removed")

    _with_database(settings, work)


def check_config(options: argparse.Namespace) -> None:
    from twisted.internet import reactor

    from datamover.tap import service_tree

    problems = Problems()
    settings = read_config(options.config, check_named)
    with problems.collect():
        service_tree(settings, reactor)
    with problems.collect():
        check_named(settings)
    problems.check()
    away = database_away(settings)
    for line in summary(settings, away):
        print(line)
    for line in not_held(settings, reactor):
        print(line)
    if options.connect:
        _with_reactor(lambda reactor: try_destinations(reactor, settings, print, away))


def print_sample(options: argparse.Namespace) -> None:
    path = sample("datamover.toml")
    if path is None:
        raise StartError("the sample is not installed beside the package: install datamover from its wheel")
    print(path.read_text(encoding="utf-8"), end="")


def print_hash(options: argparse.Namespace) -> None:
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise ConfigError("the two passwords differ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise ConfigError("expected a password on standard input")
    print(hash_password(password))


def scan_host(options: argparse.Namespace) -> None:
    from datamover.protocols.sftp.ssh.known_hosts import fingerprint
    from datamover.protocols.sftp.ssh.scan import scan_host_key

    host, port = options.host

    async def work(reactor: Any) -> None:
        for line in await scan_host_key(reactor, host, port, SCAN_TIMEOUT):
            _, kind, key = line.split()
            print(f"# {fingerprint(b64decode(key))} {kind}")
            print(line)

    _with_reactor(work)


def _settings(options: argparse.Namespace) -> Config:
    return read_config(options.config)


def _with_database(settings: Config, work: Callable[[Any, Database, BackupTools], Awaitable[None]]) -> None:
    """Run ``work`` with the reactor running and the database open, embedded or given."""
    own = settings.database.url is None
    cluster = Cluster(settings.service.data_directory)
    if own:
        _as_its_user(cluster)

    async def run(reactor: Any) -> None:
        server = EmbeddedPostgres(reactor, settings.service.data_directory) if own else None
        address = server or ExternalPostgres(settings.database)
        database = Database(reactor, address.dsn, 1)
        try:
            await database.open()
            dsn = await address.dsn()
            tools = BackupTools.embedded(cluster.prepare(), dsn) if own else BackupTools.given(dsn)
            await work(reactor, database, tools)
        except psycopg2.Error as error:
            raise StartError(f"the database refuses: {one_line(error)}") from None
        finally:
            await database.close()
            if server is not None:
                await server.stop()

    _with_reactor(run)


def _as_its_user(cluster: Cluster) -> None:
    """Raise StartError if root would leave files in a data directory that another user's service cannot read."""
    try:
        owner = cluster.data_directory.stat().st_uid
    except OSError:
        return
    if os.geteuid() == 0 and owner != 0:
        name = user_name(owner)
        raise StartError(
            f"{cluster.data_directory} belongs to user {name!r}: run this as that user, "
            f"`runuser -u {name} -- datamover-admin …`"
        )


def _with_reactor(work: Callable[[Any], Awaitable[None]]) -> None:
    """Run ``work`` with the reactor running; raises what it raises."""
    outcome: list[object] = []

    def start(reactor: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(cast(Any, work(reactor))).addBoth(outcome.append)

    with suppress(SystemExit):  # react always ends so.
        task.react(start)
    if not outcome:
        raise KeyboardInterrupt
    failure = outcome[0]
    if isinstance(failure, Failure) and failure.value is not None:
        raise failure.value


if __name__ == "__main__":
    sys.exit(main())

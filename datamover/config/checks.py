"""Checks that involve several keys of datamover.toml: names that must exist, keys that need one another."""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, urlsplit

from datamover.config.endpoints import holds_password
from datamover.config.listeners import certificate_mistakes, listener_mistakes, tls_mistakes
from datamover.config.schema import Config, Console, DatabaseSection, Service
from datamover.config.suggestions import did_you_mean
from datamover.errors import ConfigError, Problems

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_whole(config: Config, file: str) -> None:
    """Check what involves several keys; raises ConfigError, which tells every mistake with file, key and value."""
    problems = Problems(f"{file}: {mistake}" for mistake in _mistakes(config))
    for name, declared in config.declared.items():
        with problems.collect():
            declared.check_with(config, f"{file}: {name}")
    problems.check()


def check_destination(name: str, config: Config, here: str) -> None:
    """Raise ConfigError for the name of a destination that does not exist."""
    if name not in config.destinations:
        raise ConfigError(f"{here} = {name!r}: {_expected('destinations', name, config.destinations)}")


def _expected(section: str, name: str, known: Iterable[str]) -> str:
    return f"expected the name of a [{section}.NAME]{did_you_mean(name, known)}"


def _mistakes(config: Config) -> Iterator[str]:
    for section, names in (("destinations", config.destinations), ("clients", config.clients)):
        for name in names:
            if not _NAME.fullmatch(name):
                yield f"{section}.{name!r}: expected a name of at most 63 letters, digits, '.', '_', '-'"
    yield from _service(config.service)
    yield from _listeners(config)
    for name, client in config.clients.items():
        for destination in client.destinations or ():
            if destination not in config.destinations:
                expected = _expected("destinations", destination, config.destinations)
                yield f"clients.{name}.destinations = {destination!r}: {expected}"
    for client_name in config.monitor.clients:
        if client_name not in config.clients:
            yield f"monitor.clients = {client_name!r}: {_expected('clients', client_name, config.clients)}"
    yield from _database(config.database)
    if config.http.proxy is not None and not _is_web(config.http.proxy):
        yield 'http.proxy: expected a URL such as "http://proxy.example.org:3128", without a login'
    yield from _console(config.console)


def _service(service: Service) -> Iterator[str]:
    if not service.roles:
        yield 'service.roles = []: expected "api", "engine" or both'
    if service.engine_processes > service.max_active:
        yield (
            f"service.engine_processes = {service.engine_processes}: "
            f"expected at most service.max_active, {service.max_active}, which they share"
        )


def _listeners(config: Config) -> Iterator[str]:
    tls, monitor, login = config.tls, config.monitor, bool(config.clients)
    yield from tls_mistakes(tls, [*config.service.listen, *filter(None, [monitor.listen])])
    for listener in config.service.listen if "api" in config.service.roles else ():
        yield from listener_mistakes("service.listen", listener, tls=tls, login=login)
    if monitor.listen is not None:
        yield from listener_mistakes("monitor.listen", monitor.listen, tls=tls, login=login, public=monitor.public)
    for name, client in config.clients.items():
        if client.password_hash is None and client.certificate is None:
            yield f"clients.{name}: expected password_hash, or certificate, or both"
    yield from certificate_mistakes(
        {name: client.certificate for name, client in config.clients.items() if client.certificate}, tls
    )


def _console(console: Console) -> Iterator[str]:
    if console.telnet and not console.password_hash:
        yield "console.password_hash: missing: expected what `datamover-admin hash-password` prints"
    if console.ssh and not (console.password_hash or console.authorized_keys_file):
        yield "console.authorized_keys_file: missing: expected the file of the public keys that may log in"


def _database(database: DatabaseSection) -> Iterator[str]:
    if database.url is None:
        return
    try:
        parts = urlsplit(database.url)
        scheme, query = parts.scheme, dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        scheme, query = "", {}
    if holds_password(database.url) or any("password" in name for name in query):
        yield "database.url: holds a password: leave it out, and name the file that holds it in password_file"
    elif scheme not in ("postgresql", "postgres") or "://" not in database.url:
        yield 'database.url: expected a URL such as "postgresql://datamover@db.example.org/datamover"'


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False

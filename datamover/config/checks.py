"""Checks that involve several keys of datamover.toml: names that must exist, keys that need one another."""

import re
from urllib.parse import parse_qsl, urlsplit

from datamover.config.endpoints import holds_password
from datamover.config.listeners import check_certificates, check_listener, check_tls
from datamover.config.schema import Config, DatabaseSection
from datamover.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_whole(config: Config, file: str) -> None:
    """Check what involves several keys; raises ConfigError that names file, key, value and expectation."""
    for section, names in (("destinations", config.destinations), ("clients", config.clients)):
        for name in names:
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"{file}: {section}.{name!r}: expected a name of at most 63 letters, digits, '.', '_', '-'"
                )
    if not config.service.roles:
        raise ConfigError(f'{file}: service.roles = []: expected "api", "engine" or both')
    if config.service.engine_processes > config.service.max_active:
        raise ConfigError(
            f"{file}: service.engine_processes = {config.service.engine_processes}: "
            f"expected at most service.max_active, {config.service.max_active}, which they share"
        )
    _check_listeners(config, file)
    for name, client in config.clients.items():
        for destination in client.destinations or ():
            if destination not in config.destinations:
                raise ConfigError(
                    f"{file}: clients.{name}.destinations = {destination!r}: expected the name of a [destinations.NAME]"
                )
    for client_name in config.monitor.clients:
        if client_name not in config.clients:
            raise ConfigError(f"{file}: monitor.clients = {client_name!r}: expected the name of a [clients.NAME]")
    for name, declared in config.declared.items():
        declared.check_with(config, f"{file}: {name}")
    _check_database(config.database, file)
    if config.http.proxy is not None and not _is_web(config.http.proxy):
        raise ConfigError(
            f'{file}: http.proxy: expected a URL such as "http://proxy.example.org:3128", without a login'
        )
    for index, credential in enumerate(config.sources.credentials):
        here = f"{file}: sources.credentials.{index}"
        if not _is_web(credential.url):
            raise ConfigError(f"{here}.url: expected an http(s) URL prefix, without a login")
        basic = credential.username is not None and credential.password_file is not None
        if basic == (credential.token_file is not None):
            raise ConfigError(f"{here}: expected token_file, or username and password_file")
    console = config.console
    if console.telnet and not console.password_hash:
        raise ConfigError(
            f"{file}: console.password_hash: missing: expected what `datamover-admin hash-password` prints"
        )
    if console.ssh and not (console.password_hash or console.authorized_keys_file):
        raise ConfigError(
            f"{file}: console.authorized_keys_file: missing: expected the file of the public keys that may log in"
        )


def _check_listeners(config: Config, file: str) -> None:
    tls, monitor, login = config.tls, config.monitor, bool(config.clients)
    check_tls(tls, [*config.service.listen, *filter(None, [monitor.listen])], file)
    for listener in config.service.listen if "api" in config.service.roles else ():
        check_listener("service.listen", listener, tls=tls, login=login, file=file)
    if monitor.listen is not None:
        check_listener("monitor.listen", monitor.listen, tls=tls, login=login, public=monitor.public, file=file)
    for name, client in config.clients.items():
        if client.password_hash is None and client.certificate is None:
            raise ConfigError(f"{file}: clients.{name}: expected password_hash, or certificate, or both")
    check_certificates(
        {name: client.certificate for name, client in config.clients.items() if client.certificate}, tls, file
    )


def _check_database(database: DatabaseSection, file: str) -> None:
    if database.url is None:
        return
    try:
        parts = urlsplit(database.url)
        scheme, query = parts.scheme, dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        scheme, query = "", {}
    if holds_password(database.url) or any("password" in name for name in query):
        raise ConfigError(
            f"{file}: database.url: holds a password: leave it out, and name the file that holds it in password_file"
        )
    if scheme not in ("postgresql", "postgres") or "://" not in database.url:
        raise ConfigError(
            f'{file}: database.url: expected a URL such as "postgresql://datamover@db.example.org/datamover"'
        )


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False

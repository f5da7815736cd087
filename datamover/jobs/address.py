"""Where the database is: what the configuration names, and the addresses of its hosts."""

import ipaddress
import socket
from typing import Any

import psycopg2
import psycopg2.extensions
from twisted.internet.threads import deferToThreadPool

from datamover import config, secret_files
from datamover.errors import ConfigError, StartError


class Given:
    """The address of the PostgreSQL that ``[database]`` names, its password read anew each time."""

    def __init__(self, settings: config.Database) -> None:
        """Raises ConfigError for a URL that cannot be one, or that holds a password."""
        self._settings = settings
        self._url = settings.url or ""
        try:
            parameters = psycopg2.extensions.parse_dsn(self._url)
        except psycopg2.ProgrammingError:
            raise ConfigError(
                'database.url: expected a URL such as "postgresql://datamover@db.example.org/datamover"'
            ) from None
        if "password" in parameters:
            raise ConfigError("database.url: holds a password: leave it out and name a file in database.password_file")

    def check(self) -> None:
        """Make sure that the password can be read; raises StartError."""
        self.password()

    async def dsn(self) -> str:
        """Return the address as libpq takes it; raises StartError for a password that cannot be read."""
        if (password := self.password()) is None:
            return self._url
        return str(psycopg2.extensions.make_dsn(self._url, password=password))

    def password(self) -> str | None:
        """Return the password, None where none is named; raises StartError."""
        path = self._settings.password_file
        if path is None:
            return None
        try:
            return secret_files.read(path).decode("utf-8").rstrip("\r\n")
        except secret_files.Unusable as error:
            raise StartError(f"database.password_file: {error.reason}") from None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise StartError(f"database.password_file: {path}: {reason}") from None


async def resolve(reactor: Any, parameters: dict[str, str]) -> dict[str, str]:
    """Return connection parameters with the addresses of every host, which libpq would look up on the reactor."""
    hosts = parameters.get("host", "").split(",")
    if "hostaddr" in parameters or not any(map(_is_name, hosts)):
        return parameters
    ports = parameters.get("port", "").split(",")
    found: list[tuple[str, str, str]] = []
    for index, host in enumerate(hosts):
        port = ports[index] if len(ports) > 1 else ports[0]
        addresses = [""]
        if _is_name(host):
            answers = await deferToThreadPool(
                reactor, reactor.getThreadPool(), socket.getaddrinfo, host, None, type=socket.SOCK_STREAM
            )
            addresses = [str(answer[4][0]) for answer in answers]
        found.extend((host, address, port) for address in addresses)
    columns = zip(("host", "hostaddr", "port"), zip(*found, strict=True), strict=True)
    return {**parameters, **{name: ",".join(column) for name, column in columns}}


def _is_name(host: str) -> bool:
    if not host or host.startswith(("/", "@")):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False

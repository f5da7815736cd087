"""Where the database is: what the configuration names, and the addresses of its hosts."""

import ipaddress
from collections.abc import Awaitable, Callable

import psycopg2
import psycopg2.extensions

from datamover import config, secret_files
from datamover.errors import ConfigError, StartError
from datamover.host_names import HostNames


def given(settings: config.Database) -> Callable[[], Awaitable[str]]:
    """Return what tells the address of the PostgreSQL that ``[database]`` names, its password read anew each time.

    Raises ConfigError for a URL that cannot be one, or that holds a password.
    """
    url = settings.url or ""
    try:
        parameters = psycopg2.extensions.parse_dsn(url)
    except psycopg2.ProgrammingError:
        raise ConfigError(
            'database.url: expected a URL such as "postgresql://datamover@db.example.org/datamover"'
        ) from None
    if "password" in parameters:
        raise ConfigError("database.url: holds a password: leave it out and name a file in database.password_file")

    async def address() -> str:
        if settings.password_file is None:
            return url
        try:
            password = secret_files.read(settings.password_file).decode("utf-8").rstrip("\r\n")
        except secret_files.Unusable as error:
            raise StartError(f"database.password_file: {error.reason}") from None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise StartError(f"database.password_file: {settings.password_file}: {reason}") from None
        return str(psycopg2.extensions.make_dsn(url, password=password))

    return address


async def resolve(names: HostNames, parameters: dict[str, str]) -> dict[str, str]:
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
            addresses = [str(answer[4][0]) for answer in await names.look_up(host)]
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

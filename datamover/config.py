"""datamover.toml -> frozen values, or one line that names file, key, value and what was expected.

This module knows the sections that every installation has. The keys of a destination that belong to its protocol
are kept as they stand, for the registry to have checked by the protocol (``check_table`` serves both). Secrets are
never values here: the configuration names the files that hold them.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from platformdirs import user_data_dir
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from twisted.internet.endpoints import _parse as _parse_endpoint  # type: ignore[attr-defined]

from datamover.errors import ConfigError

SYSTEM_FILE = Path("/etc/datamover/datamover.toml")
LOCAL_FILE = Path("datamover.toml")
ENVIRONMENT_VARIABLE = "DATAMOVER_CONFIG"

_DECIMAL = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kMGTP]?)B|([KMGTP])iB)?")
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def parse_size(value: Any) -> int:
    """Return bytes: a whole number, or "200MB" (200·10⁶), "200MiB" (200·2²⁰)."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('expected a size such as 4096, "200MB" or "200MiB"')
    number, decimal, binary = match.groups()
    factor = 1024 ** _DECIMAL["k" if binary == "K" else binary] if binary else 1000 ** _DECIMAL[decimal or ""]
    return int(float(number) * factor)


def parse_duration(value: Any) -> float:
    """Return seconds: a number, or "30s", "10m", "2h", "90d", "250ms"."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('expected a time such as 30, "30s", "10m" or "90d"')
    return float(match[1]) * _SECONDS[match[2] or ""]


def parse_rate(value: Any) -> int:
    """Return bytes a second: "200MB/s", or a size, which is then meant a second."""
    try:
        return parse_size(value.removesuffix("/s") if isinstance(value, str) else value)
    except ValueError:
        raise ValueError('expected a rate such as "200MB/s"') from None


def parse_mode(value: Any) -> int:
    """Return permission bits from an octal string such as "0644"."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError('expected permission bits as a string, such as "0644"')
    return int(value, 8)


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("expected a time above 0")
    return value


def _listener(value: str) -> str:
    try:
        endpoint_interface(value)
    except ValueError as error:
        raise ValueError(
            'expected a Twisted endpoint such as "tcp:10700:interface=127.0.0.1" or "unix:/run/datamover.sock"'
        ) from error
    return value


def _closed_listener(value: str) -> str:
    if not is_private_listener(_listener(value)):
        raise ValueError('expected a loopback or Unix listener, such as "tcp:10701:interface=127.0.0.1"')
    return value


def _absolute(value: Path) -> Path:
    value = value.expanduser()
    if not value.is_absolute():
        raise ValueError("expected an absolute path")
    return value


def endpoint_interface(description: str) -> str | None:
    """Return the address an endpoint string listens on: None for a Unix socket, "" for every address.

    Raises ValueError for anything but a tcp or unix server endpoint.
    """
    try:
        arguments, keywords = _parse_endpoint(description)
    except Exception as error:
        raise ValueError(str(error)) from error
    kind = arguments[0] if arguments else ""
    if kind == "unix" and len(arguments) > 1:
        return None
    if kind == "tcp" and (keywords.get("port") or (arguments[1] if len(arguments) > 1 else "")).isdigit():
        return str(keywords.get("interface", arguments[2] if len(arguments) > 2 else ""))
    raise ValueError(f"{description!r} is neither a tcp nor a unix endpoint")


def is_private_listener(description: str) -> bool:
    """Tell whether an endpoint string listens on loopback or a Unix socket alone."""
    interface = endpoint_interface(description)
    return interface is None or interface == "localhost" or interface == "::1" or interface.startswith("127.")


Size = Annotated[int, BeforeValidator(parse_size)]
Rate = Annotated[int, BeforeValidator(parse_rate)]
Duration = Annotated[float, BeforeValidator(parse_duration), AfterValidator(_positive)]
Mode = Annotated[int, BeforeValidator(parse_mode)]
Count = Annotated[int, Field(gt=0, strict=True)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Listener = Annotated[str, AfterValidator(_listener)]
ClosedListener = Annotated[str, AfterValidator(_closed_listener)]


class Section(BaseModel):
    """A table of the file; a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def default_data_directory() -> Path:
    """Return where the service keeps its own: /var/lib/datamover for root, else the user's data directory."""
    return Path("/var/lib/datamover") if os.geteuid() == 0 else Path(user_data_dir("datamover"))


class Service(Section):
    """``[service]``: this process."""

    listen: tuple[Listener, ...] = ("tcp:10700:interface=127.0.0.1",)
    data_directory: AbsolutePath = Field(default_factory=default_data_directory)
    roles: frozenset[Literal["api", "engine"]] = frozenset({"api", "engine"})
    max_active: Count = 32
    key_file: AbsolutePath | None = None
    hosts: tuple[str, ...] = ()
    """Host headers served beside the listeners' own names."""

    @property
    def key_path(self) -> Path:
        return self.key_file or self.data_directory / "key"


class Database(Section):
    """``[database]``: a given PostgreSQL; without ``url`` the embedded one."""

    url: str | None = None
    password_file: AbsolutePath | None = None
    connections: Count = 8


class DestinationTable(BaseModel):
    """``[destinations.NAME]``: what every protocol has; the protocol's own keys stay in ``model_extra``."""

    model_config = ConfigDict(frozen=True, extra="allow")

    url: str
    description: str = ""
    max_active: Count = 8
    bandwidth: Rate | None = None
    file_mode: Mode = 0o644
    directory_mode: Mode = 0o755
    verify: Literal["size", "read-back"] = "size"


class Credential(Section):
    """``[[sources.credentials]]``: a login sent to URLs under one prefix alone."""

    url: str
    token_file: AbsolutePath | None = None
    username: str | None = None
    password_file: AbsolutePath | None = None


class Sources(Section):
    """``[sources]``: which URLs a client may name."""

    allow: tuple[str, ...] | None = None
    allow_addresses: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()


class Http(Section):
    """``[http]``: how HTTP goes out."""

    proxy: str | None = None
    ca_file: AbsolutePath | None = None


class Transfers(Section):
    """``[transfers]``: the defaults of every job."""

    max_attempts: Count = 5
    connect_timeout: Duration = 30.0
    idle_timeout: Duration = 60.0
    min_rate: Rate = 1000
    min_rate_window: Duration = 300.0
    retry_base: Duration = 5.0
    retry_cap: Duration = 600.0


class Limits(Section):
    """``[limits]``: what one request may hold."""

    request_size: Size = 64 * 2**20
    files: Count = 100_000


class Client(Section):
    """``[clients.NAME]``: who may call, and for which destinations."""

    password_hash: str
    destinations: tuple[str, ...] | None = None
    admin: bool = False


class Console(Section):
    """``[console]``: the manhole."""

    telnet: ClosedListener | None = None
    username: str = "operator"
    password_hash: str | None = None


class Config(Section):
    """The whole file."""

    path: Path | None = None
    """Where it was read from; None: built-in defaults."""
    service: Service = Service()
    database: Database = Database()
    destinations: Mapping[str, DestinationTable] = {}
    sources: Sources = Sources()
    http: Http = Http()
    transfers: Transfers = Transfers()
    limits: Limits = Limits()
    clients: Mapping[str, Client] = {}
    console: Console = Console()


Table = TypeVar("Table", bound=BaseModel)


def check_table(model: type[Table], table: Mapping[str, Any], *, file: str, key: str = "") -> Table:
    """Return ``table`` as a ``model``; raise ConfigError in one line that names file, key, value and expectation."""
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        raise ConfigError(_sentence(file, key, error)) from None


def _sentence(file: str, prefix: str, error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in ((prefix, *first["loc"]) if prefix else first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"{file}: {key}: unknown key; see docs/configuration.md for those there are"
    if first["type"] == "missing":
        return f"{file}: {key}: missing, and there is no default"
    expected = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    value = first["input"]
    shown = "a table" if isinstance(value, dict) else repr(value)
    return f"{file}: {key} = {shown}: {expected}"


def find(explicit: str | None = None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the configuration file to read: the named one, the environment's, the local, the system's, or None."""
    if explicit:
        return Path(explicit)
    if environment.get(ENVIRONMENT_VARIABLE):
        return Path(environment[ENVIRONMENT_VARIABLE])
    return next((path for path in (LOCAL_FILE, SYSTEM_FILE) if path.exists()), None)


def load(path: Path | None) -> Config:
    """Read one file, or, with None, return the built-in configuration: one destination, ``local``, and loopback only.

    Raises ConfigError.
    """
    if path is None:
        service = Service()
        local = DestinationTable(
            url=(service.data_directory / "files").as_uri(), description="Files on this machine"
        )
        return Config(service=service, destinations={"local": local})
    try:
        text = path.read_bytes().decode("utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: expected a readable configuration file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    if "path" in tables:
        raise ConfigError(f"{path}: path: unknown key; see docs/configuration.md for those there are")
    config = check_table(Config, {**tables, "path": path.absolute()}, file=str(path))
    _check_whole(config, str(path))
    return config


def _check_whole(config: Config, file: str) -> None:
    """Check what no single key can tell."""
    for section, names in (("destinations", config.destinations), ("clients", config.clients)):
        for name in names:
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"{file}: {section}.{name}: expected a name of at most 63 letters, digits, '.', '_', '-'"
                )
    if not config.service.roles:
        raise ConfigError(f"{file}: service.roles = []: expected \"api\", \"engine\" or both")
    if not config.clients and "api" in config.service.roles:
        for listener in config.service.listen:
            if not is_private_listener(listener):
                raise ConfigError(
                    f"{file}: service.listen = {listener!r}: expected a loopback or Unix listener, "
                    "or at least one [clients.NAME] who may log in"
                )
    for name, client in config.clients.items():
        for destination in client.destinations or ():
            if destination not in config.destinations:
                raise ConfigError(
                    f"{file}: clients.{name}.destinations = {destination!r}: expected the name of a [destinations.NAME]"
                )
    for index, credential in enumerate(config.sources.credentials):
        here = f"{file}: sources.credentials.{index}"
        if urlsplit(credential.url).scheme not in ("http", "https") or not urlsplit(credential.url).hostname:
            raise ConfigError(f"{here}.url = {credential.url!r}: expected an http(s) URL prefix")
        basic = credential.username is not None and credential.password_file is not None
        if basic == (credential.token_file is not None):
            raise ConfigError(f"{here}: expected token_file, or username and password_file")
    if config.console.telnet and not config.console.password_hash:
        raise ConfigError(
            f"{file}: console.password_hash: missing: expected what `datamover-admin hash-password` prints"
        )

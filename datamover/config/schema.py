"""The model of ``datamover.toml``: one frozen class for each section.

These are the sections that every installation has; other packages declare theirs. The keys of a destination that
belong to its protocol are kept as they stand; the registry checks them. Secrets are never values: the configuration
names the files that hold them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from platformdirs import user_data_dir
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from datamover.bounds.calls import LEAST_ANSWER, LONGEST_URL
from datamover.config.identities import parse_identity
from datamover.config.layout import Layout
from datamover.config.listeners import Tls as Tls
from datamover.config.types import AbsolutePath as AbsolutePath
from datamover.config.types import ClosedListener, Count, Duration, Listener, Mode, Rate, Section, Size, within
from datamover.config.types import check_table as check_table
from datamover.config.units import positive


def default_data_directory() -> Path:
    """Return /var/lib/datamover for root, else the user's data directory."""
    return Path("/var/lib/datamover") if os.geteuid() == 0 else Path(user_data_dir("datamover"))


SHORTEST_LEASE = 3.0
"""Seconds."""


class Service(Section):
    """``[service]``: this process."""

    live = frozenset({"max_active", "hosts", "notify_secret_file"})

    listen: tuple[Listener, ...] = ("tcp:10700:interface=127.0.0.1",)
    data_directory: AbsolutePath = Field(default_factory=default_data_directory)
    roles: frozenset[Literal["api", "engine"]] = frozenset({"api", "engine"})
    max_active: Count = 32
    engine_processes: Count = 1
    """Processes that share the engine's work; 1: this process does it."""
    key_file: AbsolutePath | None = None
    hosts: tuple[str, ...] = ()
    """Host headers that are accepted beside the listeners' own names."""
    lease: Annotated[
        Duration, within(f"at least {SHORTEST_LEASE:.0f}s: a lease must outlive a moment's trouble", SHORTEST_LEASE)
    ] = 30.0
    """Seconds without a heartbeat before others take an engine's work; the same in all processes on a database."""
    notify_secret_file: AbsolutePath | None = None
    """Signs notices where no clients are configured."""

    @property
    def key_path(self) -> Path:
        return self.key_file or Layout(self.data_directory).key


class DatabaseSection(Section):
    """``[database]``: a given PostgreSQL; without ``url`` the embedded one."""

    url: str | None = None
    password_file: AbsolutePath | None = None
    connections: Count = 8


class DestinationTable(BaseModel):
    """``[destinations.NAME]``: the keys that all have; those of its protocol are in ``model_extra``."""

    model_config = ConfigDict(frozen=True, extra="allow")

    url: str
    description: str = ""
    max_active: Count = 8
    bandwidth: Annotated[Rate, AfterValidator(positive)] | None = None
    file_mode: Mode = 0o644
    directory_mode: Mode = 0o755
    verify: Literal["size", "read-back"] = "size"
    keep_free: Annotated[Size, AfterValidator(positive)] | None = None
    """Bytes that transfers leave free there; what would not fit waits."""


class Credential(Section):
    """``[[sources.credentials]]``: the login for the URLs under one prefix."""

    url: str
    token_file: AbsolutePath | None = None
    username: str | None = None
    password_file: AbsolutePath | None = None


class Sources(Section):
    """``[sources]``: which URLs a client may name."""

    live = None

    allow: tuple[str, ...] | None = None
    allow_addresses: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()


class Http(Section):
    """``[http]``: outgoing HTTP requests."""

    live = None

    proxy: str | None = None
    ca_file: AbsolutePath | None = None
    streams: Count = 4


class Transfers(Section):
    """``[transfers]``: the defaults of every job."""

    live = None

    max_attempts: Count = 5
    connect_timeout: Duration = 30.0
    idle_timeout: Duration = 60.0
    min_rate: Rate = 1000
    min_rate_window: Duration = 300.0
    retry_base: Duration = 5.0
    retry_cap: Duration = 600.0


class Limits(Section):
    """``[limits]``: the size of requests, of the queue, and of what is active over all processes."""

    live = None

    request_size: Size = 64 * 2**20
    files: Count = 100_000
    queued: Count = 1_000_000
    max_active: Count = 256
    per_owner: Count = 128
    per_source_host: Count = 32
    connections: Count = 500
    connections_per_address: Count = 100
    login_seconds: Duration = 10.0
    """How long a login may wait to be checked."""
    console_connections: Count = 32
    waiting_calls: Count = 1000
    checks: Count = 16
    """``jobs.check`` calls at once."""
    changes: Count = 10_000
    """Calls of one client in an hour that change jobs."""
    submitted: Count = 3_000_000
    """Files that one client submits in an hour: more than one machine moves."""
    url: Annotated[
        Size, within(f"at most {LONGEST_URL}: every status, event and line of the log tells it", most=LONGEST_URL)
    ] = 8 * 2**10
    """The length of a URL that a client names."""
    room_interval: Annotated[Duration, AfterValidator(positive)] = 10.0
    """Seconds between two questions to a destination, for what waits for room there."""
    answer_size: Annotated[
        Size, within(f"at least {LEAST_ANSWER}: a multicall has room for a refusal of each call", LEAST_ANSWER)
    ] = 32 * 2**20


class Jobs(Section):
    """``[jobs]``: how long ended jobs are kept."""

    live = None

    retention: Duration = 90 * 86_400.0


SHORTEST_AUDIT = 86_400.0
"""Seconds."""


class Audit(Section):
    """``[audit]``: how long the audit trail is kept."""

    live = None

    retention: Annotated[Duration, within("at least 1d: a trail is for looking back", SHORTEST_AUDIT)] = 365 * 86_400.0


class Client(Section):
    """``[clients.NAME]``: who may call, and for which destinations."""

    password_hash: str | None = None
    certificate: Annotated[str, AfterValidator(parse_identity)] | None = None
    """An identity in the client's certificate, or its fingerprint; a login without a password."""
    destinations: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    """Rules that narrow ``[sources]``; they allow nothing that it refuses."""
    admin: bool = False
    queued: Count | None = None
    """How many of its files may wait."""
    max_active: Count | None = None
    """Transfers at once, over all processes."""
    bytes_per_day: Size | None = None
    notify_secret_file: AbsolutePath | None = None


class Console(Section):
    """``[console]``: the manhole."""

    live = frozenset({"username", "password_hash", "authorized_keys_file"})

    telnet: ClosedListener | None = None
    ssh: ClosedListener | None = None
    username: str = "operator"
    password_hash: str | None = None
    authorized_keys_file: AbsolutePath | None = None
    """The public keys that may log in over SSH."""


class Monitor(Section):
    """``[monitor]``: who may read ``/metrics``."""

    live = frozenset({"public", "clients"})

    public: bool = False
    """Whether everybody may."""
    clients: tuple[str, ...] = ()
    """The clients that may, beside administrators."""
    listen: Listener | None = None
    """A further listener, for these pages alone: for a process without the role api."""


class Log(Section):
    """``[log]``: the form of log lines."""

    format: Literal["text", "json"] = "text"


class DeclaredSection(Section):
    """A section that another package declares and hands to the loader; a file may leave it out."""

    live: ClassVar[frozenset[str] | None] = None

    def check_with(self, config: "Config", here: str) -> None:
        """Check the section against the rest of the configuration.

        Raises ConfigError; its message begins with ``here``, which names the file and the section.
        """


class Config(Section):
    """The whole file."""

    path: Path | None = None
    """The file that was read; None: built-in defaults."""
    service: Service = Service()
    database: DatabaseSection = DatabaseSection()
    destinations: Mapping[str, DestinationTable] = {}
    sources: Sources = Sources()
    http: Http = Http()
    transfers: Transfers = Transfers()
    limits: Limits = Limits()
    jobs: Jobs = Jobs()
    audit: Audit = Audit()
    clients: Mapping[str, Client] = {}
    console: Console = Console()
    monitor: Monitor = Monitor()
    tls: Tls = Tls()
    log: Log = Log()

    @classmethod
    def declaring(cls, sections: Mapping[str, type[DeclaredSection]]) -> "type[Config]":
        """Return this model with further sections by their names, each None where the file leaves it out."""
        fields: dict[str, Any] = {name: (section | None, None) for name, section in sections.items()}
        return create_model("Config", __base__=cls, **fields)

    @property
    def declared(self) -> dict[str, DeclaredSection]:
        """The declared sections that the file has, by name."""
        return {name: section for name, section in self if isinstance(section, DeclaredSection)}

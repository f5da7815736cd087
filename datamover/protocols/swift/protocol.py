"""The declaration of the protocol "swift": its URLs and options."""

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import unquote

from pydantic import AfterValidator, model_validator

from datamover.concurrency.threads import Threads
from datamover.config.types import Size, within
from datamover.errors import DataMoverError
from datamover.protocols.base import Ability
from datamover.protocols.http.treq_client import TreqClient
from datamover.protocols.http_place.agent import agent_for
from datamover.protocols.http_place.secrets import secret_line
from datamover.protocols.object_store.urls import container_of, prefix_of
from datamover.protocols.place import DestinationPool, PlaceProtocol, PlaceSettings, ProtocolOptions
from datamover.protocols.swift.limits import LARGEST, LIMITS, LONGEST_NAME
from datamover.protocols.swift.urls import check_container, check_url, path_in
from datamover.protocols.tls.options import TlsOptions
from datamover.security.secret_files import SecretPath
from datamover.web.url import WebUrl, canonical_host

ABILITIES = frozenset(
    {
        Ability.READ,
        Ability.WRITE,
        Ability.LIST,
        Ability.RESUME,
        Ability.REPLACE,
        Ability.REPLACE_ATOMICALLY,
        Ability.REMOVE,
        Ability.SET_MODIFIED,
        Ability.FLUSH,
        Ability.FREE_SPACE,
        Ability.WRITE_WIDE,
    }
)
_VERSION = re.compile(r"/v(1|1\.0|3)/?$")
_WORDS = re.compile(r"[^\x00-\x1f\x7f]{1,255}")


def _auth_url(value: str) -> str:
    url = _url(value)
    if url is None or url.query is not None or not _VERSION.search(url.path):
        raise ValueError(
            'expected the address of a login that ends in "/v3" (Keystone) or "/v1.0" (the old way), '
            'such as "https://keystone.example.org/v3"'
        )
    return value


def _storage_url(value: str) -> str:
    url = _url(value)
    if url is None or url.query is not None:
        raise ValueError('expected the address of the account, such as "https://swift.example.org/v1/AUTH_portal"')
    return value


def _url(value: str) -> WebUrl | None:
    try:
        return WebUrl.parse(value)
    except DataMoverError:
        return None


def _words(value: str) -> str:
    if not _WORDS.fullmatch(value):
        raise ValueError("expected text of 1 to 255 characters")
    return value


def _host(name: str) -> str:
    try:
        return canonical_host(name)
    except ValueError:
        return name


Words = Annotated[str, AfterValidator(_words)]


class SwiftOptions(TlsOptions):
    """The login, and how objects are stored."""

    auth_url: Annotated[str, AfterValidator(_auth_url)]
    storage_url: Annotated[str, AfterValidator(_storage_url)] | None = None
    """None: as the login reports it."""
    username: Words | None = None
    password_file: SecretPath | None = None
    project: Words | None = None
    domain: Words = "Default"
    user_domain: Words | None = None
    """None: ``domain``; likewise ``project_domain``."""
    project_domain: Words | None = None
    application_credential_id: Words | None = None
    application_credential_secret_file: SecretPath | None = None
    region: Words | None = None
    """None: the only one that has storage."""
    interface: Literal["public", "internal", "admin"] = "public"
    segments_container: Annotated[str, AfterValidator(check_container)] | None = None
    """None: the container's name with "_segments" added."""
    part_size: Annotated[Size, within("a size from 1MiB to 5GiB", least=LIMITS.least, most=LARGEST)] = 64 * 2**20

    @property
    def is_keystone(self) -> bool:
        return self.auth_url.rstrip("/").endswith("/v3")

    @property
    def secret_file(self) -> tuple[str, Path]:
        """The option that names the secret's file, and the file."""
        if self.application_credential_secret_file is not None:
            return "application_credential_secret_file", self.application_credential_secret_file
        assert self.password_file is not None
        return "password_file", self.password_file

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        if self.application_credential_id is None and self.application_credential_secret_file is None:
            if self.username is None or self.password_file is None:
                raise ValueError("expected username and password_file, or an application credential of Keystone")
            if self.is_keystone and self.project is None:
                raise ValueError('expected project beside an auth_url that ends in "/v3"')
            return self
        if self.application_credential_id is None or self.application_credential_secret_file is None:
            raise ValueError("expected application_credential_id and application_credential_secret_file together")
        if not self.is_keystone:
            raise ValueError('expected an auth_url that ends in "/v3" beside an application credential')
        others = {"username", "password_file", "project", "domain", "user_domain", "project_domain"}
        if beside := sorted(others & self.model_fields_set):
            raise ValueError(
                f"expected no {beside[0]} beside an application credential, which has its user, project and domains"
            )
        return self


class SwiftProtocol:
    """``protocols.place.PlaceProtocol`` of prefixes in containers."""

    name: ClassVar[str] = "swift"
    schemes: ClassVar[tuple[str, ...]] = ("swift",)
    other_schemes: ClassVar[tuple[str, ...]] = ("swift+http", "swift+https")
    abilities: ClassVar[frozenset[Ability]] = ABILITIES
    counts_arriving: ClassVar[bool] = False
    longest_name: ClassVar[int] = LONGEST_NAME
    options: ClassVar[type[ProtocolOptions]] = SwiftOptions

    def check_url(self, url: str) -> None:
        """Raise ValueError unless the URL is swift://CONTAINER[/PREFIX]."""
        check_url(url)

    def root(self, url: str) -> str:
        return f"/{prefix_of(url)}"

    def host(self, url: str) -> str:
        """Return "", since the host of the service is an option."""
        return ""

    def user(self, url: str) -> str | None:
        return None

    def named(
        self, destination: str, options: Any, scheme: str, host: str | None, user: str | None, path: str
    ) -> str | None:
        """Return the path that ``swift+http(s)://[user@]host/[v1/account/]container/object`` names in a container."""
        storage = WebUrl.parse(options.storage_url) if options.storage_url is not None else None
        hosts = {url.host for url in (WebUrl.parse(options.auth_url), storage) if url is not None}
        if scheme not in self.other_schemes or user not in (None, options.username):
            return None
        if host is not None and _host(host) not in hosts:
            return None
        return path_in(container_of(destination), path, unquote(storage.path) if storage is not None else "")

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> DestinationPool:
        """Return the pool; it logs in when first used."""
        from datamover.protocols.swift.login.kinds import login_of
        from datamover.protocols.swift.login.session import Session
        from datamover.protocols.swift.pool import SwiftPool, SwiftStore

        self.check_url(settings.url)
        container = container_of(settings.url)
        segments = options.segments_container or f"{container}_segments"
        auth_url = WebUrl.parse(options.auth_url)
        storage = None if options.storage_url is None else WebUrl.parse(options.storage_url)
        # Two: if the disk with the secret hangs, digests are still computed.
        threads = Threads(reactor, f"destination-{settings.name}", 2)
        hosts = [auth_url.text] if storage is None else [auth_url.text, storage.text]
        # The storage that the login reports may be at another port of its host.
        tls = options.tls(settings.name, reactor.seconds)
        agent = agent_for(settings, hosts, tls, reactor, any_port=storage is None)
        treq = TreqClient(agent, reactor)

        async def secret() -> str:
            return await threads.run(secret_line, *options.secret_file)

        return SwiftPool(
            agent,
            Session(login_of(options, treq, secret), auth_url, storage, reactor.seconds),
            SwiftStore(container, prefix_of(settings.url), segments, options.part_size),
            settings.name,
            ABILITIES,
            threads,
            reactor,
        )


SWIFT: PlaceProtocol = SwiftProtocol()

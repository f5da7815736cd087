"""The declaration of the protocol "sftp": its URLs and options."""

from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import model_validator

from datamover.config.schema import AbsolutePath
from datamover.protocols.base import Ability
from datamover.protocols.part_files.accounts import AccountUrls
from datamover.protocols.place import DestinationPool, PlaceProtocol, PlaceSettings, ProtocolOptions
from datamover.security.secret_files import SecretPath
from datamover.web.paths import LONGEST_NAME

PORT = 22


class SftpOptions(ProtocolOptions):
    """The files that a login needs; they are read at every connect."""

    known_hosts_file: AbsolutePath
    private_key_file: SecretPath | None = None
    passphrase_file: SecretPath | None = None
    password_file: SecretPath | None = None

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        if self.private_key_file is None and self.password_file is None:
            raise ValueError("expected private_key_file or password_file")
        if self.passphrase_file is not None and self.private_key_file is None:
            raise ValueError("expected private_key_file beside passphrase_file")
        return self


class Sftp(AccountUrls):
    """``protocols.place.PlaceProtocol`` of accounts on SSH servers."""

    name: ClassVar[str] = "sftp"
    schemes: ClassVar[tuple[str, ...]] = ("sftp",)
    expected: ClassVar[str] = (
        'expected sftp://USER@HOST[:PORT]/ABSOLUTE/PATH, such as "sftp://datamover@vis.example.org/srv/data"'
    )
    other_schemes: ClassVar[tuple[str, ...]] = ("scp",)
    abilities: ClassVar[frozenset[Ability]] = frozenset(Ability)
    counts_arriving: ClassVar[bool] = True
    longest_name: ClassVar[int] = LONGEST_NAME
    options: ClassVar[type[ProtocolOptions]] = SftpOptions

    def check_url(self, url: str) -> None:
        """Raise ValueError unless the URL is sftp://USER@HOST[:PORT]/ABSOLUTE/PATH."""
        super().check_url(url)
        if not urlsplit(url).path:
            raise ValueError(self.expected)

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> DestinationPool:
        """Return the pool; it connects when first used."""
        from datamover.protocols.sftp.client.link import LinkSettings
        from datamover.protocols.sftp.pool import SftpPool
        from datamover.protocols.sftp.ssh.login import SecretFiles

        self.check_url(settings.url)
        server = LinkSettings(
            host=self.host(settings.url) or "",
            port=urlsplit(settings.url).port or PORT,
            user=self.user(settings.url) or "",
            files=SecretFiles(
                known_hosts=options.known_hosts_file,
                private_key=options.private_key_file,
                passphrase=options.passphrase_file,
                password=options.password_file,
            ),
            connect_timeout=settings.connect_timeout,
            idle_timeout=settings.idle_timeout,
        )
        return SftpPool(self.root(settings.url), server, settings, reactor)


SFTP: PlaceProtocol = Sftp()

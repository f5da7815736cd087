"""The secrets that notices are signed with, one for each client.

A secret is read from its file when it is used, and again when the file has changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from datamover.config.schema import Config
from datamover.errors import AuthenticationFailed, InvalidRequest, Scope
from datamover.web.credentials import SecretFile


@dataclass(frozen=True, slots=True)
class NoticeSecrets:
    """The files of the secrets, by client."""

    files: Mapping[str, SecretFile]
    everyone: SecretFile | None = None
    """For an installation without ``[clients]``."""
    clients: bool = False
    """Whether there are ``[clients]``."""

    @classmethod
    def from_config(cls, settings: Config) -> "NoticeSecrets":
        """Return the files that the configuration names; none is read."""
        named = {name: client.notify_secret_file for name, client in settings.clients.items()}
        files = {name: SecretFile(path) for name, path in named.items() if path is not None}
        path = settings.service.notify_secret_file
        return cls(files, SecretFile(path) if path is not None else None, bool(settings.clients))

    def check(self, client: str) -> None:
        """Raise InvalidRequest, naming the missing key, if a client's notices could not be signed."""
        if self._file(client) is None:
            raise InvalidRequest(
                f"is not available to client {client!r} without a secret to sign with: have the administrator set "
                f"{self._key(client)}"
            )

    def secret(self, client: str) -> str:
        """Return a client's secret; raises AuthenticationFailed, naming the key or the file."""
        file = self._file(client)
        if file is None:
            raise AuthenticationFailed(f"there is no secret to sign with: {self._key(client)}", scope=Scope.SERVICE)
        return file.read()

    def _file(self, client: str) -> SecretFile | None:
        return self.files.get(client) if self.clients else self.everyone

    def _key(self, client: str) -> str:
        return f"[clients.{client}] notify_secret_file" if self.clients else "[service] notify_secret_file"

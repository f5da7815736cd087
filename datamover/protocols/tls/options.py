"""The options of destinations that are reached by TLS."""

from collections.abc import Callable
from typing import Self

from pydantic import model_validator

from datamover.config.types import AbsolutePath
from datamover.protocols.place import ProtocolOptions
from datamover.protocols.tls.files import TlsFiles
from datamover.protocols.tls.verified import VerifiedTLS
from datamover.security.secret_files import SecretPath


class TlsOptions(ProtocolOptions):
    """Whom to trust, and the client certificate. A protocol's options derive from it."""

    ca_file: AbsolutePath | None = None
    certificate_file: AbsolutePath | None = None
    key_file: SecretPath | None = None

    @model_validator(mode="after")
    def _has_pair(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("expected certificate_file and key_file together")
        return self

    def tls(self, destination: str, seconds: Callable[[], float]) -> VerifiedTLS:
        """Return the ``VerifiedTLS`` of a destination; blocks.

        ``seconds`` is a monotonic clock. Raises ConfigError, which names the destination's key.
        """
        files = TlsFiles(f"destinations.{destination}", self.ca_file, self.certificate_file, self.key_file)
        return VerifiedTLS(files, seconds)


KEYS = frozenset(TlsOptions.model_fields)
"""The keys whose files are read when a destination is opened."""

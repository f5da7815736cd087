"""``[tls]``, and which listeners need a login and TLS.

By default a listener that is reached from other machines answers nobody without a login, and has TLS.
"""

from collections.abc import Collection, Mapping

from datamover.config.endpoints import is_private_listener, is_unix_listener
from datamover.config.types import AbsolutePath, Listener, Section
from datamover.errors import ConfigError


class Tls(Section):
    """``[tls]``: TLS of the listeners."""

    certificate_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    client_ca_file: AbsolutePath | None = None
    """The authorities that sign the certificates of clients."""
    plaintext: tuple[Listener, ...] = ()
    """Listeners without TLS; Unix sockets need not be named."""

    def covers(self, listener: str) -> bool:
        """Tell whether a listener speaks TLS."""
        return self.certificate_file is not None and not is_unix_listener(listener) and listener not in self.plaintext


def check_tls(tls: Tls, listeners: Collection[str], file: str) -> None:
    """Check ``[tls]`` against all the listeners that the file names; raises ConfigError."""
    if (tls.certificate_file is None) != (tls.key_file is None):
        raise ConfigError(f"{file}: tls: expected certificate_file and key_file, or neither")
    if tls.client_ca_file is not None and tls.certificate_file is None:
        raise ConfigError(f"{file}: tls.client_ca_file: expected certificate_file and key_file beside it")
    for listener in tls.plaintext:
        if listener not in listeners:
            raise ConfigError(
                f"{file}: tls.plaintext = {listener!r}: expected a listener as service.listen or monitor.listen has it"
            )


def check_listener(key: str, listener: str, *, tls: Tls, login: bool, public: bool = False, file: str) -> None:
    """Check that a listener for other machines asks for a ``login`` or is ``public``, and that logins are encrypted.

    Raises ConfigError.
    """
    if is_private_listener(listener):
        return
    if not login and not public:
        also = ", or public = true" if key == "monitor.listen" else ""
        raise ConfigError(
            f"{file}: {key} = {listener!r}: expected a loopback or Unix listener, "
            f"or at least one [clients.NAME] who may log in{also}"
        )
    if login and not tls.covers(listener) and listener not in tls.plaintext:
        raise ConfigError(
            f"{file}: {key} = {listener!r}: passwords would cross the network in the clear: expected a loopback or "
            "Unix listener, or certificate_file and key_file in [tls], or this listener named in [tls] plaintext"
        )


def check_certificates(certificates: Mapping[str, str], tls: Tls, file: str) -> None:
    """Check that client certificates can be verified and differ; ``certificates``: identities by client name."""
    owners: dict[str, str] = {}
    for name, certificate in certificates.items():
        if tls.client_ca_file is None:
            raise ConfigError(f"{file}: clients.{name}.certificate: expected [tls] client_ca_file beside it")
        if owners.setdefault(certificate, name) != name:
            raise ConfigError(
                f"{file}: clients.{name}.certificate = {certificate!r}: is client {owners[certificate]!r}'s already"
            )

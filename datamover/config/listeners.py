"""``[tls]``, and which listeners need a login and TLS.

By default a listener that is reached from other machines answers nobody without a login, and has TLS.
"""

from collections.abc import Collection, Iterator, Mapping

from datamover.config.endpoints import is_private_listener, is_unix_listener
from datamover.config.suggestions import did_you_mean
from datamover.config.types import AbsolutePath, Listener, Section


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


def tls_mistakes(tls: Tls, listeners: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with ``[tls]``, against all the listeners that the file names."""
    if (tls.certificate_file is None) != (tls.key_file is None):
        yield "tls: expected certificate_file and key_file, or neither"
    if tls.client_ca_file is not None and tls.certificate_file is None:
        yield "tls.client_ca_file: expected certificate_file and key_file beside it"
    for listener in tls.plaintext:
        if listener not in listeners:
            meant = did_you_mean(listener, listeners)
            yield f"tls.plaintext = {listener!r}: expected a listener as service.listen or monitor.listen has it{meant}"


def listener_mistakes(key: str, listener: str, *, tls: Tls, login: bool, public: bool = False) -> Iterator[str]:
    """Yield what is wrong with a listener for other machines, unless it asks for a ``login`` or is ``public``.

    Logins must be encrypted.
    """
    if is_private_listener(listener):
        return
    if not login and not public:
        also = ", or public = true" if key == "monitor.listen" else ""
        yield (
            f"{key} = {listener!r}: expected a loopback or Unix listener, "
            f"or at least one [clients.NAME] who may log in{also}"
        )
    if login and not tls.covers(listener) and listener not in tls.plaintext:
        yield (
            f"{key} = {listener!r}: passwords would cross the network in the clear: expected a loopback or "
            "Unix listener, or certificate_file and key_file in [tls], or this listener named in [tls] plaintext"
        )


def certificate_mistakes(certificates: Mapping[str, str], tls: Tls) -> Iterator[str]:
    """Yield what is wrong with client certificates: each can be verified, and no two are alike.

    ``certificates``: identities by client name.
    """
    owners: dict[str, str] = {}
    for name, certificate in certificates.items():
        if tls.client_ca_file is None:
            yield f"clients.{name}.certificate: expected [tls] client_ca_file beside it"
        if owners.setdefault(certificate, name) != name:
            yield f"clients.{name}.certificate = {certificate!r}: is client {owners[certificate]!r}'s already"

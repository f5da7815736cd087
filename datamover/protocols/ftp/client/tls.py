"""TLS of the control connection, and of its data connections, which resume its TLS session.

Servers require that, since it shows that the data comes from the client that logged in (require_ssl_reuse of vsftpd;
ProFTPD unless TLSOptions has NoSessionReuseRequired).
"""

from OpenSSL.SSL import Connection
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from datamover.protocols.tls.verified import VerifiedTLS


@implementer(IOpenSSLClientConnectionCreator)
class SessionTLS:
    """Twisted's connection creator for a control connection to ``host``; ``data`` returns one for each of its data."""

    def __init__(self, tls: VerifiedTLS, host: str) -> None:
        self._creator = tls.creator(host)
        self._control: Connection | None = None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:  # noqa: N802, N803
        self._control = connection = self._creator.clientConnectionForTLS(tlsProtocol)
        return connection

    def data(self) -> IOpenSSLClientConnectionCreator:
        assert self._control is not None, "the control connection has no TLS"
        return _DataTLS(self._creator, self._control)


@implementer(IOpenSSLClientConnectionCreator)
class _DataTLS:
    def __init__(self, creator: IOpenSSLClientConnectionCreator, control: Connection) -> None:
        self._creator = creator
        self._control = control

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:  # noqa: N802, N803
        connection = self._creator.clientConnectionForTLS(tlsProtocol)
        # As TLS 1.3 has it: the tickets come after the handshake, and the last one is the session's (RFC 8446, 4.6.1).
        session = self._control.get_session()
        if session is not None:
            connection.set_session(session)
        return connection

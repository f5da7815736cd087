"""Ask a server for its host keys, for a person to compare and to put into known_hosts."""

from collections.abc import Sequence
from typing import Any, NoReturn

from twisted.internet import error as failures
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol

from datamover import errors
from datamover.errors import DataMoverError
from datamover.protocols.sftp.ssh.algorithms import HOST_KEYS
from datamover.protocols.sftp.ssh.known_hosts import entry, entry_name
from datamover.protocols.sftp.ssh.transport import SshTransport

_KINDS = (HOST_KEYS[:1], HOST_KEYS[1:4], HOST_KEYS[4:])
"""Algorithms requested together: those of one type of key, of which a server mostly has one."""


class _Enough(DataMoverError):
    """The key has arrived; the connection can end."""


async def scan_host_key(reactor: Any, host: str, port: int, timeout: float) -> list[str]:  # noqa: ASYNC109 - the reactor has no deadlines of its own
    """Return the server's host keys as known_hosts lines, one for each type of key; they are not verified.

    ``timeout``, in seconds, covers all connections together. Cancelling drops the connection.
    Raises ConnectFailed where there is no SSH server, TimedOut, ConnectionLost.
    """

    def late(_: object, __: float) -> NoReturn:
        raise errors.TimedOut(f"{entry_name(host, port)} did not show its keys within {timeout:g} s")

    return await Deferred.fromCoroutine(_scan(reactor, host, port, timeout)).addTimeout(
        timeout, reactor, onTimeoutCancel=late
    )


async def _scan(reactor: Any, host: str, port: int, patience: float) -> list[str]:
    lines = []
    refused: DataMoverError | None = None
    for algorithms in _KINDS:
        try:
            key = await _key(HostnameEndpoint(reactor, host, port, timeout=patience), algorithms)
        except errors.ConnectFailed as error:
            refused = error
        except (failures.ConnectError, failures.DNSLookupError, OSError) as error:
            why = str(error).rstrip(".")
            raise errors.ConnectFailed(f"no connection to {entry_name(host, port)}: {why}") from None
        else:
            lines.append(entry(host, port, key))
    if not lines and refused is not None:
        raise refused
    return lines


async def _key(endpoint: HostnameEndpoint, algorithms: Sequence[bytes]) -> bytes:
    """Return the key that the server offers for ``algorithms``; completes when the connection is closed."""
    found: list[bytes] = []
    ended: Deferred[DataMoverError] = Deferred()

    def judge(key: bytes) -> DataMoverError:
        found.append(key)
        return _Enough("the key has come")

    transport = SshTransport(algorithms, judge, lambda _: None, ended.callback)
    try:
        await connectProtocol(endpoint, transport)  # type: ignore[no-untyped-call]
        reason = await ended
    except BaseException:
        if transport.transport is not None:
            transport.transport.abortConnection()
        raise
    if found:
        return found[0]
    raise reason.copy()

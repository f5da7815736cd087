"""Set a part file's metadata, flush it and close it, by requests that are sent together."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from datamover.protocols.base import Ability, Lack
from datamover.protocols.lacks import Lacks
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.messages import SftpError
from datamover.protocols.sftp.client.session import SftpSession, outcomes
from datamover.protocols.sftp.metadata import SftpMetadata


async def complete(
    session: SftpSession,
    handle: bytes,
    real: bytes,
    *,
    metadata: SftpMetadata,
    cut: int | None,
    close: Callable[[], Deferred[None]],
    before: Callable[[], Sequence[Deferred[Any]]] = tuple,
    lacks: Lacks,
) -> list[Lack]:
    """Set ``metadata``, flush, and ``close``; return what could not be done beside the metadata.

    The requests that ``before`` makes are sent together with these. With ``cut`` the file is cut to that many bytes; if
    the server refuses that, it stays too long. Otherwise no size is set: it would fill up what the server has lost.

    Raises SftpError and the connection's errors: of the requests made ``before``, of a flush that lost bytes, and of
    closing, since some servers report only then that they could not store the file.
    """
    with session.together():
        writing = before()
        setting = session.set(handle, metadata.attributes(cut))
        flushing = session.sync(handle) if session.can(messages.FSYNC) and Ability.FLUSH not in lacks else None
        closing = close()
    asked = [*writing, setting, *([flushing] if flushing is not None else []), closing]
    answers = await outcomes(*asked)
    for answer in (*answers[: len(writing)], answers[-1]):
        _raise(answer)
    without = []
    if flushing is not None:
        without = unflushed(answers[-2], lacks)
    refused = answers[len(writing)]
    if isinstance(refused, SftpError):
        await metadata.set_apart(session, real)
    else:
        _raise(refused)
    return without


def unflushed(answer: Any, lacks: Lacks) -> list[Lack]:
    """Return the lack if the server cannot flush; raises SftpError if it can, for then bytes were lost."""
    if not isinstance(answer, BaseException):
        lacks.saw(Ability.FLUSH)
        return []
    if not isinstance(answer, SftpError) or lacks.known(Ability.FLUSH) or answer.code in messages.FULL:
        raise answer
    return [lacks.learn(Ability.FLUSH, f"the server refuses it: {answer}")]


def _raise(answer: Any) -> None:
    if isinstance(answer, BaseException):
        raise answer

"""The errors of SSH servers: each names the side and says what a person can do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.part_files.refusals import FileServerRefusals
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.messages import SftpError
from datamover.text.redaction import safe_words


@dataclass(frozen=True, slots=True)
class ServerRefusals(FileServerRefusals):
    """The errors of the destination ``name``, logged in as ``user``, as it is used on ``side``."""

    @contextmanager
    def about(self, path: str) -> Iterator[None]:
        """Raise the server's refusals about ``path``, and errors of the connection, as errors of the side."""
        try:
            yield
        except SftpError as refusal:
            raise self.of(refusal, path) from refusal
        except DataMoverError as error:
            if error.scope is not Scope.TRANSFER:
                raise
            raise self.met(error) from error

    def of(self, refusal: SftpError, path: str) -> DataMoverError:
        code = f"status {refusal.code}"
        return self.told(partial(self._of, refusal, path), safe_words(refusal.words) or code, refusal.words or code)

    def _of(self, refusal: SftpError, path: str, said: str, give: str) -> DataMoverError:
        """Return the error, which quotes ``said`` and says who has to ``give`` a permission."""
        what, code, words = self.what(path), refusal.code, refusal.words.lower()
        if code == messages.NO_SUCH_FILE:
            return self.missing(path)
        if code in (messages.PERMISSION_DENIED, messages.WRITE_PROTECT):
            return self.denied(path, said, give)
        if code == messages.NO_SPACE or "no space" in words:
            return self.full(path)
        if code == messages.QUOTA or "quota" in words:
            return self.quota(path)
        if code == messages.BAD_MESSAGE or "name too long" in words:
            return errors.missing(self.side, f"{what} is a name that the server does not take ({said}); shorten it")
        return self.answers(path, said)

    def untold(self, path: str, error: DataMoverError) -> DataMoverError:
        return errors.ServerError(
            f"{self.what(path)}: the server tells no size of what arrived, and it cannot be read to be counted: "
            f"{error.message}",
            scope=self.side,
        )

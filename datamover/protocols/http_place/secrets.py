"""Read the secret in a file, which is mostly one line."""

from pathlib import Path

from datamover.errors import AuthenticationFailed
from datamover.security.secret_files import Unusable, read


def secret_line(option: str, path: Path, around: str | None = None) -> str:
    """Return the line in the file that ``option`` names, stripped of the characters ``around`` it (None: white space).

    Blocks. Raises AuthenticationFailed.
    """
    text = secret_text(option, path).strip(around)
    if not text or any(not sign.isprintable() for sign in text):
        raise AuthenticationFailed(f"{option} {path} does not hold one line of text")
    return text


def secret_text(option: str, path: Path) -> str:
    """Return the text in the file that ``option`` names. Blocks. Raises AuthenticationFailed."""
    try:
        return read(path).decode("utf-8")
    except OSError as error:
        raise AuthenticationFailed(f"{option} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AuthenticationFailed(f"{option} {path} does not hold text") from None
    except Unusable as error:
        raise AuthenticationFailed(f"{option}: {error.reason}") from None

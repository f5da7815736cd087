"""What the sections of the configuration are made of: a table that knows its keys, and the kinds of its values.

Each kind refuses what it is not with what was expected; which sections there are is ``config``'s business.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from datamover.addresses import endpoint_interface, is_private_listener
from datamover.units import parse_duration, parse_mode, parse_rate, parse_size, positive


def _listener(value: str) -> str:
    try:
        endpoint_interface(value)
    except ValueError as error:
        raise ValueError(
            'expected a Twisted endpoint such as "tcp:10700:interface=127.0.0.1" or "unix:/run/datamover.sock"'
        ) from error
    return value


def _closed_listener(value: str) -> str:
    if not is_private_listener(_listener(value)):
        raise ValueError('expected a loopback or Unix listener, such as "tcp:10701:interface=127.0.0.1"')
    return value


def _absolute(value: Path) -> Path:
    try:
        value = value.expanduser()
    except RuntimeError:
        raise ValueError("expected an absolute path, or ~ and the name of a user who has a home directory") from None
    if not value.is_absolute():
        raise ValueError("expected an absolute path")
    return value


Size = Annotated[int, BeforeValidator(parse_size), AfterValidator(positive)]
Rate = Annotated[int, BeforeValidator(parse_rate)]
Duration = Annotated[float, BeforeValidator(parse_duration), AfterValidator(positive)]
Mode = Annotated[int, BeforeValidator(parse_mode)]
Count = Annotated[int, Field(gt=0, strict=True)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Listener = Annotated[str, AfterValidator(_listener)]
ClosedListener = Annotated[str, AfterValidator(_closed_listener)]


class Section(BaseModel):
    """A table of the file; a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

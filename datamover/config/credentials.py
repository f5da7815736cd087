"""Credentials that a service manager hands over: files in a directory of the service's own (systemd's LoadCredential).

The configuration names one as ``credential:NAME`` wherever it takes a path.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "CREDENTIALS_DIRECTORY"
PREFIX = "credential:"

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")


def resolve(text: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the file that ``credential:NAME`` means; raises ValueError with what was expected."""
    name = text.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise ValueError('expected the name of a credential, such as "credential:portal-token"')
    if not environment.get(VARIABLE):
        raise ValueError(
            f"nobody handed over credentials: start it as a systemd service with LoadCredential={name}:FILE, or set "
            f"${VARIABLE} to a directory that holds a file {name}"
        )
    return Path(environment[VARIABLE]) / name

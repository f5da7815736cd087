"""A child engine process: ``python -m datamover.engine_process``, started by ``datamover.processes``.

The first line of standard input is its configuration; the end of standard input tells it to stop. Status messages and
log lines go to standard output. It takes no arguments and reads no file or environment variable of its own.
"""

import os
import sys
from contextlib import suppress

from twisted.logger import globalLogBeginner

from datamover.errors import ConfigError
from datamover.monitor.logs import json_observer
from datamover.processes.messages import ChildConfig, StatusMessage
from datamover.tap import run_engine_process


def main() -> None:
    """Run until standard input ends or a signal comes; exit with status 1 if the configuration cannot be used."""
    with suppress(PermissionError):  # The process leads a group already.
        os.setsid()  # A terminal's ^C goes to the parent alone, which stops its children in order.
    line = sys.stdin.buffer.readline()
    if not line:
        return
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    globalLogBeginner.beginLoggingTo([json_observer(sys.stdout)], redirectStandardIO=False)
    try:
        run_engine_process(ChildConfig.from_line(line), sys.stdin.fileno(), sys.stdout.write)
    except ConfigError as error:
        sys.stdout.write(StatusMessage(False, given_up=error.message).line())
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()

"""One of several engine processes: ``python -m datamover.engine_process``, as ``datamover.processes`` starts it.

It reads its configuration from standard input, whose end of file stops it, and writes status messages and log lines to
standard output. It depends on no argument, no file of its own and no environment variable.
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
    """Run until standard input ends or a signal comes; if that cannot be, send why and exit with status 1."""
    with suppress(PermissionError):  # This process leads a process group already.
        os.setsid()  # So that a terminal's ^C reaches the parent alone, which then stops this process in order.
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

"""A child for the tests of ``datasets.process``: it does as its request says."""

import errno
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

from datamover.datasets.child import Report, serve
from datamover.errors import DataMoverError, DatasetEmpty


class _Strange(DataMoverError):
    code = "STRANGE"


def work(request: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    what = request["do"]
    if what == "refuse":
        raise DatasetEmpty("nothing there")
    if what == "strange":
        raise _Strange("what is this")
    if what == "full":
        raise OSError(errno.ENOSPC, "full")
    if what == "crash":
        raise ZeroDivisionError
    if what == "hungry":
        return {"value": len(bytearray(2**31))}
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "silent":
        sys.exit(0)
    if what == "sleep":
        report({"pid": os.getpid()})
        time.sleep(60)
    report({"rows": 1})
    report({"rows": 2})
    print("something else")
    return {"value": request["value"]}


if __name__ == "__main__":
    serve(work)

"""Move a file and wait for it: move.py SOURCE DESTINATION PATH [SIZE]

DATAMOVER_URL is https://HOST:10700/data_mover, DATAMOVER_LOGIN is NAME:PASSWORD,
DATAMOVER_CA a file with the certificate authority to trust (default: the system's).
"""

import os
import socket
import ssl
import sys
from base64 import b64encode
from http.client import HTTPException
from xmlrpc.client import Error, Fault, ServerProxy

WAIT = 60  # seconds: the most that jobs.wait takes
ENDED = ("COMPLETED", "PARTIAL", "FAILED", "CANCELLED")


def main(source, destination, path, size=None):
    socket.setdefaulttimeout(WAIT + 30)  # longer than jobs.wait
    url = os.environ["DATAMOVER_URL"]
    login = b64encode(os.environ["DATAMOVER_LOGIN"].encode()).decode()
    tls = ssl.create_default_context(cafile=os.environ.get("DATAMOVER_CA"))
    mover = ServerProxy(
        url, headers=[("Authorization", f"Basic {login}")], context=tls if url.startswith("https:") else None
    )

    request = {"source": source, "destination": destination, "path": path, "label": f"Python: {path}"}
    if size:
        request["size"] = float(size)  # xmlrpc.client's int ends at 2 GiB
    id = mover.jobs.submit(request)["id"]
    while True:
        job = mover.jobs.wait(id, WAIT)
        done, total = int(job["bytes_done"]), int(job.get("bytes_total", 0))
        print(f"job {id}, {job['label']}: {job['status']}, {done} of {total} bytes")
        if job["status"] in ENDED:
            break
    if job["status"] != "COMPLETED":
        sys.exit(job["error"]["message"])
    for file in mover.jobs.files(id):
        print(f"{file['path']}: {int(file['size'])} bytes, {file['digest']}")


try:
    main(*sys.argv[1:])
except Fault as fault:
    sys.exit(fault.faultString)
except (Error, OSError, HTTPException) as error:
    sys.exit(f"no answer: {error}")

"""An engine that kills or stops itself at a named point of a transfer.

Nothing of the service is replaced; where the point is reached, the process is gone, as by kill -9. Nor does it tell of
progress before it must: what another has to know by then was told for that, and not by chance.
"""

import os
from functools import wraps
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any

from datamover.engine import recorder

STORY = {
    "claimed": ("datamover.jobs.queue.queue", "Queue.claim", "after"),
    "source opened": ("datamover.engine.transfer.transfer", "_Transfer._open", "after"),
    "part file opened": ("datamover.engine.transfer.pipe", "Pipe.pump", "before"),
    "all sent": ("datamover.engine.transfer.pipe", "Pipe.pump", "after"),
    "verified": ("datamover.engine.transfer.transfer", "_Transfer._finish", "after"),
    "about to be placed": ("datamover.engine.transfer.transfer", "place", "before"),
    "placed": ("datamover.engine.transfer.transfer", "place", "after"),
    "about to be written down": ("datamover.jobs.queue.queue", "Queue.settle", "before"),
    "written down": ("datamover.jobs.queue.queue", "Queue.settle", "after"),
    "archive made": ("datamover.engine.groups.group", "GroupAttempt._archive", "after"),
    "placement written down": ("datamover.jobs.queue.queue", "Queue.placing", "after"),
    "archive placed": ("datamover.engine.groups.group", "commit", "after"),
}
"""Name -> module, function, whether before or after it."""
POINTS = {
    **STORY,
    "asked": ("datamover.jobs.store", "JobStore.submit", "after"),
    "claiming": ("datamover.jobs.queue.claims", "members", "before"),
    "about to be put on a disk": ("datamover.protocols.local.place", "LocalPlace.put_part", "before"),
    "about to be put over SFTP": ("datamover.protocols.sftp.place", "SftpPlace.put_part", "before"),
    "part file about to be opened": ("datamover.protocols.local.place", "LocalPlace.open_part", "before"),
    "part file about to be made": ("datamover.protocols.local.disk", "Disk.open_part", "before"),
    "part file made": ("datamover.protocols.local.disk", "Disk.open_part", "after"),
    "old file set aside": ("datamover.protocols.sftp.aside", "set_aside", "after"),
    "file begun": ("datamover.protocols.ftp.client.session", "FtpSession.store", "after"),
    "file about to be renamed": ("datamover.protocols.ftp.client.session", "FtpSession.rename", "before"),
    "file renamed": ("datamover.protocols.ftp.client.session", "FtpSession.rename", "after"),
    "file set aside": ("datamover.protocols.ftp.aside", "set_aside", "after"),
    "aside about to go": ("datamover.protocols.ftp.placing", "FtpPlacement.settle", "before"),
    "upload about to be made": ("datamover.protocols.s3.bucket", "Bucket.create_upload", "before"),
    "upload made": ("datamover.protocols.s3.bucket", "Bucket.create_upload", "after"),
    "part sent": ("datamover.protocols.s3.bucket", "Bucket.put_part", "after"),
    "about to be completed": ("datamover.protocols.s3.bucket", "Bucket.complete", "before"),
    "completed": ("datamover.protocols.s3.bucket", "Bucket.complete", "after"),
    "service tried out": ("datamover.protocols.s3.bucket", "Bucket.put", "after"),
    "about to be put": ("datamover.protocols.object_store.conditions", "Conditions.put", "before"),
    "put": ("datamover.protocols.object_store.conditions", "Conditions.put", "after"),
    "about to be aborted": ("datamover.protocols.s3.bucket", "Bucket.abort_upload", "before"),
    "segment sent": ("datamover.protocols.swift.large_objects", "LargeObjects.put", "after"),
    "manifest about to be made": ("datamover.protocols.swift.large_objects", "LargeObjects.make", "before"),
    "manifest made": ("datamover.protocols.swift.large_objects", "LargeObjects.make", "after"),
    "replaced noted": ("datamover.protocols.swift.large_objects", "LargeObjects.note", "after"),
    "object put": ("datamover.protocols.swift.container", "Container.put", "after"),
    "segments about to go": ("datamover.protocols.swift.large_objects", "LargeObjects.drop", "before"),
    "server tried": ("datamover.protocols.dav.habits", "Habits._try_in", "after"),
    "whole sent": ("datamover.protocols.dav.files", "DavFiles.stream", "after"),
    "about to be moved": ("datamover.protocols.dav.place", "DavPlace._take_name", "before"),
    "moved": ("datamover.protocols.dav.place", "DavPlace._take_name", "after"),
    "chunks about to be begun": ("datamover.protocols.dav.chunks", "DavStore.begin_upload", "before"),
    "chunks begun": ("datamover.protocols.dav.chunks", "DavStore.begin_upload", "after"),
    "chunk sent": ("datamover.protocols.dav.chunks", "DavStore.put_part", "after"),
    "about to be put together": ("datamover.protocols.dav.chunks", "DavStore.complete", "before"),
    "put together": ("datamover.protocols.dav.chunks", "DavStore.complete", "after"),
}
NEVER = 3600.0
"""Seconds between two writes of progress."""


def install(point: str, number: int) -> None:
    """Have this process send itself a signal at ``point``, the first time that it gets there."""
    recorder.INTERVAL = NEVER
    module, path, when = POINTS[point]
    holder: Any = import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    original = getattr(holder, name)
    signals = iter([number])

    def signal_once() -> None:
        for each in signals:
            os.kill(os.getpid(), each)

    @wraps(original)
    async def ending(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            signal_once()
        result = await original(*arguments, **named)
        if when == "after" and (result or name != "claim"):
            signal_once()
        return result

    @wraps(original)
    def ending_in_a_thread(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            signal_once()
        result = original(*arguments, **named)
        if when == "after":
            signal_once()
        return result

    setattr(holder, name, ending if iscoroutinefunction(original) else ending_in_a_thread)

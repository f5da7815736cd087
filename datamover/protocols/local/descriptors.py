"""What is done alike to every open file of a local disk."""

import errno
import os


def close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError as error:
        # EBADF is a bug of ours; anything else tells of bytes that were flushed before or are given up.
        if error.errno == errno.EBADF:
            raise


def set_modified(descriptor: int, modified: float) -> None:
    """Set a file's modification time, POSIX seconds, as far as its file system can hold it."""
    nanoseconds = round(modified * 1e9)
    try:
        os.utime(descriptor, ns=(nanoseconds, nanoseconds))
    except OverflowError:
        return
    except OSError as error:
        # A time that the file system cannot hold is no reason not to have the file.
        if error.errno != errno.EINVAL:
            raise

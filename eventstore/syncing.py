"""Names of files survive a power cut only where their directory was synced: syncing the files does not do that."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def sync_names(directory: Path) -> None:
    """Have the names in a directory on the disk. Raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing; SQLite goes on there too
            raise
    finally:
        os.close(descriptor)

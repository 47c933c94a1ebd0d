"""Files that are written whole or not at all, whoever else writes them and whenever the process ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside `path` to be written within, which takes its place in one step, or goes where that raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """Write a file in one step, and through to the disk: whoever reads it finds the old bytes or the new ones.

    OSError, which says that the old ones are kept, where it cannot be written.
    """
    try:
        with replacing(path) as draft, open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise refused(path, error) from None
    directory = os.open(path.parent, os.O_RDONLY)  # the rename itself must reach the disk too
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def refused(path: Path, error: OSError) -> OSError:
    """The same error in a sentence, for a path that could not be written."""
    kept = "what was stored before is kept. Mend this and start again"
    return OSError(error.errno, f"{path} could not be written ({error.strerror}): {kept}")

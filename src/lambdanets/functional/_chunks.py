"""Parts of a batch that fit a workspace."""

from collections.abc import Iterator


def chunks(count: int, bytes_each: int, workspace: int) -> Iterator[slice]:
    """Slices that cover `count` items in order, each of as many as fit, and of one at least."""
    size = max(1, workspace // max(1, bytes_each))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))

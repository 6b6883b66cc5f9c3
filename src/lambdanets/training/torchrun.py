"""What torchrun tells the processes it starts; without torch."""

import os


def process_rank() -> int:
    """The number of this process over all machines; 0 without torchrun."""
    return int(os.environ.get("RANK", 0))


def local_rank() -> int:
    """The number of this process on its machine; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK", 0))


def world_size() -> int:
    """How many processes work together; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1))

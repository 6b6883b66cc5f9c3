"""The one reader of variables that others set: ranks of a launcher, the parent, folders of a user."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambdanets.errors import ArgumentError

# The variable by which a parent tells its number.
PARENT: Final = "LAMBDANETS_PARENT"

# What a launcher such as torchrun sets for processes that work together.
_ADDRESS: Final = ("MASTER_ADDR", "MASTER_PORT")
_OF_LAUNCHERS: Final = (
    *("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", *_ADDRESS),
    "TORCHELASTIC_RESTART_COUNT",
)
_MOST: Final = 10**6


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among those that a launcher has started.

    Attributes:
        rank: Its number over all machines.
        local_rank: Its number on its machine.
        size: How many there are.
        local_size: How many of them are on its machine, where the launcher says so.
        restarts: How often they were started again.
    """

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    local_size: int = 1
    restarts: int = 0


def read_world() -> World:
    """Read the place of this process; alone where no launcher has set one.

    Raises:
        ArgumentError: A variable is no number, does not fit the others, or stands without those it needs.
    """
    size, rank, local_rank = (_number(name) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
    restarts = _number("TORCHELASTIC_RESTART_COUNT") or 0
    if size is None:
        for name, value in (("RANK", rank), ("LOCAL_RANK", local_rank)):
            if value is not None:
                raise _refused(name, "stand beside WORLD_SIZE", value)
        return World()
    if not 1 <= size <= _MOST:
        raise _refused("WORLD_SIZE", f"be from 1 to {_MOST:,}", size)
    if rank is None and size > 1:
        raise _refused("WORLD_SIZE", "stand beside RANK, MASTER_ADDR and MASTER_PORT", size)
    for name, value in (("RANK", rank), ("LOCAL_RANK", local_rank)):
        if value is not None and not 0 <= value < size:
            raise _refused(name, f"be from 0 to {size - 1}, below WORLD_SIZE", value)
    local_size = _number("LOCAL_WORLD_SIZE")
    if local_size is not None and not (local_rank or 0) < local_size <= size:
        wanted = f"be above LOCAL_RANK, {local_rank or 0}, and at most WORLD_SIZE, {size}"
        raise _refused("LOCAL_WORLD_SIZE", wanted, local_size)
    return World(
        rank=rank or 0, local_rank=local_rank or 0, size=size, local_size=local_size or 1, restarts=restarts
    )


def is_first() -> bool:
    """Say if this process speaks for all of its world: it is alone, or its place cannot be read."""
    try:
        return read_world().rank == 0
    except ArgumentError:
        return True


def read_address() -> str:
    """Read where processes that work together meet, as `host:port`.

    Raises:
        ArgumentError: A part is missing, or the port is none.
    """
    for name in _ADDRESS:
        if not os.environ.get(name):
            raise _refused(name, "stand beside WORLD_SIZE above 1", "none")
    port = _number("MASTER_PORT")
    if port is None or not 1 <= port <= 65535:
        raise _refused("MASTER_PORT", "be from 1 to 65535", port)
    return f"{os.environ['MASTER_ADDR']}:{port}"


def launcher_variables() -> str:
    """The variables of a launcher that are there, as words of a command."""
    return " ".join(name for name in _OF_LAUNCHERS if name in os.environ)


def is_launched() -> bool:
    """Say if torchrun, or something like it, has started this process as one of several."""
    return {"RANK", "WORLD_SIZE", *_ADDRESS} <= os.environ.keys()


def starts_processes(who: str, num: int) -> bool:
    """Say if a command has to start processes itself: not if none are asked for, nor as one of those.

    Args:
        who: The command.
        num: How many are asked for; 0: none.

    Raises:
        ArgumentError: Another launcher has started this process as one of several.
    """
    world = read_world()
    if world.size > 1:
        read_address()
    if not num or (PARENT in os.environ and is_launched()):
        return False
    if world.size > 1:
        raise ArgumentError(
            f"{who}: processes must be left out where a launcher has started several, got {num} beside"
            f" WORLD_SIZE={world.size}. Without a launcher: unset {launcher_variables()}"
        )
    return True


def read_parent() -> int | None:
    """Read the number of the process of ours that started this one; None where it was none.

    Raises:
        ArgumentError: It is no number.
    """
    return _number(PARENT)


def cache_folder() -> Path | None:
    """The folder of a user's caches; None where the user has no home, as an unknown one in a container."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # The rule of such folders: relative ones are ignored.
    if Path(given).is_absolute():
        return Path(given)
    home = os.path.expanduser("~")  # noqa: PTH111
    return Path(home, ".cache") if Path(home).is_absolute() else None


def _number(name: str) -> int | None:
    text = os.environ.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,9}", text.strip(), re.ASCII):
        raise _refused(name, "be a whole number", repr(text[:40]))
    return int(text)


def _refused(name: str, requirement: str, value: object) -> ArgumentError:
    listed = PARENT if name == PARENT else launcher_variables()
    return ArgumentError(
        f"environment: {name} must {requirement}, got {value}. A launcher such as torchrun sets all that it"
        f" needs; without one: unset {listed}"
    )

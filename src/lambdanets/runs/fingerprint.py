"""What decides the numbers of a run, in its checkpoints and weights: data, libraries, processor; compared."""

from collections.abc import Collection, Mapping
from typing import Any

from lambdanets.data.differences import data_changes
from lambdanets.errors import CheckpointError, DataError
from lambdanets.reading import check_fields, reading
from lambdanets.runs.origin import libraries, processor
from lambdanets.training.content import FINGERPRINT


def fingerprint(
    data: Mapping[str, Any], *, device: str = "cpu", threads: int, processes: int = 1
) -> dict[str, Any]:
    """Describe what decides the numbers of a run beside its settings.

    Args:
        data: As `fingerprint_task` describes it.
        device: The kind of device that computes: cpu or cuda.
        threads: Threads of each process.
        processes: How many processes work together.
    """
    return {
        "data": dict(data),
        "libraries": libraries(),
        "processor": processor(device),
        "threads": threads,
        "processes": processes,
    }


def stored_fingerprint(
    described: Mapping[str, Any], where: object, error: type[Exception] = CheckpointError
) -> dict[str, Any] | None:
    """The fingerprint in a description of weights or labels; None in those of earlier versions.

    Args:
        described: The description.
        where: The file that it is from, for the message.
        error: The class of the error where it cannot be understood.
    """
    found = described.get("fingerprint")
    if found is None:
        return None
    with reading("fingerprint", where, "say on which data and by what it was made", error):
        check_fields(found, FINGERPRINT)
    return dict(found)


def resume_changes(
    old: Mapping[str, Any] | None, new: Mapping[str, Any], where: object, allow: Collection[str]
) -> list[str]:
    """Compare the fingerprint of a checkpoint with that of the run that continues it.

    Other classes and other images change what is learned and what a number says: they are refused unless
    they are in `allow`. Other versions of libraries and another processor change the last digits of each
    step alone, and a machine that is replaced must not end a run: they are told.

    Args:
        old: That of the checkpoint; None: nothing is compared.
        new: That of the run.
        where: The checkpoint.
        allow: Names of differences that are accepted.

    Returns:
        The differences, old -> new, each led by its name.

    Raises:
        CheckpointError: A difference is refused.
    """
    if old is None:
        return []
    data = data_changes(old["data"], new["data"])
    refused = {name: text for name, text in data.items() if name not in allow}
    if len(old["data"]["classes"]) != len(new["data"]["classes"]):
        raise CheckpointError(
            f"resume: {where} must be of a training on {len(new['data']['classes'])} classes, got other"
            f" data, old -> new:\n{_listed(data)}\nAnother number of classes is another network: train it"
            " with another --out. --init gives it the weights of this one."
        )
    if refused:
        raise CheckpointError(
            f"resume: {where} must be of a training on the same data, got others, old -> new:\n"
            f"{_listed(refused)}\nTo go on all the same: --resume-allow {' '.join(refused)}"
        )
    return [f"{name}: {text}" for name, text in {**data, **_machine_changes(old, new)}.items()]


def check_same_data(old: Mapping[str, Any] | None, new: Mapping[str, Any], who: str, where: object) -> None:
    """Raise where data are others than those that a checkpoint was trained on.

    Args:
        old: The fingerprint of the checkpoint; None: nothing is compared.
        new: The data as they are now, as `fingerprint_task` describes them.
        who: The command that complains.
        where: The checkpoint.
    """
    changes = data_changes(old["data"], new) if old else {}
    if changes:
        raise DataError(
            f"{who}: the images must be those that {where} was trained on, got others, old -> new:\n"
            f"{_listed(changes)}"
        )


def _listed(changes: Mapping[str, str]) -> str:
    return "\n".join(f"  {name}: {text}" for name, text in changes.items())


def _machine_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Name the libraries and the processor that differ; a library that is there once alone is none."""
    pairs = [(name, version, new["libraries"].get(name)) for name, version in old["libraries"].items()]
    others = [f"{name} {before} -> {after}" for name, before, after in pairs if after not in (None, before)]
    changes = {"libraries": ", ".join(others)} if others else {}
    if old["processor"] != new["processor"]:
        changes["processor"] = f"{old['processor']} -> {new['processor']}"
    return changes


def made_elsewhere(made: Mapping[str, Any] | None) -> str | None:
    """Say by which other libraries and processor weights were made than what uses them now; None: by none.

    Args:
        made: The fingerprint of the weights; None: nothing is compared.
    """
    if made is None:
        return None
    kind = made["processor"].partition(" ")[0]
    here = {"libraries": libraries(), "processor": processor(kind)}
    changes = _machine_changes(made, here)
    if not changes:
        return None
    return f"trained with {', '.join(changes.values())}: the last digits may differ"

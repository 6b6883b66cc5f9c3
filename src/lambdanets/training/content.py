"""What checkpoints and descriptions of weights must hold: a whole file may say what no run would write."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

from lambdanets.errors import CheckpointError
from lambdanets.reading import Number, UnreadableError, check_fields, reading
from lambdanets.training.config import RunConfig
from lambdanets.training.run_names import checkpoint_step

if TYPE_CHECKING:
    from torch import Tensor

    from lambdanets.training.checkpoint import Checkpoint

_COUNT: Final = Number(int, 0)
_AMOUNT: Final = Number(float, 0)
_SIZE: Final = Number(int, 1, 10**7)
_PLACE: Final = {"epoch": _COUNT, "step": _COUNT}

_PART: Final = {
    "images": _COUNT,
    "objects?": _COUNT,
    "by_class?": [_COUNT],
    "digest?": str,
    # -1 for a file that could not be read.
    "sizes?": [Number(int, -1)],
}
# What decides the numbers of a run beside its settings, as `runs.fingerprint` gives it.
FINGERPRINT: Final = {
    "data": {"classes": [str], "train": _PART, "test": _PART, "pseudo?": {"images": _COUNT, "digest": str}},
    "libraries": {str: str},
    "processor": str,
    "threads": _COUNT,
    "processes": _COUNT,
}

# A description of weights, in a header, beside them or in a checkpoint; the config of a run is one too.
_DESCRIPTION: Final = {
    "model": {"name": str, "overrides": {}, "num_classes?": _SIZE, "in_channels?": _SIZE},
    "labels?": [str],
    "preprocessing?": {},
    "metric?": _PLACE,
    "sha256?": str,
    "weights?": str,
    "recipe?": str,
    "parameters?": _COUNT,
    "fingerprint?": FINGERPRINT,
}

# The plain numbers of a checkpoint.
_RECORD: Final[dict[str, Any]] = {
    "step": _COUNT,
    "ema_updates": _COUNT,
    "seconds": _AMOUNT,
    "meter": {"loss_sum": float, "count": _COUNT, "seconds": _AMOUNT, "sums?": {str: float}},
    "best?": {"epoch": _COUNT, "step": _COUNT, "weights?": str},
    "events": {
        "unreadable": [str],
        "unreadable_in_a_row": _COUNT,
        "skipped_steps": [_COUNT],
        "skipped_in_a_row": _COUNT,
        "failed_saves": _COUNT,
        "failed_saves_in_a_row": _COUNT,
    },
    "scaler?": {str: _AMOUNT},
    "world_size": _SIZE,
    "config": _DESCRIPTION,
    "description?": _DESCRIPTION,
    "tensors?": {str: _COUNT},
}
# Names that they had in earlier versions, or since.
_EARLIER: Final = {"meter": {"correct"}, "events": {"passed_over", "rolled_back_steps"}}
# They may be null, and are there.
_NULLABLE: Final = ("best", "scaler")
_GROUPS: Final = ("model", "ema", "optimizer")
# What a best epoch is chosen by, of classifiers and of detectors.
_CHOSEN_BY: Final = {"test_correct", "box_ap"}
_WEIGHTS: Final = ("ema", "raw")


def check_description(described: Mapping[str, Any], who: str, where: object) -> None:
    """Raise unless a record describes a network and what it takes and gives.

    Args:
        described: The record.
        who: The public function that complains.
        where: The file it is from.

    Raises:
        CheckpointError: It does not.
    """
    with reading(who, where, "describe a model", CheckpointError):
        check_fields(described, _DESCRIPTION)


def check_described(record: Mapping[str, Any], who: str, where: object) -> None:
    """Raise unless the record of a checkpoint says of which step and of which network its weights are.

    The arguments and the error are those of `check_description`.
    """
    fields = {name: _RECORD[name] for name in ("step", "config", "description?")}
    with reading(who, where, "describe a model", CheckpointError):
        check_fields(record, fields)


def check_content(checkpoint: "Checkpoint") -> None:
    """Raise unless a checkpoint holds what a run has written, so that the one before can take its place.

    Raises:
        UnreadableError: It does not.
    """
    record = checkpoint.record
    check_fields(record, _RECORD)
    if missing := [name for name in _NULLABLE if name not in record]:
        raise UnreadableError(f"no {missing[0]}")
    for group, earlier in _EARLIER.items():
        known = {name.removesuffix("?") for name in _RECORD[group]} | earlier
        if odd := record[group].keys() - known:
            raise UnreadableError(f"an unknown {group}.{min(odd)}")
    if "sums" in record["meter"] and record["meter"]["sums"] is None:
        raise UnreadableError("null where an object is needed at meter.sums")
    _check_step(checkpoint.path, record)
    _check_best(record["best"])
    try:
        RunConfig.from_dict(record["config"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadableError(f"a config that cannot be used ({error})") from error
    _check_tensors(checkpoint.tensors, record.get("tensors"))


def _check_step(path: Path, record: Mapping[str, Any]) -> None:
    if checkpoint_step(path) not in (None, record["step"]):
        raise UnreadableError(f"step {record['step']} in {path.name}")
    events = record["events"]
    rolled_back = events.get("rolled_back_steps", events.get("passed_over"))
    check_fields({"rolled_back_steps": rolled_back}, {"rolled_back_steps": [_COUNT]})


def _check_best(best: Mapping[str, Any] | None) -> None:
    if best is None:
        return
    if not _CHOSEN_BY & best.keys():
        raise UnreadableError(f"no {' or '.join(sorted(_CHOSEN_BY))} in best")
    if best.get("weights", _WEIGHTS[0]) not in _WEIGHTS:
        raise UnreadableError(f"{best['weights']!r} as the weights in best")
    numbers = {name: value for name, value in best.items() if name != "weights"}
    check_fields({"best": numbers}, {"best": {str: (float, NoneType)}})


def _check_tensors(tensors: Mapping[str, Mapping[str, "Tensor"]], numbers: Mapping[str, int] | None) -> None:
    """Raise unless the three groups are there and belong together."""
    if missing := [name for name in _GROUPS if name not in tensors]:
        raise UnreadableError(f"no {missing[0]}.safetensors")
    for name, number in (numbers or {}).items():
        if len(tensors.get(name, {})) != number:
            raise UnreadableError(
                f"{len(tensors.get(name, {}))} tensors of {name} where {number} were written"
            )
    model = tensors["model"]
    if odd := [name for name in {**model, **tensors["ema"]} if not _is_alike(name, model, tensors["ema"])]:
        raise UnreadableError(f"another tensor {odd[0]} in ema than in model")
    for full_name, value in tensors["optimizer"].items():
        name = full_name.partition("/")[2]
        is_of_group = re.fullmatch(r"group \d{1,4}", name) and not value.ndim
        is_of_parameter = name in model and value.shape in (model[name].shape, ())
        if not (is_of_group or is_of_parameter) or not value.is_floating_point():
            raise UnreadableError(f"an odd tensor {full_name} of the optimizer")


def _is_alike(name: str, first: Mapping[str, "Tensor"], second: Mapping[str, "Tensor"]) -> bool:
    if name not in first or name not in second:
        return False
    return first[name].shape == second[name].shape and first[name].dtype == second[name].dtype

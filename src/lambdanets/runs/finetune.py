"""Fine-tuning: trained weights taken into the network of a run, and what is said of it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from lambdanets.data.preprocessing import Preprocessing
from lambdanets.errors import CheckpointError
from lambdanets.files import replace_file, storing
from lambdanets.models.factory import count_parameters, parameter_groups
from lambdanets.models.stages import StagedNetwork
from lambdanets.runs.init_source import described_model, find_init
from lambdanets.runs.load import read_weights
from lambdanets.runs.loaded import Origin
from lambdanets.terminal import table
from lambdanets.training.config import ModelConfig, RunConfig, TrainConfig
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.transfer import Transfer, match_weights
from lambdanets.training.weights import load_weights, state_digest

# In front of the names of a detector's backbone.
_BACKBONE: Final = "backbone.network."
_CLASSIFIER: Final = "classifier"

# Less than this fraction of a network is no start: the weights are of another one.
_LEAST_FRACTION: Final = 0.1

# A norm's count of the batches it has seen.
_COUNTER: Final = "num_batches_tracked"
_BLOCK: Final = re.compile(r"(c\d)\.(\d+)\.")

# Weights, what describes them if anything does, and their origin.
Init = tuple[Mapping[str, Tensor], Mapping[str, Any] | None, Origin]


def read_init(init: str, who: str = "init") -> Init:
    """Read the weights to start with: those of a run's best epoch, of a checkpoint, or of a file.

    The backbone of a detector has the names of the network that it is.

    Args:
        init: The setting.
        who: Its name, for messages.

    Raises:
        ArgumentError: Weights of another library.
        PathError: There are no weights.
        CheckpointError: They are damaged.
    """
    source = find_init(init, who)
    if source.described is None:
        tensors, _ = load_weights(source.path)
        origin = Origin(source=str(source.path), model="an unknown network", sha256=state_digest(tensors))
        return tensors, None, origin
    stored, described, origin = read_weights(source.path, "best")
    return {name.removeprefix(_BACKBONE): tensor for name, tensor in stored.items()}, described, origin


def plan_init(network: nn.Module, init: Init, model: ModelConfig, labels: Sequence[str]) -> Transfer:
    """Find what the network of a run takes; its classifier only where the classes have the same labels.

    Args:
        network: The network, which may be on the meta device.
        init: The weights as `read_init` gives them.
        model: The name and the overrides of the network.
        labels: The classes of the run.

    Raises:
        CheckpointError: Almost nothing fits, or a number is not finite.
    """
    tensors, described, origin = init
    reason = _why_new(described, labels)
    new = {_CLASSIFIER: reason} if reason else {}
    transfer = match_weights(network, tensors, origin.source, new=new)
    if transfer.fraction < _LEAST_FRACTION:
        theirs = None if described is None else described_model(described)
        hint = "Without --model.name and --model.overrides it is the network of the weights."
        if theirs is None:
            hint = "Give --model.name, the network that they are of."
        raise CheckpointError(
            f"init: {origin.source} must hold weights of {_named(model)}, got those of"
            f" {'an unknown network' if theirs is None else _named(theirs)}, which fit"
            f" {transfer.fraction:.1%} of it. {hint}"
        )
    return transfer


def _why_new(described: Mapping[str, Any] | None, labels: Sequence[str]) -> str | None:
    """Why the classifier starts anew; None where it is that of the same classes."""
    theirs = None if described is None else described.get("labels")
    if described is not None and "categories" in described:
        return "new: a detector has none"
    if theirs is None:
        return "new: the weights do not name their classes"
    if len(theirs) != len(labels):
        return f"new: {len(labels)} classes for {len(theirs)}"
    return None if list(theirs) == list(labels) else "new: other classes"


def take_init(network: nn.Module, init: Init, config: TrainConfig, labels: Sequence[str]) -> dict[str, Any]:
    """Put the weights that a run starts with into its network.

    Args:
        network: The network of the run, changed in place.
        init: The weights as `read_init` gives them.
        config: The settings of the run.
        labels: Its classes.

    Returns:
        The record of it, as init.json in the run folder holds it.

    Raises:
        CheckpointError: Almost nothing fits, or a number is not finite.
    """
    transfer = plan_init(network, init, config.model, labels)
    transfer.load(network)
    return init_record(init, transfer, config)


def init_record(init: Init, transfer: Transfer, config: TrainConfig) -> dict[str, Any]:
    """Describe where weights come from and what is taken of them, as plain data for JSON."""
    _, described, origin = init
    described = described or {}
    return {
        "init": config.init,
        "source": str(Path(origin.source).absolute()),
        "sha256": origin.sha256,
        "model": asdict(described_model(described)) if described else None,
        "weights": origin.weights,
        "recipe": origin.recipe,
        "epoch": origin.epoch,
        "step": origin.step,
        "metric": origin.metric,
        "preprocessing": described.get("preprocessing"),
        "fingerprint": origin.fingerprint,
        "warnings": list(origin.warnings),
        "taken_tensors": len(transfer.tensors),
        "taken_numbers": transfer.num_taken,
        "wanted_numbers": transfer.num_wanted,
        "classifier": next(
            (one.reason for one in transfer.not_taken if one.name.startswith(f"{_CLASSIFIER}.")),
            "kept: the same classes",
        ),
        "adapted": dict(transfer.adapted),
        "not_taken": [asdict(one) for one in transfer.not_taken],
    }


def write_init(folder: RunFolder, record: Mapping[str, Any]) -> None:
    """Keep the record of a start in the run folder: weights that move or change are not asked again.

    Raises:
        StorageError: The folder cannot be written.
    """
    replace_file(folder.init, (json.dumps(record, indent=2) + "\n").encode())


def remove_init(folder: RunFolder) -> None:
    """Forget the record of a start that a command before has left, which failed before its first result.

    Raises:
        StorageError: The folder cannot be written.
    """
    with storing(folder.init):
        folder.init.unlink(missing_ok=True)


def init_rows(record: Mapping[str, Any], preprocessing: Mapping[str, Any] | None) -> dict[str, str]:
    """Say where a run started, as rows of its banner and its report.

    Args:
        record: As `init_record` makes it.
        preprocessing: How the run's own images become inputs, as plain data.
    """
    model, metric = record["model"], record["metric"] or {}
    about = [
        _named(ModelConfig(**model)) if model else "an unknown network",
        f"epoch {record['epoch']}" if record["epoch"] else "",
        f"accuracy {metric['test_accuracy']:.2%}" if "test_accuracy" in metric else "",
        f"sha256 {record['sha256'][:12]}",
    ]
    taken = (
        f"{record['taken_tensors']} tensors, {_percent(record['taken_numbers'], record['wanted_numbers'])} of"
        f" the network before the classifier"
    )
    adapted = [f"{name} {how}" for name, how in record["adapted"].items()]
    return {
        "init": f"{record['init']}: {', '.join(filter(None, about))}",
        "taken": "; ".join([taken, *adapted]),
        "classifier": record["classifier"],
        "inputs": _compare_inputs(record["preprocessing"], preprocessing),
    }


def not_taken_lines(record: Mapping[str, Any]) -> list[str]:
    """List every tensor that was not taken: a table as text.

    Tensors of one layer that have the same shapes stand in one line, and so do equal layers of the blocks of
    a stage. Counters of batches are left out: they are no weights.
    """
    layers: dict[tuple[str, str, str, str], list[str]] = {}
    for one in record["not_taken"]:
        layer, _, name = one["name"].rpartition(".")
        if name != _COUNTER:
            key = layer, _sides(one["wanted"]), _sides(one["found"]), one["reason"]
            layers.setdefault(key, []).append(name)
    rows: dict[tuple[str, ...], list[int]] = {}
    for (layer, *rest), names in layers.items():
        block = _BLOCK.match(layer)
        place = f"{block[1]}.#.{layer[block.end() :]}" if block else layer
        numbers = rows.setdefault((f"{place}.{_braced(names)}", *rest), [])
        numbers += [int(block[2])] if block else []
    if not rows:
        return []
    headings = ("not taken", "shape wanted", "shape there", "reason")
    lines = [(name.replace("#", _braced(_ranges(numbers))), *rest) for (name, *rest), numbers in rows.items()]
    return table(headings, lines).splitlines()


def _sides(shape: Sequence[int] | None) -> str:
    return "none" if shape is None else "×".join(map(str, shape)) or "1 number"


def _braced(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{{{', '.join(words)}}}"


def _ranges(numbers: Sequence[int]) -> list[str]:
    """Numbers that follow one another as one range: 1, 4-6."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return [f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts] or [""]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.3g} %"


def _compare_inputs(theirs: Mapping[str, Any] | None, ours: Mapping[str, Any] | None) -> str:
    """Say how the images of the run differ from those that the weights were trained on."""
    if theirs is None or ours is None:
        return "how images became inputs of the weights' network is not known"
    old, new = (Preprocessing.from_dict(one) for one in (theirs, ours))
    differences = []
    if (old.channels, old.size) != (new.channels, new.size):
        shapes = (f"{one.channels}×{one.size}×{one.size}" for one in (new, old))
        differences.append(" pixels, the weights' were ".join(shapes))
    if (old.mean, old.std) != (new.mean, new.std):
        differences.append(f"normalised by mean {_numbers(new.mean)}, the weights' by {_numbers(old.mean)}")
    if not differences:
        return f"{new.channels}×{new.size}×{new.size} pixels, normalised as those of the weights"
    return f"{'; '.join(differences)}. Batch norms adapt, unless frozen"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def freeze_stages(network: nn.Module, config: RunConfig) -> None:
    """Freeze the stages that the settings name.

    Raises:
        ArgumentError: There is no such stage.
    """
    if isinstance(config, TrainConfig) and config.freeze:
        assert isinstance(network, StagedNetwork), "networks of create_model have stages"
        network.freeze(config.freeze)


def trained_rows(network: nn.Module, config: RunConfig) -> dict[str, str]:
    """Say what is frozen, and which learning rates there are, where that is not all and one."""
    rows = {}
    trained = sum(one.numel() for one in network.parameters() if one.requires_grad)
    if isinstance(config, TrainConfig) and config.freeze:
        rows["frozen"] = (
            f"{' '.join(config.freeze)}: {trained:,} of {count_parameters(network):,} parameters are trained"
        )
    decay = config.optim.layer_decay
    if decay != 1.0:
        groups = parameter_groups(network, 0.0, layer_decay=decay)
        rates = [config.peak_learning_rate * group["lr_scale"] for group in groups]
        rows["layer decay"] = (
            f"{decay:g} a layer: peaks from {min(rates):.3g} ({_first_trained(network)}) to {max(rates):.3g}"
            " (classifier)"
        )
    return rows


def _first_trained(network: nn.Module) -> str:
    """The first layer that is trained."""
    staged = next(part for part in network.modules() if isinstance(part, StagedNetwork))
    layers = staged.layers().items()
    trained = (name for name, layer in layers if any(one.requires_grad for one in layer.parameters()))
    return next(trained, "classifier")


def frozen_warnings(config: RunConfig, record: Mapping[str, Any] | None) -> list[str]:
    """Warn of stages that are frozen at random numbers.

    Args:
        config: The settings of the run.
        record: As `init_record` makes it; None for a run without `init`.
    """
    if not isinstance(config, TrainConfig) or not config.freeze:
        return []
    stages = " ".join(config.freeze)
    if config.init is None:
        return [f"{stages} stay as they are drawn at random: --init gives them weights"]
    inside = tuple(f"{stage}." for stage in config.freeze)
    left = [
        one["name"]
        for one in (record["not_taken"] if record else ())
        if one["wanted"] and one["name"].startswith(inside)
    ]
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    return [f"frozen and not taken from init, so random for good: {left[0]}{more}"] if left else []


def _named(model: ModelConfig) -> str:
    return " ".join([model.name, *(f"{name}={value}" for name, value in model.overrides.items())])

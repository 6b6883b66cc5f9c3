"""Examples that stand at the end of a command's help."""

from typing import Final

# Command -> lines. None is longer than a narrow terminal, and a test compares their options.
_EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "bench": ("bench ops --explain 28x28 --scope 23",),
    "compare": ("compare runs/digits runs/digits-conv", "compare runs/seed-* --json"),
    "completion": ("completion bash > ~/.lambdanets.bash",),
    "data check": ("data check photos --decode", "data check scenes --repair mended"),
    "data shard": ("data shard photos shards",),
    "data index": ("data index shards",),
    "data scenes": ("data scenes --out scenes --train 2000 --val 400",),
    "detect train": (
        "detect train scenes-demo --data.root scenes",
        "detect train scenes-demo --dry-run",
    ),
    "detect eval": ("detect eval runs/scenes --weights raw",),
    "detect compare": ("detect compare runs/a runs/b",),
    "detect predict": ("detect predict runs/scenes photos --out found",),
    "doctor": ("doctor --out runs", "doctor --dist --json"),
    "eval": ("eval runs/digits", "eval runs/a runs/b --csv results.csv"),
    "explain": ("explain runs/digits image.png",),
    "figure": ("figure 4 --out speed.png",),
    "info": (
        "info lambda_resnet50 --size 256",
        "info resnet50_llll --overrides content False",
    ),
    "models": ("models 'lambda*'", "models --json"),
    "predict": ("predict runs/photos image.jpg", "predict runs/photos folder --format csv"),
    "pseudo label": ("pseudo label --teacher runs/semi --out labels",),
    "pseudo train": ("pseudo train semi-student --labels labels",),
    "pseudo iterate": ("pseudo iterate semi --teacher RUN --out taught",),
    "recipes": ("recipes 'imagenet-*'", "recipes --json"),
    "report": ("report --run runs/a --run runs/b",),
    "slurm": ("slurm digits --nodes 2 --gpus-per-node 8 > job",),
    "tables": ("tables 4 8", "tables 3 --format csv"),
    "train": (
        "train photos --data.root DIR",
        "train digits --out runs/digits --processes 2",
        "train digits --seed 1 --dry-run",
    ),
}


def examples(command: str) -> str:
    """The examples of a command, as they stand below its help; empty for a command that has none."""
    lines = [f"  lambdanets {line}" for line in _EXAMPLES.get(command, ())]
    return "\n".join(["", "examples:", *lines]) if lines else ""

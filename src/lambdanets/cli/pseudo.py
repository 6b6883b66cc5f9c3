"""`lambdanets pseudo`: label images by a teacher, and train on these pseudo-labels."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import tyro

from lambdanets.cli._options import (
    Argv,
    DefaultFrom,
    Format,
    Recipe,
    call,
    named_data,
    print_json,
    value_of,
)
from lambdanets.cli.train import train as train_recipe
from lambdanets.data.augment import Ratio
from lambdanets.data.config import DataConfig, SemiConfig
from lambdanets.errors import ArgumentError
from lambdanets.pseudo.settings import LabelConfig, LabelRules, run_config
from lambdanets.ranges import Count, Seed, Workers
from lambdanets.streams import output_may_be_lost, print_line
from lambdanets.terminal import pairs, result_alone, table
from lambdanets.text import shell_words
from lambdanets.training.config import TrainConfig

if TYPE_CHECKING:
    from lambdanets.pseudo.labelling import Summary

_RULES: Final = LabelRules()
_Rules = Annotated[LabelRules, tyro.conf.arg(name="")]


def _run_of_teacher(argv: Sequence[str]) -> TrainConfig | None:
    return run_config(value_of("--teacher", argv) or "timm:")


def _default_data(argv: Sequence[str]) -> DataConfig:
    run = _run_of_teacher(argv)
    if run is None and not value_of("--data.name", argv) and not {"-h", "--help"} & {*argv}:
        raise ArgumentError(
            "pseudo label: data.name must be given for a teacher that is not a run, got none."
            " Such as --data.name folder --data.root DIR."
        )
    return named_data(run.data if run else SemiConfig(), argv)


def _default_seed(argv: Sequence[str]) -> int:
    run = _run_of_teacher(argv)
    return run.seed if run else 0


@output_may_be_lost()
def label(
    *,
    teacher: str,
    weights: str | None = None,
    out: Path,
    num_workers: Workers = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    rules: _Rules = _RULES,
    seed: Annotated[Seed, DefaultFrom(_default_seed)],
    data: Annotated[DataConfig, DefaultFrom(_default_data)],
    format: Format = "text",
) -> None:
    """Label the unlabelled images of a data set by a teacher.

    Args:
        teacher: A run folder, timm:NAME or hub:REPO.
        weights: A safetensors file for a timm: teacher; downloaded unless given.
        out: The folder of the labels. The same command on the same folder continues.
        num_workers: Processes that read images.
        device: Where the teacher runs.
        rules: What becomes a label.
        seed: Decides which digits of semi are unlabelled, and what a holdout leaves; the teacher's own unless
            given.
        data: The data set of the images; the teacher's own unless given.
        format: text or json; --json is short for the latter.
    """
    from lambdanets.pseudo.labelling import write_labels

    config = LabelConfig(teacher=teacher, weights=weights, data=data, seed=seed, rules=rules)
    with result_alone(format == "json"):
        summary = write_labels(config, out, log=print_line, num_workers=num_workers, device=device)
    if format == "json":
        print_json({"labels": out, "teacher": teacher, **summary.to_dict()})
        return
    print_line(_describe(summary))
    print_line(f"\ntrain on them: lambdanets pseudo train RECIPE --labels {shell_words(out)}")


def train(argv: Argv) -> int | None:
    """Train a recipe on its own labels and a teacher's: train with --labels and --ratio."""
    arguments = [re.sub(r"^--(labels|ratio)(?==|$)", r"--pseudo.\1", argument) for argument in argv]
    has_labels = any(argument.startswith("--pseudo.labels") for argument in arguments)
    if argv and not has_labels and not {"-h", "--help"} & {*argv}:
        raise ArgumentError(
            "pseudo train: labels must be a folder of `lambdanets pseudo label`, got none. Give --labels DIR."
        )
    return call(train_recipe, arguments, "pseudo train")


@output_may_be_lost()
def iterate(
    config: Recipe,
    *,
    teacher: str,
    weights: str | None = None,
    iterations: Count = 1,
    ratio: Ratio = 1.0,
    out: Path,
    rules: _Rules = _RULES,
    format: Format = "text",
) -> None:
    """Label by a teacher, train a student, label by the student, and so on.

    Args:
        config: All settings of the students; the unlabelled images are those of their data set and seed.
        teacher: The first teacher: a run folder, timm:NAME or hub:REPO.
        weights: A safetensors file for a timm: teacher; downloaded unless given.
        iterations: Number of students, one after another.
        ratio: Pseudo-labelled images to each labelled one of a batch.
        out: The folder of all iterations. The same command on the same folder continues.
        rules: What becomes a label.
        format: text or json; --json is short for the latter.
    """
    labelling = LabelConfig(teacher=teacher, weights=weights, data=config.data, seed=config.seed, rules=rules)
    run_config(teacher)
    from lambdanets.pseudo import iterations as job

    done = []
    with result_alone(format == "json"):
        for one in job.iterate(
            config, labelling, num_iterations=iterations, out=out, log=print_line, ratio=ratio
        ):
            print_line(_describe(one.summary))
            done.append(one)
    if format == "json":
        print_json([one.to_dict() for one in done])
        return
    for one in done:
        fraction = one.summary.wrong_fraction
        wrong = "" if fraction is None else f", {fraction:.1%} of its labels wrong"
        print_line(f"iteration {one.number}: student {one.accuracy:.2%}{wrong} ({one.student})")


def _describe(summary: "Summary") -> str:
    rows = {
        "images": f"{summary.num_images:,} unlabelled",
        "kept": f"{summary.num_confident:,}, filtered {summary.filtered_fraction:.1%}",
        "labels": f"{summary.num_selected:,} after balancing",
    }
    if summary.wrong is not None:
        wrong = summary.wrong
        rows["wrong"] = (
            f"{wrong['all'] / summary.num_images:.1%} of all,"
            f" {wrong['confident'] / max(summary.num_confident, 1):.1%} of the kept,"
            f" {wrong['selected'] / max(summary.num_selected, 1):.1%} of the labels"
        )
    classes = [(name, num, summary.selected[name]) for name, num in summary.confident.items()]
    return f"{pairs(rows)}\n\n{table(('class', 'kept', 'labels'), classes)}"

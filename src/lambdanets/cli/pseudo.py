"""`lambdanets pseudo`: give labels to images that have none, and train on them."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import tyro

from lambdanets.cli import train
from lambdanets.cli.threads import keep_threads_asleep
from lambdanets.data.config import DataConfig, SemiConfig
from lambdanets.errors import ArgumentError, check_choice
from lambdanets.pseudo.settings import LabelConfig, LabelRules, run_config
from lambdanets.recipes import RECIPES

if TYPE_CHECKING:
    from lambdanets.pseudo.labelling import Summary

# Option of `pseudo train` -> option of `train`.
_SHORT: Final = {"--labels": "--pseudo.labels", "--ratio": "--pseudo.ratio"}

_USAGE: Final = """usage: lambdanets pseudo label --teacher RUN --out DIR [settings]
       lambdanets pseudo train RECIPE --labels DIR [--ratio R] --out DIR [settings of train]
       lambdanets pseudo rounds RECIPE --teacher RUN --rounds N --out DIR [settings of train]

label   a teacher labels the unlabelled images of a data set
train   train a recipe on its own labels and the teacher's together
rounds  label, train a student, label with the student, and so on

All settings of one: lambdanets pseudo label --help"""


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Where the unlabelled images are; of a run, its own data set unless another is given.

    Attributes:
        seed: Decides which digits of semi are unlabelled, and what a holdout leaves.
        data: The data set.
    """

    seed: int = 0
    data: DataConfig


def configure(parser: argparse.ArgumentParser) -> None:
    """Take all words as they are: the options follow from the action."""
    parser.add_argument("words", nargs="*")


def main(arguments: argparse.Namespace) -> int:
    """Label, train or both. Settings are checked before torch is loaded."""
    action, *words = arguments.words or ["--help"]
    if action in ("-h", "--help"):
        print(_USAGE)
        return 0
    check_choice("pseudo", "action", action, _ACTIONS)
    return int(_ACTIONS[action](words) or 0)


def train_words(words: Sequence[str]) -> list[str]:
    """The words of `train` for those of `pseudo train`.

    Raises:
        ArgumentError: There are no labels.
    """
    if "-h" in words or "--help" in words:
        return list(words)
    translated = [
        re.sub(r"^--\w+(?==|$)", lambda found: _SHORT.get(found[0], found[0]), word) for word in words
    ]
    if not any(word.startswith("--pseudo.labels") for word in translated):
        raise ArgumentError(
            "pseudo train: labels must be a folder of `lambdanets pseudo label`, got none. Give --labels DIR."
        )
    return translated


def parse_label(words: Sequence[str]) -> tuple[LabelConfig, argparse.Namespace]:
    """Make a labelling of `--teacher RUN --out DIR …`; and the other options."""
    parser = _label_parser("label")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the same one goes on")
    parser.add_argument("--num-workers", type=int, default=0, help="processes that read images (0)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.epilog = "and --seed and --data.… as in `lambdanets train`: where the images are."
    arguments, rest = parser.parse_known_args(words)
    return _labelling(arguments, rest), arguments


def parse_rounds(words: Sequence[str]) -> tuple[train.Options, LabelConfig, argparse.Namespace]:
    """Make the student's options and the first labelling of `RECIPE --teacher RUN --rounds N --out DIR …`.

    The images are those of the student's data set, and of its seed.
    """
    parser = _label_parser("rounds")
    parser.add_argument("recipe", metavar="RECIPE", choices=tuple(RECIPES), help=", ".join(RECIPES))
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="students, one after another (1)")
    parser.add_argument("--ratio", type=float, default=1.0, help="pseudo-labelled to each labelled image (1)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the same one goes on")
    parser.epilog = "and all settings of the students: lambdanets train RECIPE --help"
    arguments, rest = parser.parse_known_args(words)
    options = train.parse([arguments.recipe, *rest, "--out", str(arguments.out)])
    config = options.config
    labelling = LabelConfig(
        teacher=arguments.teacher,
        weights=arguments.weights,
        data=config.data,
        seed=config.seed,
        rules=_rules(arguments),
    )
    return options, labelling, arguments


def describe(summary: "Summary") -> str:
    """Say what came out, as lines of text."""
    lines = [
        f"images  {summary.num_images:,} unlabelled",
        f"kept      {summary.num_sure:,}, filtered {summary.filtered_share:.1%}",
        f"labels    {summary.num_selected:,} after balancing",
    ]
    if summary.wrong is not None:
        shares = {
            "of all": summary.wrong["all"] / summary.num_images,
            "of the kept": summary.wrong["sure"] / max(summary.num_sure, 1),
            "of the labels": summary.wrong["selected"] / max(summary.num_selected, 1),
        }
        lines.append("wrong     " + ", ".join(f"{share:.1%} {name}" for name, share in shares.items()))
    lines.append(f"\n{'class':<12}{'kept':>8}{'labels':>8}")
    lines += [f"{name:<12}{num:>8}{summary.selected[name]:>8}" for name, num in summary.sure.items()]
    return "\n".join(lines)


def _label(words: Sequence[str]) -> None:
    config, arguments = parse_label(words)
    keep_threads_asleep()
    from lambdanets.pseudo.labelling import write_labels

    summary = write_labels(
        config, arguments.out, tell=_say, num_workers=arguments.num_workers, device=arguments.device
    )
    print(describe(summary))
    print(f"\nlambdanets pseudo train RECIPE --labels {arguments.out}")


def _train(words: Sequence[str]) -> int | None:
    start: Callable[[argparse.Namespace], int | None] = train.main
    return start(argparse.Namespace(words=train_words(words)))


def _rounds(words: Sequence[str]) -> None:
    options, labelling, arguments = parse_rounds(words)
    run_config(labelling.teacher)
    keep_threads_asleep()
    from lambdanets.pseudo.rounds import run_rounds

    rounds = run_rounds(
        options.config,
        labelling,
        num_rounds=arguments.rounds,
        out=arguments.out,
        tell=_say,
        ratio=arguments.ratio,
    )
    done = []
    for one in rounds:
        print(describe(one.summary))
        done.append(one)
    for one in done:
        wrong = (
            "" if one.summary.wrong_share is None else f", {one.summary.wrong_share:.1%} of its labels wrong"
        )
        print(f"round {one.number}: student {one.accuracy:.2%}{wrong} ({one.student})")


_ACTIONS: Final = {"label": _label, "train": _train, "rounds": _rounds}


def _label_parser(action: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"lambdanets pseudo {action}", allow_abbrev=False)
    parser.add_argument(
        "--teacher", required=True, metavar="RUN|timm:NAME|hub:REPO", help="who gives the labels"
    )
    parser.add_argument("--weights", metavar="FILE", help="safetensors of a timm: teacher (downloaded)")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--soft", dest="hard", action="store_false", help="a label is a share of each class")
    kind.add_argument("--hard", dest="hard", action="store_true", help="a label is one class (soft)")
    parser.set_defaults(hard=LabelRules.hard)
    parser.add_argument("--min-confidence", type=float, default=LabelRules.min_confidence, help="(0.3)")
    parser.add_argument(
        "--balance", default=LabelRules.balance, metavar="N|auto|none", help="labels of each class (auto)"
    )
    parser.add_argument("--shard-size", type=int, default=LabelRules.shard_size, metavar="N", help="(10000)")
    return parser


def _rules(arguments: argparse.Namespace) -> LabelRules:
    balance = arguments.balance
    return LabelRules(
        hard=arguments.hard,
        min_confidence=arguments.min_confidence,
        balance=int(balance) if re.fullmatch(r"-?\d+", balance) else balance,
        shard_size=arguments.shard_size,
    )


def _labelling(arguments: argparse.Namespace, rest: Sequence[str]) -> LabelConfig:
    run = run_config(arguments.teacher)
    if run is None and not any(word.startswith("--data.name") for word in rest):
        raise ArgumentError(
            "pseudo label: data.name must say which images a teacher that is no run labels, got none."
            " Such as --data.name folder --data.root DIR."
        )
    default = ImageOptions(
        seed=run.seed if run else 0, data=train.named_data(run.data if run else SemiConfig(), rest)
    )
    images = tyro.cli(
        ImageOptions,
        prog="lambdanets pseudo label",
        args=list(rest),
        default=default,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return LabelConfig(
        teacher=arguments.teacher,
        weights=arguments.weights,
        data=images.data,
        seed=images.seed,
        rules=_rules(arguments),
    )


def _say(text: str) -> None:
    print(text, flush=True)

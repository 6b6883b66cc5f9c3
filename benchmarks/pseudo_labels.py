"""Teacher against student: 200 labelled digits, and the teacher's labels for the other 1,097.

python benchmarks/pseudo_labels.py [--seeds 5] [--iterations 2] [--ratio 5] [--soft] [--processes 2]
    [--runs DIR] [--out FILE]

The same command on the same --runs goes on where it was stopped.
"""

import argparse
import contextlib
import io
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from harness import Result, ResultFile

from lambdanets.pseudo.iterations import iterate, train_student
from lambdanets.pseudo.settings import LabelConfig, LabelRules
from lambdanets.recipes import get_recipe


def main() -> None:
    """Every seed: a teacher, its labels, students."""
    arguments = _parse()
    torch.set_num_threads(1)
    # Spawned: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    file = ResultFile(arguments.out)
    with ProcessPoolExecutor(arguments.processes, mp_context=context) as pool:
        results = []
        for result in pool.map(partial(run_seed, arguments), range(arguments.seeds)):
            print(describe(result), flush=True)
            results.append(result)
            file.add(results=results)
    mean = {
        "teacher": statistics.mean(result["teacher"] for result in results),
        "students": [
            statistics.mean(result["students"][number] for result in results)
            for number in range(arguments.iterations)
        ],
    }
    students = "  ".join(f"{student:.2%}" for student in mean["students"])
    print(f"mean     teacher {mean['teacher']:.2%}  students {students}")
    file.add(mean=mean)


def run_seed(arguments: argparse.Namespace, seed: int) -> Result:
    """Test accuracies of the teacher and of each iteration's student, after their last epochs."""
    runs = arguments.runs / f"seed-{seed}"
    teacher = replace(get_recipe("semi"), seed=seed)
    labelling = LabelConfig(
        teacher=str(runs / "teacher"), data=teacher.data, seed=seed, rules=LabelRules(hard=not arguments.soft)
    )
    with contextlib.redirect_stdout(io.StringIO()):
        accuracy = train_student(teacher, runs / "teacher")
        iterations = list(
            iterate(
                replace(get_recipe("semi-student"), seed=seed),
                labelling,
                num_iterations=arguments.iterations,
                out=runs,
                log=print,
                ratio=arguments.ratio,
            )
        )
    return {
        "seed": seed,
        "teacher": accuracy,
        "students": [one.accuracy for one in iterations],
        "wrong_of_all": [one.summary.wrong["all"] / one.summary.num_images for one in iterations],
        "wrong_of_labels": [one.summary.wrong_fraction for one in iterations],
        "filtered": [one.summary.filtered_fraction for one in iterations],
    }


def describe(result: Result) -> str:
    """One line."""
    students = "  ".join(
        f"student {number} {accuracy:.2%} ({wrong:.2%} of its labels wrong)"
        for number, (accuracy, wrong) in enumerate(
            zip(result["students"], result["wrong_of_labels"], strict=True), 1
        )
    )
    return f"seed {result['seed']}   teacher {result['teacher']:.2%}  {students}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/pseudo_labels.py")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--ratio", type=float, default=5.0)
    parser.add_argument("--soft", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/pseudo-labels"))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""`lambdanets train`: train a recipe, or continue a run where it stopped.

`lambdanets detect train` has the same options.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import tyro

from lambdanets.cli._options import Argv, Choices, Format, Recipe, given_settings, print_json, without_format
from lambdanets.errors import ArgumentError
from lambdanets.ranges import Processes, Range
from lambdanets.recipes.fit import look_over
from lambdanets.recipes.origins import settings_with_origins
from lambdanets.runs.init_source import check_fine_tuning
from lambdanets.streams import output_may_be_lost, print_line
from lambdanets.terminal import result_alone, table
from lambdanets.text import shell_words
from lambdanets.training.changes import check_allowed, non_defaults
from lambdanets.training.config import RunConfig, TrainConfig
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.torchrun import global_rank, local_rank, world_size
from lambdanets.variables import starts_processes

# For the time from the command to the first step.
_STARTED: Final = time.monotonic()
_NONE: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, kw_only=True)
class _RunOptions:
    """What a training may be told beside its settings.

    Attributes:
        out: The run folder; runs/RECIPE unless given. The same command on the same folder continues the run.
        dry_run: Print what would run, and where each setting comes from, with steps, memory and disk.
        processes: Start so many processes on this machine, by torchrun.
        gpus: The same, each on a GPU of its own.
        max_restarts: How often the processes are started again after one of them has died.
        resume_allow: Settings, by dotted name, that may differ from those of the run that is continued;
            `world_size` is the number of processes.
        tensorboard: Write event files for TensorBoard too, into the folder `tensorboard` of the run.
    """

    out: Path | None = None
    dry_run: bool = False
    processes: Processes | None = None
    gpus: Processes | None = None
    max_restarts: Annotated[int, Range(0, 10**6)] = 0
    resume_allow: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="(optional)")] = ()
    tensorboard: bool = False

    def start(
        self,
        config: RunConfig,
        argv: Sequence[str],
        format: Format,
        choices: Mapping[str, str] = _NONE,
    ) -> int:
        """Train a config, or continue its run where it stopped, and print the result where JSON is asked for.

        Settings, folder and lock are checked before torch is loaded, so that a refusal is instant.

        Args:
            config: All settings.
            argv: The arguments of the command, for the processes that it starts.
            format: Of the result; with json all lines of the training go to the standard error.
            choices: What was chosen by the data, and why.
        """
        as_json = format == "json"
        folder = RunFolder(self.out or Path("runs", config.recipe))
        if isinstance(config, TrainConfig):
            check_fine_tuning(config, folder)
        if self.dry_run:
            check_allowed(self.resume_allow, config)
            num_processes = self._num_processes(config)
            from lambdanets.launch.dry_run import plan

            given = given_settings(config, argv)
            planned = plan(self._placed(config), folder.path, num_processes or 1, given)
            if as_json:
                print_json(planned.to_dict())
            else:
                is_there = Path(getattr(config.data, "root", "")).is_dir()
                print_line(look_over(config, choices) if is_there else "", end="")
                print_line(planned.text())
            return 0
        with output_may_be_lost():
            with result_alone(as_json):
                code = self._train(config, folder, without_format(argv), choices)
            if as_json and not code and not global_rank():
                print_json(_result(folder, config))
        return code

    def _placed(self, config: RunConfig) -> RunConfig:
        """The config with the device that the processes compute on."""
        return replace(config, exec=replace(config.exec, device="cuda")) if self.gpus else config

    def _train(
        self, config: RunConfig, folder: RunFolder, argv: Sequence[str], choices: Mapping[str, str]
    ) -> int:
        words = config.command.split()
        num_processes = self._num_processes(config)
        starts = starts_processes(config.command, num_processes)
        config = self._placed(config)
        config.data.check_ready()
        if world_size() == 1:
            # Before the images are looked at: a finished run does not need them any more.
            folder.check_claim()
            folder.changes(config, self.resume_allow)
            if _is_finished(folder, config):
                return 0
        looked_over = "" if world_size() > 1 else look_over(config, choices)
        if config.exec.device == "cuda":
            self._check_gpus(config.command, num_processes)
        if starts:
            print_line(looked_over, end="")
            from lambdanets.training.torchrun import launch

            return launch([*words, *argv], num_processes, self.max_restarts)

        command = shell_words("lambdanets", *words, *argv)

        def train_in(folder: RunFolder) -> None:
            from lambdanets.runs.train import train

            train(
                config,
                folder,
                command=command,
                allow=self.resume_allow,
                tensorboard=self.tensorboard,
                started=_STARTED,
            )

        if global_rank():
            # The first process holds the folder.
            train_in(folder)
            return 0
        with folder.locked(config, self.resume_allow) as locked:
            settings = looked_over + _changed_settings(config, given_settings(config, argv), locked.path)
            locked.append_log(f"{command}\n{settings}")
            print_line(settings)
            train_in(locked)
        return 0

    def _check_gpus(self, who: str, num_processes: int) -> None:
        """Raise, before there is a folder, unless each process has a GPU."""
        from torch import cuda

        from lambdanets.training.distributed import select_device

        found = cuda.device_count()
        if self.gpus and self.gpus > found:
            limit = f"at most {found}, as many as this machine has" if found else "left out without a GPU"
            raise ArgumentError(
                f"{who}: gpus must be {limit}, got {self.gpus}. --processes {self.gpus} trains on the CPU."
            )
        select_device("exec", "cuda", max(num_processes - 1, local_rank()))

    def _num_processes(self, config: RunConfig) -> int:
        """Check and return how many processes to start; 0 for this one alone."""
        processes, gpus, max_restarts = self.processes, self.gpus, self.max_restarts
        if processes and gpus:
            raise ArgumentError(
                f"{config.command}: processes and gpus must not both be given, got {processes} and {gpus}."
            )
        if max_restarts and not (processes or gpus):
            raise ArgumentError(
                f"{config.command}: max_restarts must be at least 0, and 0 without processes or gpus, got"
                f" {max_restarts}."
            )
        if gpus and config.exec.device == "cpu":
            raise ArgumentError(
                f"{config.command}: gpus must not be given with exec.device cpu. Use --processes."
            )
        return processes or gpus or 0


# Without a name, so that they stand beside the other options of a command.
Options = Annotated[_RunOptions, tyro.conf.arg(name="")]
DEFAULTS: Final = _RunOptions()


def train(
    config: Recipe,
    *,
    argv: Argv,
    choices: Choices,
    options: Options = DEFAULTS,
    format: Format = "text",
) -> int:
    """Train a recipe, or continue a run where it stopped.

    Args:
        config: All settings.
        argv: The arguments of the command.
        choices: What was chosen by the data, and why.
        options: Folder, processes and files of the run.
        format: Of the result, or of --dry-run: text or json; --json is short for the latter.
    """
    return options.start(config, argv, format, choices)


def _result(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    """The result of a run that is complete, for JSON."""
    return {
        "run": folder.path,
        "recipe": config.recipe,
        "model": config.model.name,
        "seed": config.seed,
        "report": folder.report if folder.report.is_file() else None,
        "weights": folder.best,
        "metrics": folder.read_metrics()[-1],
    }


def _is_finished(folder: RunFolder, config: RunConfig) -> bool:
    finished = folder.finished(config)
    if finished:
        print_line(finished)
    return finished is not None


def _changed_settings(config: RunConfig, given: Collection[str], out: Path) -> str:
    """List the settings that are not left at their defaults, and where each changed one comes from."""
    groups: dict[str, list[str]] = {}
    for name, value in non_defaults(config).items():
        group, _, setting = name.rpartition(".")
        groups.setdefault(group or "run", []).append(f"{setting} {value}")
    rows = [(group, " · ".join(settings)) for group, settings in groups.items()]
    rows += [
        ("changed", f"{one.name} {one.recipe_value} -> {one.value} ({one.origin})")
        for one in settings_with_origins(config, given)
        if one.is_changed
    ]
    rows.append(("folder", str(out)))
    return table(None, [(f"{name:<13}", text) for name, text in rows])

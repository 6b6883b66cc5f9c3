"""Training from Python: `lambdanets.train` and `lambdanets.train_detector`; torch is loaded when they run."""

import contextlib
import io
import os
import re
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, Unpack

from lambdanets.data.augment import AugmentConfig, PseudoConfig
from lambdanets.data.config import DataConfig
from lambdanets.data.detection import CocoConfig, JitterConfig
from lambdanets.errors import ArgumentTypeError, StoppedError, check_path
from lambdanets.files import from_home
from lambdanets.recipes import RECIPES, fit_recipe, get_recipe, is_fitted, replace_data, smoke_run
from lambdanets.recipes.fit import look_over
from lambdanets.recipes.origins import settings_with_origins
from lambdanets.runs.init_source import check_fine_tuning, model_to_start_with, with_model_of_weights
from lambdanets.streams import output_may_be_lost, print_line
from lambdanets.training.changes import changed
from lambdanets.training.config import (
    CkptConfig,
    DetectConfig,
    DetectorConfig,
    ExecConfig,
    FaultConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    SchedConfig,
    TrainConfig,
)
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.torchrun import StopRequest, global_rank, world_size

if TYPE_CHECKING:
    from lambdanets.runs.detect import LoadedDetector
    from lambdanets.runs.loaded import LoadedModel

Config = TypeVar("Config", bound=RunConfig)

_Some = Mapping[str, Any]
_NONE: Final[Mapping[str, str]] = {}

_OPTION: Final = re.compile(
    r"--(?:(?P<group>[a-z]+)\.)?(?P<name>[a-z][a-z-]*)"
    r"(?: (?P<value>[A-Z]{2,}|[a-z0-9_]+(?: or [a-z0-9_]+)*(?=[.),;]|$)))?"
)
_ALLOWED: Final = re.compile(r"--resume-allow (?P<names>[\w. -]+)$")


class _Settings(TypedDict, total=False):
    """The settings of every run, by their names in a call."""

    seed: int
    num_threads: int
    global_batch_size: int
    ema_decay: float | None
    model: ModelConfig | _Some
    optim: OptimConfig | _Some
    sched: SchedConfig | _Some
    ckpt: CkptConfig | _Some
    exec: ExecConfig | _Some
    faults: FaultConfig | _Some


class TrainSettings(_Settings, total=False):
    """The settings of a classifier, by their names in a call."""

    data: DataConfig | _Some
    augment: AugmentConfig | _Some
    pseudo: PseudoConfig | _Some
    label_smoothing: float
    fast: bool
    init: str | Path | None
    freeze: Collection[str]


class DetectSettings(_Settings, total=False):
    """The settings of a detector, by their names in a call."""

    data: CocoConfig | _Some
    augment: JitterConfig | _Some
    detector: DetectorConfig | _Some
    eval_every: int


def train(
    recipe: str | TrainConfig,
    out: str | Path | None = None,
    *,
    progress: bool = True,
    resume_allow: Collection[str] = (),
    tensorboard: bool = False,
    **settings: Unpack[TrainSettings],
) -> "LoadedModel":
    """Train a classifier, or continue its run where it stopped, and return the trained network.

    The same call on the same folder continues a run that was stopped, and returns the network of one that is
    finished. Ctrl-C, or a notebook's button that interrupts, ends the step, saves and raises
    `KeyboardInterrupt`; a second one leaves at once. SIGTERM, SIGUSR1 and SIGHUP save and raise `SystemExit`
    with the code 75. In a thread that is not the main one signals do nothing.

    The number of torch's threads and the state of its random numbers are afterwards what they were before.
    `torchrun my_program.py` trains in several processes.

    Args:
        recipe: The name of a recipe, as `lambdanets recipes` lists them, or a config.
        out: The run folder; `runs/RECIPE` unless given.
        progress: Print how it goes. Without, the file train.log in the run folder still has it all.
        resume_allow: Settings, by dotted name, that may differ from those of the run that is continued.
        tensorboard: Write event files for TensorBoard too.
        **settings: Other settings than those of the recipe, by their names in `TrainConfig`: `seed`,
            `num_threads`, `global_batch_size`, `ema_decay`, `label_smoothing`, `init`, `freeze`, `fast`; and
            the groups `model`, `data`, `augment`, `optim`, `sched`, `ckpt`, `exec`, `faults`, `pseudo`, each
            a dictionary of what changes in it, or an object in its place. With `init` the network is that of
            the weights, unless `model` names one.

    Returns:
        What `load_run` gives for the run folder: the best weights.

    Raises:
        ArgumentError: A recipe or a setting is unknown or out of range, or the folder holds another run.
        ArgumentTypeError: A value is of another type than its setting.
        KeyboardInterrupt: Ctrl-C; the state is saved.
        NumericError: The loss or the gradient is not finite.
        DataError: The images cannot be read.
        StorageError: The folder cannot be written.

    Example:
        ::

            run = lambdanets.train("digits", out="runs/short", seed=1, sched={"epochs": 3})
            print(run.predict("three.png"))
    """
    with _spoken_in_python():
        config, choices = _fitted(_recipe_of("train", recipe, TrainConfig), out, settings, recipe)
        check_fine_tuning(config, _folder_of(config, out))
    command = _as_call("train", config, out, _given(settings) if isinstance(recipe, str) else None)
    _set_environment()
    from lambdanets.runs.load import load_run

    with _torch_as_before():
        return load_run(_train(command, config, out, progress, resume_allow, tensorboard, choices))


def train_detector(
    recipe: str | DetectConfig,
    out: str | Path | None = None,
    *,
    progress: bool = True,
    resume_allow: Collection[str] = (),
    tensorboard: bool = False,
    **settings: Unpack[DetectSettings],
) -> "LoadedDetector":
    """Train a detector, or continue its run where it stopped, and return it.

    The arguments, the errors and what Ctrl-C does are those of `train`; the settings are those of
    `DetectConfig`: `data={"root": "scenes"}`, `detector={"masks": False}`, `eval_every`, …

    Returns:
        What `load_detector` gives for the run folder: the best weights.
    """
    with _spoken_in_python():
        config = changed("train_detector", _recipe_of("train_detector", recipe, DetectConfig), settings)
        config = replace(config, data=config.data.located())
    command = _as_call("train_detector", config, out, _given(settings) if isinstance(recipe, str) else None)
    _set_environment()
    from lambdanets.runs.detect import load_detector

    with _torch_as_before():
        return load_detector(_train(command, config, out, progress, resume_allow, tensorboard))


def _recipe_of(who: str, recipe: str | Config, kind: type[Config]) -> Config:
    if not isinstance(recipe, str | kind):
        other = "train_detector" if isinstance(recipe, DetectConfig) else "train"
        hint = f" `lambdanets.{other}` takes it." if isinstance(recipe, RunConfig) else ""
        raise ArgumentTypeError(
            f"{who}: recipe must be the name of one or a {kind.__name__}, got a {type(recipe).__name__}."
            f"{hint}"
        )
    return recipe if isinstance(recipe, kind) else get_recipe(str(recipe), kind)


def _fitted(
    config: TrainConfig, out: str | Path | None, settings: Mapping[str, Any], recipe: object
) -> tuple[TrainConfig, dict[str, str]]:
    """Change settings, and those that follow from them, as the command line does; beside it, why.

    A recipe that is named chooses by its data what is not given; a config has chosen.
    """
    groups = {name: given for name, given in settings.items() if isinstance(given, Mapping)}
    data, init = groups.get("data", {}), settings.get("init")
    if settings.get("fast") is True and not config.fast:
        config = smoke_run(config)
    root = data.get("root")
    config, choices = replace_data(config, data.get("name"), None if root is None else str(root))
    if (
        init is not None
        and not isinstance(settings.get("model"), ModelConfig)
        and "name" not in groups.get("model", {})
    ):
        model = model_to_start_with(str(init), _folder_of(config, out).path)
        config = replace(config, model=model or config.model)
    chooses = isinstance(recipe, str) and is_fitted(recipe)
    if chooses:
        # It is chosen by the epochs.
        config = config.replace(sched={"warmup_epochs": 0.0})
    final = changed("train", config, settings)
    final = replace(final, data=final.data.located())
    if not chooses:
        return final, choices
    config, more = fit_recipe(final, _given(settings))
    kept = {name: value for name, value in settings.items() if name != "data"}
    return changed("train", config, kept), choices | more


def _given(settings: Mapping[str, Any]) -> set[str]:
    """The dotted names of the settings of a call."""
    given = set(settings)
    for group, values in settings.items():
        inner: Any = values if isinstance(values, Mapping) else vars(values) if is_dataclass(values) else ()
        given |= {f"{group}.{name}" for name in inner}
    return with_model_of_weights(given)


def _train(
    command: str,
    config: RunConfig,
    out: str | Path | None,
    progress: bool,
    resume_allow: Collection[str],
    tensorboard: bool,
    choices: Mapping[str, str] = _NONE,
) -> Path:
    """Train in a run folder, whose lock the main process holds; returns its path."""
    from lambdanets.runs.train import train as train_in

    started = time.monotonic()
    folder = _folder_of(config, out)
    stop = StopRequest()
    silence = contextlib.nullcontext() if progress else contextlib.redirect_stdout(io.StringIO())
    with _spoken_in_python(), silence, output_may_be_lost(), contextlib.ExitStack() as stack:
        config.data.check_ready()
        if not global_rank():
            stack.enter_context(folder.locked(config, resume_allow))
            folder.append_log(command)
        if world_size() == 1 and (finished := folder.finished(config)):
            print_line(_in_python(finished))
            return folder.path
        if not global_rank():
            lines = _in_python(look_over(config, choices)) + f"{'folder':<14}{folder.path}"
            folder.append_log(lines)
            print_line(lines)
        try:
            train_in(
                config,
                folder,
                command=command,
                allow=resume_allow,
                tensorboard=tensorboard,
                started=started,
                stop=stop,
            )
        except StoppedError as error:
            message = str(error).replace("the same command", "the same call")
            if stop.received == "SIGINT":
                raise KeyboardInterrupt(message) from None
            print_line(message)
            raise SystemExit(StoppedError.exit_code) from None
    return folder.path


def _folder_of(config: RunConfig, out: str | Path | None) -> RunFolder:
    check_path("train", "out", out)
    return RunFolder(from_home(Path("runs", config.recipe) if out is None else out))


def _set_environment() -> None:
    """Let OpenMP's threads sleep while they wait, as on the command line; it is asked once, with torch."""
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextlib.contextmanager
def _torch_as_before() -> Iterator[None]:
    """Leave torch's threads, random numbers and switch of determinism as they were."""
    import torch

    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def _as_call(who: str, config: RunConfig, out: str | Path | None, given: Collection[str] | None) -> str:
    """The call that repeats a run; `given` is as in `settings_with_origins`."""
    out = _folder_of(config, out).path
    if config.recipe not in RECIPES:
        return (
            f'lambdanets.{who}(config, out="{out}")  # TrainConfig.from_json of config.json in the run folder'
        )
    arguments: dict[str, Any] = {}
    for one in settings_with_origins(config, given):
        if one.is_changed:
            *groups, name = one.name.split(".")
            inner = arguments
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[name] = one.value
    words = [
        repr(config.recipe),
        f"out={str(out)!r}",
        *(f"{name}={value!r}" for name, value in arguments.items()),
    ]
    return f"lambdanets.{who}({', '.join(words)})"


@contextlib.contextmanager
def _spoken_in_python() -> Iterator[None]:
    """Say in messages what to write in Python, in place of options of the command line."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "exit_code"):
            error.args = (_in_python(str(error)),)
        raise


def _in_python(text: str) -> str:
    """Replace the options in a message by arguments."""

    def argument(found: re.Match[str]) -> str:
        name, value = found["name"].replace("-", "_"), found["value"]
        if not found["group"]:
            return f"{name}=… {value}" if value else f"{name}=…"
        if value and value.islower():
            value = " or ".join(f'"{word}"' for word in value.split(" or "))
        return f'{found["group"]}={{"{name}": {value or "…"}}}'

    text = _ALLOWED.sub(lambda found: f"resume_allow={found['names'].split()}", text)
    text = _OPTION.sub(argument, text).replace("the same command", "the same call")
    for kind, function in (("detect train", "train_detector"), ("train", "train")):
        text = text.replace(f"`lambdanets {kind}`", f"`lambdanets.{function}`")
    return text

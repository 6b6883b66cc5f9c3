"""A recipe of one's own is registered once, checked, and known by its name."""

import functools
import re

import pytest

import lambdanets
from lambdanets import TrainConfig
from lambdanets.cli import run
from lambdanets.errors import ArgumentError, ArgumentTypeError
from lambdanets.recipes import RECIPES, get_recipe
from lambdanets.recipes.origins import settings_with_origins
from lambdanets.training.config import RunConfig

pytestmark = pytest.mark.usefixtures("as_registered")


def short_digits() -> TrainConfig:
    """The digits in three epochs.

    Derives: `digits`.
    """
    return get_recipe("digits").replace(sched={"epochs": 3})


def test_a_registered_recipe_is_known_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    lambdanets.register_recipe(short_digits)
    config = get_recipe("short-digits")
    assert (config.recipe, config.sched.epochs) == ("short-digits", 3)
    assert RunConfig.from_json(config.to_json()) == config
    assert run(["recipes", "short*"]) == 0
    assert "The digits in three epochs." in capsys.readouterr().out
    assert run(["train"]) == 0
    assert "short-digits" in capsys.readouterr().out
    origins = {one.name: one.origin for one in settings_with_origins(config)}
    assert (origins["sched.epochs"], origins["optim.learning_rate"]) == (
        "recipe short-digits",
        "recipe digits",
    )


def test_a_recipe_needs_no_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    @lambdanets.register_recipe
    def silent() -> TrainConfig:
        return get_recipe("digits")

    assert run(["recipes", "silent"]) == 0
    assert run(["train"]) == 0
    assert run(["recipes", "silent", "--format", "markdown"]) == 0
    assert "| `silent` | `lambda_resnet_digits` | as stored | 25 | 64 |  |  |" in capsys.readouterr().out


def test_a_cell_that_is_run_again_registers_the_recipe_again() -> None:
    def cell(epochs: int) -> None:
        @lambdanets.register_recipe
        def again() -> TrainConfig:
            return get_recipe("digits").replace(sched={"epochs": epochs})

    cell(3)
    cell(4)
    assert get_recipe("again").sched.epochs == 4


def test_a_taken_name_is_refused() -> None:
    def digits() -> TrainConfig:
        return get_recipe("digits")

    message = "register_recipe: name must be free, got 'digits', which lambdanets.recipes.demo.digits has."
    with pytest.raises(ArgumentError, match=re.escape(message)):
        lambdanets.register_recipe(digits)


def of_seed(seed: int) -> TrainConfig:
    return get_recipe("digits").replace(seed=seed)


def of_numbers() -> int:
    return 3


def orphan() -> TrainConfig:
    """Derived from what is not there.

    Derives: `digit`.
    """
    return get_recipe("digits")


WRONG = {
    "register_recipe: recipe must be a function with a name, got functools.partial(": functools.partial(
        of_seed, 1
    ),
    "register_recipe: of_seed must be a function without arguments, got of_seed(seed: int)": of_seed,
    "register_recipe: of_numbers must return a TrainConfig or a DetectConfig, got a int.": of_numbers,
    "register_recipe: Derives of orphan must name another recipe, got 'digit'. Closest: digits": orphan,
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_recipe_is_refused(message: str) -> None:
    known = dict(RECIPES)
    with pytest.raises((ArgumentTypeError, ArgumentError), match=re.escape(message)):
        lambdanets.register_recipe(WRONG[message])  # type: ignore[arg-type]
    assert known == RECIPES


def test_an_unknown_recipe_may_be_one_s_own() -> None:
    message = "A recipe of your own is known after --import MODULE, in Python after its import."
    with pytest.raises(ArgumentError, match=re.escape(message)):
        get_recipe("my-photos")


def test_a_config_of_no_recipe_stands_for_its_own() -> None:
    config = get_recipe("digits").replace(recipe="mine", seed=2)
    origins = {one.name: one.origin for one in settings_with_origins(config)}
    assert (origins["seed"], origins["exec.device"]) == ("recipe mine", "default")

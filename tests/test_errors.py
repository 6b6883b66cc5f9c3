"""The words of an error, and the exit codes of the command line."""

import re

import pytest
import torch
from torch import Tensor

from lambdanets import errors
from lambdanets.errors import (
    ArgumentError,
    ArgumentTypeError,
    bind_shape,
    bind_tensor,
    check_choice,
    check_positive,
    complaint,
    did_you_mean,
    first_line,
)


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape)


def test_exit_codes_are_a_promise() -> None:
    codes = {
        name: value.exit_code
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert codes == {
        "ArgumentError": 2,
        "ArgumentTypeError": 2,
        "PathError": 2,
        "DependencyError": 3,
        "DataError": 4,
        "CheckpointError": 5,
        "NumericError": 6,
        "StorageError": 7,
        "StoppedError": 75,
        "LostProcessError": 1,
    }


def test_letters_are_bound_once_and_starred_ones_take_the_rest() -> None:
    sizes: errors.Sizes = {}
    bind_shape("f", "x", zeros(2, 3, 5, 7), "b k *size", sizes)
    bind_shape("f", "y", zeros(2, 9), "b v", sizes)
    assert sizes == {"b": (2, "x"), "k": (3, "x"), "*size": ((5, 7), "x"), "v": (9, "y")}


def test_a_starred_letter_takes_one_axis_at_least() -> None:
    with pytest.raises(ArgumentError, match=re.escape("f: x must have shape (b, *size), got (2,).")):
        bind_shape("f", "x", zeros(2), "b *size", {})


def test_a_letter_used_twice_must_agree_with_itself() -> None:
    with pytest.raises(ArgumentError, match=re.escape("f: x must have shape (k, k), got (2, 3).")):
        bind_shape("f", "x", zeros(2, 3), "k k", {})


def test_a_choice_lists_the_known_and_the_nearest() -> None:
    check_choice("f", "colour", "red", ("red", "green"))
    message = "f: colour must be one of 'red', 'green', got 'gren'. Closest: green."
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
        check_choice("f", "colour", "gren", ("red", "green"))
    assert did_you_mean("blue", ("red", "green")) == ""


def test_positive_means_at_least_one() -> None:
    check_positive("f", heads=1, depth=2)
    with pytest.raises(ArgumentError, match=re.escape("f: depth must be at least 1, got -2.")):
        check_positive("f", heads=1, depth=-2)


def test_an_error_is_told_by_its_first_line_or_its_kind() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"


def test_a_complaint_names_the_function_and_keeps_the_error() -> None:
    raised = errors.DataError("3.png: truncated")
    raised.add_note("a note")
    with pytest.raises(errors.DataError) as caught, complaint("explain"):
        raise raised from OSError(5, "Input/output error")
    assert caught.value is raised and str(raised) == "explain: 3.png: truncated"
    assert raised.__notes__ == ["a note"] and isinstance(raised.__cause__, OSError)
    with pytest.raises(KeyError, match=r"^'x'$"), complaint("explain"):
        raise KeyError("x")


def test_tensors_hold_floating_point_numbers_of_one_type() -> None:
    sizes: errors.Sizes = {}
    bind_tensor("f", "x", zeros(2, 3), "b d", sizes)
    bind_tensor("f", "y", zeros(2).half(), "b", sizes, own_type=True)
    wanted = "must be a tensor of float16, bfloat16, float32 or float64, got "
    for came, words in [
        (zeros(2).to(torch.uint8), "torch.uint8"),
        (zeros(2).bool(), "torch.bool"),
        (zeros(2).cfloat(), "torch.complex64"),
        (zeros(2).to(torch.float8_e5m2), "torch.float8_e5m2"),
        ([0.0], "a list"),
        (None, "a NoneType"),
    ]:
        with pytest.raises(ArgumentTypeError, match=f"^{re.escape(f'f: z {wanted}{words}.')}$"):
            bind_tensor("f", "z", came, "b", sizes)
    message = (
        "f: z must be torch.float32 as x, got torch.float16. Convert one of them, or use torch.autocast."
    )
    with pytest.raises(ArgumentTypeError, match=f"^{re.escape(message)}$"):
        bind_tensor("f", "z", zeros(2).half(), "b", sizes)
    with torch.autocast("cpu"):
        bind_tensor("f", "z", zeros(2).half(), "b", sizes)

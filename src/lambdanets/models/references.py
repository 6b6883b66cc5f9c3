"""What a config names by where it is imported from, as `my_module:depthwise`, so that JSON can hold it."""

from importlib import import_module
from typing import Any

from lambdanets.errors import ArgumentError, did_you_mean, first_line


def is_reference(value: object) -> bool:
    """Whether it is a text that says where something is imported from."""
    return isinstance(value, str) and ":" in value


def resolve(who: str, argument: str, value: Any) -> Any:
    """Import what a reference names; anything else comes back as it is.

    The module is run, as by any import: only name, and load from others, what you would import.

    Args:
        who: The public class that complains.
        argument: The setting.
        value: `module:name`, where the name may have dots, or another value of the setting.

    Raises:
        ArgumentError: There is no such module, no such name, or what it names cannot be called.
    """
    if not is_reference(value):
        return value
    module, _, name = value.partition(":")
    try:
        found: Any = import_module(module)
    except (ImportError, ValueError) as error:
        raise ArgumentError(
            f"{who}: {argument} must name a module that can be imported, as module:name, got {value!r}: "
            f"{first_line(error)}. Its folder must be on PYTHONPATH."
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            near = did_you_mean(part, dir(found))
            raise ArgumentError(f"{who}: {argument} must name what {module} has, got {value!r}.{near}")
        found = getattr(found, part)
    if not callable(found):
        raise ArgumentError(
            f"{who}: {argument} must name a function or class, got {value!r}, a {type(found).__name__}."
        )
    return found


def reference_of(value: Any) -> str:
    """Say where a function or class is imported from; `module:name` where that is not known."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "<")
    return "module:name" if module in (None, "__main__") or "<" in name else f"{module}:{name}"

"""The ranges of settings in the help of a command: `--sched.epochs 1<=INT<=1000000`."""

import dataclasses
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import tyro

from lambdanets.ranges import Range

SHOWING_RANGES: Final = tyro.constructors.ConstructorRegistry()


@SHOWING_RANGES.struct_rule
def _with_ranges(
    info: tyro.constructors.StructTypeInfo,
) -> tyro.constructors.StructConstructorSpec | None:
    """Write the range of a setting where tyro would write its type alone."""
    if not dataclasses.is_dataclass(info.type) or Range in info.markers:
        return None
    # Marked, so that it is read by tyro's own rules this time.
    marked = dataclasses.replace(info, markers=(*info.markers, Range))
    spec = tyro.constructors.ConstructorRegistry.get_struct_spec(marked)
    if not isinstance(spec, tyro.constructors.StructConstructorSpec):
        return None
    fields = tuple(
        dataclasses.replace(field, type=_shown(field.type)) if _has_range(field.type) else field
        for field in spec.fields
    )
    return dataclasses.replace(spec, fields=fields)


def _shown(hint: Any) -> Any:
    return Annotated[hint, tyro.conf.arg(metavar=_metavar(hint))]


def _has_range(hint: Any) -> bool:
    marks = getattr(hint, "__metadata__", ())
    return any(isinstance(one, Range) for one in marks) or any(map(_has_range, get_args(hint)))


def _metavar(hint: Any, bounds: Range | None = None) -> str:
    """A type as tyro writes it, and its range."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        own = [mark for mark in hint.__metadata__ if isinstance(mark, Range)]
        return _metavar(hint.__origin__, own[0] if own else bounds)
    if origin in (Union, UnionType):
        # Tyro puts none first.
        kinds = sorted(arguments, key=lambda kind: kind is not NoneType)
        return "|".join(_metavar(kind, bounds) for kind in kinds)
    if origin is Literal:
        return f"{{{','.join(map(str, arguments))}}}"
    if origin is tuple:
        one = _metavar(arguments[0], bounds)
        return f"[{one} [{one} ...]]" if arguments[-1] is Ellipsis else " ".join([one] * len(arguments))
    if hint is NoneType:
        return "{None}"
    kind = str(hint.__name__).upper()
    return bounds.around(kind) if bounds else kind

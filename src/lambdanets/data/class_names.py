"""Names of classes in a file beside the images."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from lambdanets.errors import DataError


def read_class_names(root: Path) -> tuple[str, ...] | None:
    """The names in `classes.txt` (one a line) or `classes.json` (a list, or name to number); else None.

    Raises:
        DataError: The file is none of these, or has a name twice.
    """
    for file, parse in ((root / "classes.txt", _lines), (root / "classes.json", _json)):
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"classes: {file} must be a text in UTF-8, got '{error}'.") from error
        names = parse(text)
        if not names:
            raise DataError(
                f"classes: {file} must hold the name of each class: one a line in classes.txt; in"
                " classes.json a list of them, or an object from each name to its number from 0."
            )
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise DataError(f"classes: {file} must hold each name once, got {name!r} {count} times.")
        return tuple(names)
    return None


def write_class_names(root: Path, labels: tuple[str, ...]) -> Path:
    """Write `classes.txt`, or `classes.json` where a line cannot hold a name.

    Returns:
        The file.
    """
    if any(label != label.strip() or len(label.splitlines()) != 1 for label in labels):
        file, text = root / "classes.json", json.dumps(list(labels), indent=0)
    else:
        file, text = root / "classes.txt", "\n".join(labels)
    file.write_text(text + "\n", encoding="utf-8")
    return file


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _json(text: str) -> list[str]:
    try:
        names: Any = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if isinstance(names, dict):
        numbers = list(names.values())
        if sorted(map(str, numbers)) != sorted(map(str, range(len(names)))):
            return []
        names = sorted(names, key=lambda name: int(names[name]))
    return names if isinstance(names, list) and all(isinstance(name, str) and name for name in names) else []

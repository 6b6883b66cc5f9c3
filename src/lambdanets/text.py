r"""Text as data: what a name holds is printed, stored and typed, and never acts.

A terminal obeys escapes, a page its markup, a spreadsheet its formulas and a shell its signs. Names of files
and classes, and what others wrote into files, pass through here on their way out.
"""

import os
import re
import shlex
from typing import Final

# Control characters would break the line of a log; they are written as Python writes them.
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
# What turns the direction of text or ends a line.
_ACTING: Final = {
    code: f"\\u{code:04x}"
    for code in (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
}
_SHOWN: Final = {code: text for code, text in (_CONTROLS | _ACTING).items() if chr(code) not in "\n\t"}
# In a table lines, and bytes that are no UTF-8, stay what they are.
_IN_CELLS: Final = {code: text for code, text in _CONTROLS.items() if chr(code) not in "\n\r\t"} | {
    code: f"\\u{code:04x}" for code in range(0xD800, 0xE000) if not 0xDC80 <= code < 0xDD00
}

# How a cell begins that a spreadsheet computes, also in the wide letters of East Asia.
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
# What is markup in Markdown wherever it stands in a line, and what makes a link.
_MARKUP: Final = re.compile(
    r"[\\`*\[\]<>|~$@]|&(?=[#\w])|(?<![^\W_])_|_(?![^\W_])|:(?=//|\w+:)|(?<=\bwww)\.", re.IGNORECASE
)
# A word that a shell takes as it stands, or within single quotes.
_QUOTABLE: Final = re.compile(
    r"[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]*"
)


def printable(name: str | bytes) -> str:
    r"""A name as it can be printed and stored: bytes that are no UTF-8 become `\xe9`."""
    text = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
    return text.encode("utf-8", "backslashreplace").decode().translate(_CONTROLS)


def shown(text: str) -> str:
    """A text as a terminal or a page gets it: its lines and tabs stay, nothing else in it acts."""
    return text.translate(_SHOWN).encode("utf-8", "backslashreplace").decode()


def shown_value(value: object) -> object:
    """A value as a page gets it: a text or a path `shown`, and markup as it is."""
    return shown(str(value)) if isinstance(value, os.PathLike) or type(value) is str else value


def is_shown_whole(text: str) -> bool:
    """Whether a text is the same when it is `shown`."""
    return text == shown(text)


def markdown_line(text: object) -> str:
    """A text as it stands in a line of Markdown, in a cell too."""
    line = " ".join(shown(str(text)).split("\n"))
    return _MARKUP.sub(lambda found: f"\\{found[0]}", line)


def to_cell(value: object) -> object:
    """A value for a CSV file: a text that a spreadsheet would compute gets an apostrophe before it."""
    if not isinstance(value, str | os.PathLike):
        return value
    text = str(value).translate(_IN_CELLS)
    return f"'{text}" if _FORMULA.match(text) else text


def from_cell(text: str) -> str:
    """The text that `to_cell` wrote."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def shell_words(*words: object) -> str:
    r"""A command line that gives these words, in one line whatever they hold; bash and zsh take `$'\n'`."""
    return " ".join(_shell_word(str(word)) for word in words)


def _shell_word(word: str) -> str:
    if _QUOTABLE.fullmatch(word):
        return shlex.quote(word)
    letters = (letter if letter.isalnum() and letter.isascii() else _escape(letter) for letter in word)
    return f"$'{''.join(letters)}'"


def _escape(letter: str) -> str:
    if letter.isprintable():
        return f"\\{letter}" if letter in "\\'" else letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))

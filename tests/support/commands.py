"""Commands in tests: what one prints, the message it refuses with, the options it parses."""

import functools

from lambdanets.cli import run
from lambdanets.cli._options import call


def printed(capsys, *argv, code=0):
    """The standard output of a command that ends with an exit code."""
    assert run([str(word) for word in argv]) == code
    return capsys.readouterr().out


def refused(capsys, *argv, code=2):
    """The message of a command that is refused, as one line and without tyro's frame."""
    assert run([str(word) for word in argv]) == code
    message = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "Traceback" not in message
    return message


def parsed(function, *argv):
    """The options that a command's function would be called with."""
    options = {}
    call(functools.wraps(function)(lambda **given: options.update(given)), argv, function.__name__)
    return options

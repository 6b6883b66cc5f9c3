"""`lambdanets completion`: the words are those of the commands, and shells complete them."""

import shutil
import subprocess

import pytest

from support.commands import printed, refused

# The words of a line, its last one to be completed -> what the shell offers.
LINES = [
    (("comp",), {"compare", "completion"}),
    (("data", ""), {"check", "shard", "index", "scenes"}),
    (("train", "digits-c"), {"digits-conv"}),
    (("detect", "train", "scenes-demo-c"), {"scenes-demo-conv"}),
    (("train", "digits", "--optim.lea"), {"--optim.learning-rate"}),
    (("train", "digits", "--optim.name", ""), {"sgd", "adamw", "lamb", "rmsprop"}),
    (("train", "digits", "--seed", "1", "--data.name", "hug"), {"huggingface"}),
    (("train", "digits", "--data.path"), {"--data.path-length"}),
    (("train", "digits", "--model.name", "lambda_resnet42"), {"lambda_resnet420", "lambda_resnet420_c4"}),
    (("pseudo", "train", "semi", "--rat"), {"--ratio"}),
    (("recipes", "--format", ""), {"text", "markdown", "json"}),
    (("info", "resnet50_cc"), {"resnet50_cccl", "resnet50_ccll"}),
    (("completion", ""), {"bash", "zsh", "fish"}),
    (("eval", "run", "--js"), {"--json"}),
]
_CALL = """
    COMP_WORDS=(lambdanets {words}); COMP_CWORD={place}
    _lambdanets
    printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """Write the script of a shell that is installed, once."""

    def write(shell, capsys):
        if not shutil.which(shell):
            pytest.skip(f"{shell} is not installed")
        path = tmp_path_factory.mktemp("completion") / shell
        path.write_text(printed(capsys, "completion", shell))
        return path

    return write


def output(*words, cwd=None):
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=cwd)
    assert not done.stderr
    return {line.partition("\t")[0] for line in done.stdout.splitlines() if line}


def called(words):
    return _CALL.format(words=" ".join(f"'{word}'" for word in words), place=len(words))


def test_bash_completes(script, capsys, tmp_path):
    path = script("bash", capsys)
    for words, expected in LINES:
        assert output("bash", "-c", f"source {path}\n{called(words)}") == expected, words
    # Where there is no name to offer bash offers files by itself.
    assert output("bash", "-c", f"source {path}\n{called(('eval', 'x'))}") == set()


def test_bash_takes_an_option_and_its_value_apart(script, capsys):
    path = script("bash", capsys)
    for words in (("train", "digits", "--optim.name", "=", "ad"), ("train", "digits", "--optim.name=ad")):
        (found,) = output("bash", "-c", f"source {path}\n{called(words)}")
        assert found.removeprefix("--optim.name=") == "adamw"


def test_zsh_completes(script, capsys):
    path = script("zsh", capsys)
    start = f"autoload -U compinit && compinit -u -D\nsource {path}\n"
    for words, expected in LINES:
        # As bashcompinit calls it.
        code = f"{start}complete_it() {{ emulate -L ksh\n{called(words)}\n}}\ncomplete_it"
        assert output("zsh", "-fc", code) == expected, words


def test_fish_completes(script, capsys, tmp_path):
    path = script("fish", capsys)
    for words, expected in LINES:
        line = " ".join(["lambdanets", *words])
        assert output("fish", "--no-config", "-c", f"source {path}; complete -C '{line}'") == expected, words
    (tmp_path / "photo.png").touch()
    code = f"source {path}; complete -C 'lambdanets predict run pho'"
    assert output("fish", "--no-config", "-c", code, cwd=tmp_path) == {"photo.png"}


def test_an_unknown_shell_is_refused(capsys):
    assert "'csh'" in refused(capsys, "completion", "csh")

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
    (("eval", "run", "--data.name", ""), {"folder", "shards", "huggingface"}),
]
# Between what is offered for one line and for the next.
BREAK = "--next--"
_CALL = """
    COMP_WORDS=(lambdanets {words}); COMP_CWORD={place}
    _lambdanets
    printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def script(tmp_path, capsys):
    """Write the script of a shell that is installed."""

    def write(shell):
        if not shutil.which(shell):
            pytest.skip(f"{shell} is not installed")
        path = tmp_path / shell
        path.write_text(printed(capsys, "completion", shell))
        return path

    return write


def offered(*shell, start, calls, cwd=None):
    """What a shell, which is started once, offers for each call."""
    code = f"\necho {BREAK}\n".join([start, *calls])
    done = subprocess.run([*shell, code], capture_output=True, text=True, check=True, cwd=cwd)
    assert not done.stderr
    parts = done.stdout.split(f"{BREAK}\n")[1:]
    return [{line.partition("\t")[0] for line in part.splitlines() if line} for part in parts]


def called(words):
    return _CALL.format(words=" ".join(f"'{word}'" for word in words), place=len(words))


@pytest.mark.slow
def test_bash_completes(script):
    # Where there is no name to offer bash offers files by itself.
    nameless = ("eval", "x")
    apart = [("train", "digits", "--optim.name", "=", "ad"), ("train", "digits", "--optim.name=ad")]
    lines = [*(words for words, _ in LINES), nameless, *apart]
    found = offered("bash", "-c", start=f"source {script('bash')}", calls=map(called, lines))
    assert dict(zip(lines, found, strict=True)) == {
        **dict(LINES),
        nameless: set(),
        apart[0]: {"adamw"},
        apart[1]: {"--optim.name=adamw"},
    }


@pytest.mark.slow
def test_zsh_completes(script):
    start = f"autoload -U compinit && compinit -u -D\nsource {script('zsh')}"
    # As bashcompinit calls it.
    calls = [f"complete_it() {{ emulate -L ksh\n{called(words)}\n}}\ncomplete_it" for words, _ in LINES]
    found = offered("zsh", "-fc", start=start, calls=calls)
    assert found == [expected for _, expected in LINES]


@pytest.mark.slow
def test_fish_completes(script, tmp_path):
    (tmp_path / "photo.png").touch()
    lines = [*(" ".join(words) for words, _ in LINES), "predict run pho"]
    calls = [f"complete -C 'lambdanets {line}'" for line in lines]
    found = offered("fish", "--no-config", "-c", start=f"source {script('fish')}", calls=calls, cwd=tmp_path)
    assert found == [*(expected for _, expected in LINES), {"photo.png"}]


def test_an_unknown_shell_is_refused(capsys):
    assert "'csh'" in refused(capsys, "completion", "csh")

"""`lambdanets completion`: a script by which a shell completes commands, recipes, options and values."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, Literal

from lambdanets.streams import print_line

if TYPE_CHECKING:
    from lambdanets.cli._words import CommandWords

# What no shell takes for more than a word: names of one's own may hold anything.
_WORD: Final = re.compile(r"[\w.:/+=-]+")

# Bash makes three words of --option=value, zsh one.
_BASH: Final = r"""# lambdanets completion bash > ~/.local/share/bash-completion/completions/lambdanets
_lambdanets() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" before="" names=""
    local command="${{COMP_WORDS[1]}}" start=2
    COMPREPLY=()
    if [[ "$current" == "=" ]]; then
        current=""
    elif [[ "$previous" == "=" ]]; then
        previous="${{COMP_WORDS[COMP_CWORD-2]}}"
    elif [[ "$current" == --*=* ]]; then
        before="${{current%%=*}}=" previous="${{current%%=*}}" current="${{current#*=}}"
    fi
    case "$command" in
        {groups}) command="$command ${{COMP_WORDS[2]}}" start=3 ;;
    esac
    if (( COMP_CWORD == 1 )); then
        names="{top} --help --version"
    elif (( COMP_CWORD < start )); then
        case "${{COMP_WORDS[1]}}" in
{subcommands}
        esac
    elif [[ -z "$before" && "$current" == -* ]]; then
        case "$command" in
{options}
        esac
    else
        case "$command $previous" in
{values}
        esac
        if [[ -z "$names" ]] && (( COMP_CWORD == start )); then
            case "$command" in
{first}
            esac
        fi
    fi
    local word
    for word in $names; do
        [[ "$word" == "$current"* ]] && COMPREPLY+=("$before$word")
    done
    return 0
}}
complete -o default -F _lambdanets lambdanets
"""

_ZSH: Final = """# lambdanets completion zsh > ~/.lambdanets.zsh
# In ~/.zshrc, behind compinit: source ~/.lambdanets.zsh
autoload -U +X bashcompinit && bashcompinit
{bash}"""

_FISH: Final = r"""# lambdanets completion fish > ~/.config/fish/completions/lambdanets.fish
function __lambdanets_words
    set -l tokens (commandline -opc)
    set -l current (commandline -ct)
    set -l count (count $tokens)
    set -l command $tokens[2]
    set -l start 2
    set -l before ""
    set -l previous $tokens[-1]
    set -l words
    if string match -qr -- '^--[^=]*=' $current
        set previous (string replace -r -- '=.*' '' $current)
        set before $previous=
    end
    switch "$command"
        case {groups}
            set command "$command $tokens[3]"
            set start 3
    end
    if test $count -eq 1
        set words {top} --help --version
    else if test $count -lt $start
        switch $tokens[2]
{subcommands}
        end
    else if test -z "$before"; and string match -q -- '-*' $current
        switch $command
{options}
        end
    else
        switch "$command $previous"
{values}
        end
        if test -z "$words"; and test $count -eq $start
            switch $command
{first}
            end
        end
    end
    if test -n "$words"
        string join \n -- $before$words
    else
        __fish_complete_path (string replace -- "$before" '' $current)
    end
end
complete -c lambdanets -f -a '(__lambdanets_words)'
"""


def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print a script by which a shell completes commands, recipes, options and their values.

    Its first lines say where to put it. It knows what there was when it was printed: print it again after an
    update. Recipes of your own are in it with --import.

    Args:
        shell: bash, zsh or fish.
    """
    from lambdanets.cli._words import all_words

    print_line(_script(shell, all_words()), end="")


def _script(shell: str, words: Mapping[str, "CommandWords"]) -> str:
    is_fish = shell == "fish"
    groups: dict[str, list[str]] = {}
    for name in words:
        group, _, own = name.partition(" ")
        groups.setdefault(group, []).extend([own] if own else [])
    valued: dict[tuple[str, ...], list[str]] = {}
    for name, one in words.items():
        for option, values in one.options.items():
            if values:
                valued.setdefault(values, []).append(f'"{name} {option}"')
    several = [group for group, names in groups.items() if names]
    space = " " if is_fish else "|"
    parts = {
        "groups": space.join(several),
        "top": " ".join(groups),
        "subcommands": _cases(((group, tuple(groups[group])) for group in several), 12, is_fish),
        "options": _cases(((f'"{name}"', tuple(one.options)) for name, one in words.items()), 12, is_fish),
        "values": _cases(((space.join(names), values) for values, names in valued.items()), 12, is_fish),
        "first": _cases(((f'"{name}"', one.first) for name, one in words.items() if one.first), 16, is_fish),
    }
    if is_fish:
        return _FISH.format(**parts)
    script = _BASH.format(**parts)
    return _ZSH.format(bash=script.partition("\n")[2]) if shell == "zsh" else script


def _cases(cases: Iterator[tuple[str, tuple[str, ...]]], indent: int, is_fish: bool) -> str:
    form = "case {}\n{:{}}    set words {}" if is_fish else '{}) names="{}" ;;'
    lines = []
    for pattern, words in cases:
        text = " ".join(word for word in words if _WORD.fullmatch(word))
        line = form.format(pattern, "", indent, text) if is_fish else form.format(pattern, text)
        lines.append(f"{'':{indent}}{line}")
    return "\n".join(lines)

"""
Writes the shells' completions of the C{nanotun} command into etc/completions:

    python tools/completions.py

They are generated from the command's own tables, so they offer exactly what the command
takes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from commandline import DIRECTORY, FILE, Option, Word, words  # noqa: E402

NOTE = "made by tools/completions.py"


def _allOptions(table: Iterable[Word]) -> list[Option]:
    """Every option of any word, once: an option means the same in every word that has it."""
    return list({option.name: option for word in table for option in word.options}.values())


def _flags(option: Option) -> list[str]:
    return [f"--{option.name}", *([f"-{option.letter}"] if option.letter else [])]


def bash(table: Sequence[Word]) -> str:
    """The completion for bash; bash 4 is enough for it."""
    cases = []
    for option in _allOptions(table):
        if option.takesValue:
            action = ":"
            if option.values:
                action = f'COMPREPLY=($(compgen -W "{" ".join(option.values)}" -- "$cur"))'
            elif option.kind == FILE:
                action = "_nanotun_files -f"
            elif option.kind == DIRECTORY:
                action = "_nanotun_files -d"
            cases.append(f"        {'|'.join(_flags(option))}) {action}; return ;;")
    options = [
        f'        {word.name}) options="{" ".join(f for o in word.options for f in _flags(o))}" ;;'
        for word in table
    ]
    files = "|".join(word.name for word in table if word.takesFile) or "''"
    commands = "|".join(word.name for word in table if word.takesCommand) or "''"
    names = " ".join([*(word.name for word in table), "--help", "--version"])
    return f"""# bash completion for nanotun, {NOTE}
_nanotun_files() {{
    local IFS=$'\\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen "$1" -- "$cur"))
}}
_nanotun() {{
    local IFS=$' \\t\\n' cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}
    local word=${{COMP_WORDS[1]}} options="" i
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "{names}" -- "$cur"))
        return
    fi
    # After -- comes the command that nanotun is to run.
    for ((i = 2; i < COMP_CWORD; i++)); do
        if [[ ${{COMP_WORDS[i]}} == -- ]]; then
            case $word in {commands}) ;; *) return ;; esac
            if ((i == COMP_CWORD - 1)); then
                COMPREPLY=($(compgen -c -- "$cur"))
            else
                _nanotun_files -f
            fi
            return
        fi
    done
    # In --option=value bash treats the = as a word.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]] && ((COMP_CWORD > 2)); then
        prev=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    case $prev in
{chr(10).join(cases)}
    esac
    case $word in
{chr(10).join(options)}
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        return
    fi
    case $word in
        {files}) _nanotun_files -f ;;
    esac
}}
complete -F _nanotun nanotun
"""


def _quoted(text: str) -> str:
    """C{text} in single quotes, for a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def _zshOption(option: Option) -> list[str]:
    help = option.help
    for sign in "\\[]:":
        help = help.replace(sign, f"\\{sign}")
    action = ""
    if option.takesValue:
        kinds = {FILE: "_files", DIRECTORY: "_files -/"}
        values = f"({' '.join(option.values)})" if option.values else kinds.get(option.kind, "")
        kind = option.kind.replace(":", "\\:")
        action = f":{kind}:{values}"
    # The option of a list may be given several times.
    several = "*" if "several times" in option.help else ""
    made = [_quoted(f"{several}--{option.name}{'=' if action else ''}[{help}]{action}")]
    if option.letter:
        made.append(_quoted(f"{several}-{option.letter}[{help}]{action}"))
    return made


def zsh(table: Sequence[Word]) -> str:
    """The completion for zsh."""
    described = "\n".join(
        f"            {_quoted(word.name + ':' + word.summary.replace(':', chr(92) + ':'))}"
        for word in table
    )
    cases = []
    for word in table:
        specs = [spec for option in word.options for spec in _zshOption(option)]
        if word.takesCommand:
            specs += ["'(-)1:command:_command_names -e'", "'*::argument:_normal'"]
        elif word.takesFile:
            specs.append("'*:file:_files'")
        body = " \\\n                ".join(specs) or "':'"
        # -S: options end at --, which is not an argument itself.
        cases.append(f"        {word.name})\n            _arguments -S {body}\n            ;;")
    return f"""#compdef nanotun
# zsh completion for nanotun, {NOTE}
_nanotun() {{
    if ((CURRENT == 2)); then
        local -a names=(
{described}
        )
        _describe word names
        return
    fi
    local word=$words[2]
    shift words
    ((CURRENT--))
    case $word in
{chr(10).join(cases)}
    esac
}}
_nanotun "$@"
"""


def fish(table: Sequence[Word]) -> str:
    """The completion for fish."""
    lines = [f"# fish completion for nanotun, {NOTE}", "complete -c nanotun -f"]
    for word in table:
        lines.append(
            "complete -c nanotun -n __fish_use_subcommand "
            f"-a {word.name} -d {_fishQuoted(word.summary)}"
        )
    for word in table:
        seen = f"complete -c nanotun -n '__fish_seen_subcommand_from {word.name}'"
        for option in word.options:
            letter = f" -s {option.letter}" if option.letter else ""
            value = ""
            if option.takesValue:
                value = " -x"
                if option.values:
                    value += f" -a {_fishQuoted(' '.join(option.values))}"
                elif option.kind == FILE:
                    value = " -r -F"
                elif option.kind == DIRECTORY:
                    value += " -a '(__fish_complete_directories)'"
            lines.append(f"{seen} -l {option.name}{letter}{value} -d {_fishQuoted(option.help)}")
        if word.takesCommand:
            lines.append(f"{seen} -a '(__fish_complete_subcommand --fcs-skip=2)'")
        elif word.takesFile:
            lines.append(f"{seen} -F")
    return "\n".join(lines) + "\n"


def _fishQuoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


def main() -> None:
    """Write all of them."""
    table = words()
    for shell, make in SHELLS.items():
        Path(ROOT, "etc", "completions", f"nanotun.{shell}").write_text(make(table))


if __name__ == "__main__":
    main()

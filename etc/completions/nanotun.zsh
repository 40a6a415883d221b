#compdef nanotun
# zsh completion for nanotun, made by tools/completions.py
_nanotun() {
    if ((CURRENT == 2)); then
        local -a names=(

        )
        _describe word names
        return
    fi
    local word=$words[2]
    shift words
    ((CURRENT--))
    case $word in

    esac
}
_nanotun "$@"

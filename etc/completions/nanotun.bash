# bash completion for nanotun, made by tools/completions.py
_nanotun_files() {
    local IFS=$'\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen "$1" -- "$cur"))
}
_nanotun() {
    local IFS=$' \t\n' cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local word=${COMP_WORDS[1]} options="" i
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "--help --version" -- "$cur"))
        return
    fi
    # Behind -- stands somebody else's command.
    for ((i = 2; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == -- ]]; then
            case $word in '') ;; *) return ;; esac
            if ((i == COMP_CWORD - 1)); then
                COMPREPLY=($(compgen -c -- "$cur"))
            else
                _nanotun_files -f
            fi
            return
        fi
    done
    # In --option=value bash takes the = for a word.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]] && ((COMP_CWORD > 2)); then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    case $prev in

    esac
    case $word in

    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        return
    fi
    case $word in
        '') _nanotun_files -f ;;
    esac
}
complete -F _nanotun nanotun

# fish completion for nanotun, made by tools/completions.py
complete -c nanotun -f

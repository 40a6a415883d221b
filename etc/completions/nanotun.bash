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
        COMPREPLY=($(compgen -W "start check status flows top close capture history web reload stop confirm run explain dns doctor plan recover --help --version" -- "$cur"))
        return
    fi
    # After -- comes the command that nanotun is to run.
    for ((i = 2; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == -- ]]; then
            case $word in run) ;; *) return ;; esac
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
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    case $prev in
        --config|-c) _nanotun_files -f; return ;;
        --confirm) :; return ;;
        --connect-timeout) :; return ;;
        --country-file) _nanotun_files -f; return ;;
        --default) :; return ;;
        --dns) :; return ;;
        --dns-cache-size) :; return ;;
        --dns-mode) COMPREPLY=($(compgen -W "normal fake-ip" -- "$cur")); return ;;
        --dns-rejected) :; return ;;
        --dns-rule) :; return ;;
        --dns-stale) :; return ;;
        --dns-state-file) _nanotun_files -f; return ;;
        --dns-via) COMPREPLY=($(compgen -W "direct proxy" -- "$cur")); return ;;
        --exclude) :; return ;;
        --exclude-ip) :; return ;;
        --exclude-refresh) :; return ;;
        --fake-ip-exclude) :; return ;;
        --flow-log) _nanotun_files -f; return ;;
        --flow-log-days) :; return ;;
        --flow-log-size) :; return ;;
        --ipv6) COMPREPLY=($(compgen -W "auto capture block" -- "$cur")); return ;;
        --lan) COMPREPLY=($(compgen -W "direct proxy" -- "$cur")); return ;;
        --lan-only-ports) :; return ;;
        --log-dir) _nanotun_files -d; return ;;
        --log-format) COMPREPLY=($(compgen -W "text json" -- "$cur")); return ;;
        --log-level) COMPREPLY=($(compgen -W "debug info warn error" -- "$cur")); return ;;
        --logfile|-l) :; return ;;
        --metrics) :; return ;;
        --mtu) :; return ;;
        --offload) COMPREPLY=($(compgen -W "auto on off" -- "$cur")); return ;;
        --only) :; return ;;
        --pidfile) :; return ;;
        --prefix) :; return ;;
        --proxy) :; return ;;
        --proxy-check-interval) :; return ;;
        --proxy-password-file) _nanotun_files -f; return ;;
        --proxy-policy) COMPREPLY=($(compgen -W "failover round-robin least-latency" -- "$cur")); return ;;
        --proxy-via) :; return ;;
        --reload-flows) COMPREPLY=($(compgen -W "keep judge" -- "$cur")); return ;;
        --resolv-conf) COMPREPLY=($(compgen -W "auto off" -- "$cur")); return ;;
        --rule) :; return ;;
        --run-dir) _nanotun_files -d; return ;;
        --script) _nanotun_files -f; return ;;
        --script-error) COMPREPLY=($(compgen -W "reject rules" -- "$cur")); return ;;
        --script-timeout) :; return ;;
        --sniff-ports) :; return ;;
        --stack) COMPREPLY=($(compgen -W "gvisor simple" -- "$cur")); return ;;
        --tun) :; return ;;
        --udp-timeout) :; return ;;
        --upstream) :; return ;;
        --upstream-pool) :; return ;;
        --web) :; return ;;
        --domain) :; return ;;
        --process) :; return ;;
        --protocol) COMPREPLY=($(compgen -W "tcp udp" -- "$cur")); return ;;
        --sort|-s) :; return ;;
        --state) COMPREPLY=($(compgen -W "waiting dialling open half-closed" -- "$cur")); return ;;
        --to) :; return ;;
        --by|-b) :; return ;;
        --count) :; return ;;
        --limit|-n) :; return ;;
        --time) :; return ;;
        --write|-w) _nanotun_files -f; return ;;
        --file|-f) :; return ;;
        --since|-s) :; return ;;
        --until|-u) :; return ;;
        --host-port) :; return ;;
        --publish) :; return ;;
        --user|-u) :; return ;;
        --cgroup) :; return ;;
        --from) :; return ;;
        --name) :; return ;;
        --pid) :; return ;;
        --uid) :; return ;;
        --target) :; return ;;
    esac
    case $word in
        start) options="--auto-route --config -c --confirm --connect-timeout --country-file --daemon -d --default --dns --dns-cache --dns-cache-size --dns-client-subnet --dns-mode --dns-override --dns-rejected --dns-rule --dns-stale --dns-state-file --dns-via --exclude --exclude-children --exclude-ip --exclude-refresh --fake-ip-exclude --flow-log --flow-log-days --flow-log-size --help --hosts --ipv6 --kill-switch --lan --lan-only-ports --log-dir --log-flows --log-format --log-level --logfile -l --metrics --mtu --no-auto-route --no-dns-cache --no-dns-client-subnet --no-dns-override --no-exclude-children --no-hosts --no-kill-switch --no-log-flows --no-rebind-protection --no-sniff --offload --only --pidfile --prefix --proxy --proxy-check-interval --proxy-password-file --proxy-policy --proxy-via --rebind-protection --reload-flows --resolv-conf --rule --run-dir --script --script-error --script-timeout --sniff --sniff-ports --stack --syslog --tun --udp-timeout --upstream --upstream-pool --version --web" ;;
        check) options="--auto-route --config -c --confirm --connect-timeout --country-file --default --dns --dns-cache --dns-cache-size --dns-client-subnet --dns-mode --dns-override --dns-rejected --dns-rule --dns-stale --dns-state-file --dns-via --exclude --exclude-children --exclude-ip --exclude-refresh --fake-ip-exclude --flow-log --flow-log-days --flow-log-size --help --hosts --ipv6 --kill-switch --lan --lan-only-ports --log-dir --log-flows --log-format --log-level --metrics --mtu --no-auto-route --no-dns-cache --no-dns-client-subnet --no-dns-override --no-exclude-children --no-hosts --no-kill-switch --no-log-flows --no-rebind-protection --no-sniff --offload --only --proxy --proxy-check-interval --proxy-password-file --proxy-policy --proxy-via --rebind-protection --reload-flows --resolv-conf --rule --run-dir --script --script-error --script-timeout --sniff --sniff-ports --stack --tun --udp-timeout --upstream --upstream-pool --version --web" ;;
        status) options="--check --config -c --help --json -j --run-dir --version --watch -w" ;;
        flows) options="--config -c --domain --help --json -j --process --protocol --rule --run-dir --sort -s --state --to --upstream --version --watch -w" ;;
        top) options="--by -b --config -c --domain --help --json -j --process --protocol --rule --run-dir --sort -s --state --to --upstream --version --watch -w" ;;
        close) options="--config -c --domain --help --process --protocol --rule --run-dir --state --to --upstream --version --yes -y" ;;
        capture) options="--config -c --count --domain --force -f --help --limit --process --protocol --rule --run-dir --state --time --to --upstream --version --write -w" ;;
        history) options="--by -b --config -c --domain --file -f --help --json -j --limit -n --process --rule --since -s --until -u --upstream --version" ;;
        web) options="--config -c --help --run-dir --token --version" ;;
        reload) options="--config -c --help --run-dir --version" ;;
        stop) options="--config -c --help --keep-kill-switch --run-dir --version" ;;
        confirm) options="--config -c --help --run-dir --version" ;;
        run) options="--allow-direct --config -c --connect-timeout --country-file --default --dns --dns-cache --dns-cache-size --dns-client-subnet --dns-mode --dns-override --dns-rejected --dns-rule --dns-stale --dns-via --exclude-ip --fake-ip-exclude --help --host-port --hosts --keep-proxy-env --lan --lan-only-ports --log-dir --log-format --log-level --mtu --no-dns-cache --no-dns-client-subnet --no-dns-override --no-hosts --no-rebind-protection --no-sniff --offload --proxy --proxy-check-interval --proxy-password-file --proxy-policy --proxy-via --publish --rebind-protection --rule --script --script-error --script-timeout --sniff --sniff-ports --stack --udp-timeout --upstream --upstream-pool --user -u --version" ;;
        explain) options="--auto-route --cgroup --config -c --confirm --connect-timeout --country-file --default --dns --dns-cache --dns-cache-size --dns-client-subnet --dns-mode --dns-override --dns-rejected --dns-rule --dns-stale --dns-state-file --dns-via --exclude --exclude-children --exclude-ip --exclude-refresh --fake-ip-exclude --flow-log --flow-log-days --flow-log-size --from --help --hosts --ipv6 --json --kill-switch --lan --lan-only-ports --log-dir --log-flows --log-format --log-level --metrics --mtu --name --no-auto-route --no-dns-cache --no-dns-client-subnet --no-dns-override --no-exclude-children --no-hosts --no-kill-switch --no-log-flows --no-rebind-protection --no-sniff --offload --only --pid --process --proxy --proxy-check-interval --proxy-password-file --proxy-policy --proxy-via --rebind-protection --reload-flows --resolv-conf --rule --run-dir --script --script-error --script-timeout --sniff --sniff-ports --stack --tun --udp-timeout --uid --upstream --upstream-pool --version --web" ;;
        dns) options="--config -c --help --json -j --run-dir --version" ;;
        doctor) options="--auto-route --config -c --confirm --connect-timeout --country-file --default --dns --dns-cache --dns-cache-size --dns-client-subnet --dns-mode --dns-override --dns-rejected --dns-rule --dns-stale --dns-state-file --dns-via --exclude --exclude-children --exclude-ip --exclude-refresh --fake-ip-exclude --flow-log --flow-log-days --flow-log-size --help --hosts --ipv6 --json --kill-switch --lan --lan-only-ports --log-dir --log-flows --log-format --log-level --metrics --mtu --no-auto-route --no-dns-cache --no-dns-client-subnet --no-dns-override --no-exclude-children --no-hosts --no-kill-switch --no-log-flows --no-rebind-protection --no-sniff --offload --only --proxy --proxy-check-interval --proxy-password-file --proxy-policy --proxy-via --rebind-protection --reload-flows --resolv-conf --rule --run-dir --script --script-error --script-timeout --sniff --sniff-ports --stack --target --tun --udp-timeout --upstream --upstream-pool --version --web" ;;
        plan) options="--auto-route --config -c --confirm --connect-timeout --country-file --default --dns --dns-cache --dns-cache-size --dns-client-subnet --dns-mode --dns-override --dns-rejected --dns-rule --dns-stale --dns-state-file --dns-via --exclude --exclude-children --exclude-ip --exclude-refresh --fake-ip-exclude --flow-log --flow-log-days --flow-log-size --help --hosts --ipv6 --kill-switch --lan --lan-only-ports --log-dir --log-flows --log-format --log-level --metrics --mtu --no-auto-route --no-dns-cache --no-dns-client-subnet --no-dns-override --no-exclude-children --no-hosts --no-kill-switch --no-log-flows --no-rebind-protection --no-sniff --offload --only --proxy --proxy-check-interval --proxy-password-file --proxy-policy --proxy-via --rebind-protection --reload-flows --resolv-conf --rule --run-dir --script --script-error --script-timeout --sniff --sniff-ports --stack --tun --udp-timeout --upstream --upstream-pool --version --web" ;;
        recover) options="--config -c --force --help --keep-kill-switch --run-dir --version" ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        return
    fi
    case $word in
        check|capture) _nanotun_files -f ;;
    esac
}
complete -F _nanotun nanotun

#compdef nanotun
# zsh completion for nanotun, made by tools/completions.py
_nanotun() {
    if ((CURRENT == 2)); then
        local -a names=(
            'start:run the daemon; with -d in the background'
            'check:read a configuration file and say what is wrong with it'
            'status:show how the daemon does; --json, --watch'
            'reload:have the daemon read its configuration again'
            'stop:end the daemon and wait until it has ended'
            'confirm:keep the routes of a start with --confirm'
            'run:run one command in a network of its own, through the proxy'
            'explain:say where a flow would go, and why'
            'doctor:look for what is wrong, and say the cure'
            'plan:print what --auto-route would change, and its undo'
            'recover:take back what a daemon that was killed has left'
        )
        _describe word names
        return
    fi
    local word=$words[2]
    shift words
    ((CURRENT--))
    case $word in
        start)
            _arguments -S '--chroot=[Chroot to a supplied directory before running]:VALUE:' \
                '--debug[Run the application in the Python Debugger (implies nodaemon), sending SIGUSR2 will drop into debugger]' \
                '-b[Run the application in the Python Debugger (implies nodaemon), sending SIGUSR2 will drop into debugger]' \
                '--encrypted[The specified tap/aos file is encrypted.]' \
                '-e[The specified tap/aos file is encrypted.]' \
                '--euid[Set only effective user-id rather than real user-id. (This option has no effect unless the server is running as root, in which case it means not to shed all privileges after binding ports, retaining the option to regain privileges in cases such as spawning processes. Use with caution.)]' \
                '--file=[read the given .tap file]:VALUE:' \
                '-f[read the given .tap file]:VALUE:' \
                '--gid=[The gid to run as. If not specified, the default gid associated with the specified --uid is used.]:VALUE:' \
                '-g[The gid to run as. If not specified, the default gid associated with the specified --uid is used.]:VALUE:' \
                '--help[Display this help and exit.]' \
                '--help-reactors[Display a list of possibly available reactor names.]' \
                '--logfile=[log to a specified file, - for stdout]:VALUE:' \
                '-l[log to a specified file, - for stdout]:VALUE:' \
                '--logger=[A fully-qualified name to a log observer factory to use for the initial log observer. Takes precedence over --logfile and --syslog (when available).]:VALUE:' \
                '--no_save[do not save state on shutdown]' \
                '-o[do not save state on shutdown]' \
                '--nodaemon[don'\''t daemonize, don'\''t use default umask of 0077]' \
                '-n[don'\''t daemonize, don'\''t use default umask of 0077]' \
                '--originalname[Don'\''t try to change the process name]' \
                '--pidfile=[Name of the pidfile]:VALUE:' \
                '--prefix=[use the given prefix when syslogging]:VALUE:' \
                '--profile=[Run in profile mode, dumping results to specified file.]:VALUE:' \
                '-p[Run in profile mode, dumping results to specified file.]:VALUE:' \
                '--profiler=[Name of the profiler to use (profile, cprofile).]:VALUE:' \
                '--python=[read an application from within a Python file (implies -o)]:VALUE:' \
                '-y[read an application from within a Python file (implies -o)]:VALUE:' \
                '--reactor=[Which reactor to use (see --help-reactors for a list of possibilities)]:VALUE:' \
                '-r[Which reactor to use (see --help-reactors for a list of possibilities)]:VALUE:' \
                '--rundir=[Change to a supplied directory before running]:VALUE:' \
                '-d[Change to a supplied directory before running]:VALUE:' \
                '--savestats[save the Stats object rather than the text output of the profiler.]' \
                '--source=[Read an application from a .tas file (AOT format).]:VALUE:' \
                '-s[Read an application from a .tas file (AOT format).]:VALUE:' \
                '--spew[Print an insanely verbose log of everything that happens. Useful when debugging freezes or locks in complex code.]' \
                '--syslog[Log to syslog, not to file]' \
                '--uid=[The uid to run as.]:VALUE:' \
                '-u[The uid to run as.]:VALUE:' \
                '--umask=[The (octal) file creation mask to apply.]:VALUE:' \
                '--version[Print version information and exit.]'
            ;;
        check)
            _arguments -S '--auto-route[send the whole machine'\''s traffic and DNS through the tunnel]' \
                '--config=[YAML configuration file]:FILE:_files' \
                '-c[YAML configuration file]:FILE:_files' \
                '--confirm=[with --auto-route\: take everything back after this many seconds, unless '\''nanotun confirm'\'' is called before]:VALUE:' \
                '--connect-timeout=[how long a connection may take to open, 100ms to 5m \[default\: 10s\]]:DURATION:' \
                '--dns-cache-size=[how many answers the relay remembers, 1 to 1000000 \[default\: 4096\]]:ANSWERS:' \
                '--dns-cache=[whether the relay remembers answers, true or false \[default\: true\]]:BOOL:(true false)' \
                '--dns-mode=[DNS answers of the relay\: normal, or fake-ip (addresses that stand for names) \[default\: normal\]]:MODE:(normal fake-ip)' \
                '--dns-override=[true\: the relay answers DNS queries to any server \[default\: false\]]:BOOL:(true false)' \
                '--dns-state-file=[where fake-ip keeps its names across restarts; '\'''\'' for nowhere \[default\: /var/lib/nanotun/fakeip.json\]]:FILE:_files' \
                '*--dns=[DNS server for the gateway'\''s relay, with a port or without; more behind commas \[default\: 8.8.8.8\]; may be given several times]:ADDRESS:' \
                '--exclude-children=[whether what an excluded process has started is excluded too, true or false \[default\: false\]]:BOOL:(true false)' \
                '*--exclude-ip=[addresses and networks (CIDR) that go past the proxy; more behind commas; may be given several times]:ADDRESS:' \
                '--exclude-refresh=[how often the table of excluded processes is made anew, 1s to 1h \[default\: 15s\]]:DURATION:' \
                '*--exclude=[processes that go past the proxy\: a name, a /path, pid\:N, uid\:N or name, cgroup\:/PATH or unit\:NAME; more behind commas; may be given several times]:PROCESS:' \
                '*--fake-ip-exclude=[names that fake-ip leaves alone, with all below; more behind commas; may be given several times]:DOMAIN:' \
                '--help[Display this help and exit.]' \
                '--ipv6=[IPv6 under autoDefaultRoute\: capture, block (unreachable) or auto \[default\: auto\]]:MODE:(auto capture block)' \
                '--kill-switch=[whether traffic stays in when the daemon is gone, true or false \[default\: false\]]:BOOL:(true false)' \
                '--lan-only-ports=[ports that never reach the proxy; '\'''\'' for none \[default\: tcp\:139,tcp\:445,udp\:137,udp\:138,udp\:445,udp\:5353\]]:PORTS:' \
                '--lan=[local networks and reserved addresses\: direct (past the proxy) or proxy \[default\: direct\]]:WAY:(direct proxy)' \
                '--log-dir=[directory of the log files; '\'''\'' for none \[default\: logs\]]:DIR:_files -/' \
                '--log-format=[log lines\: text, or json (one object a line) \[default\: text\]]:FORMAT:(text json)' \
                '--log-level=[what to log\: debug, info, warn or error \[default\: info\]]:LEVEL:(debug info warn error)' \
                '--mtu=[MTU of the TUN device, 1280 to 65535 \[default\: 1500\]]:BYTES:' \
                '--no-auto-route[Change no route, whatever the configuration file says.]' \
                '--offload=[segmentation offload\: auto (try it at start), on or off \[default\: auto\]]:MODE:(auto on off)' \
                '--proxy-check-interval=[how often an idle one of several proxies is checked, 1s to 1h \[default\: 30s\]]:DURATION:' \
                '--proxy-password-file=[file with the proxy'\''s password, for a proxy with a user name only]:FILE:_files' \
                '--proxy-policy=[which of several proxies\: failover (the first that works), round-robin or least-latency \[default\: failover\]]:POLICY:(failover round-robin least-latency)' \
                '*--proxy=[socks5, socks5h, socks4, socks4a, http or https \://\[user\:password@\]host\[\:port\]; direct\:// for no proxy, reject\:// for no connections; more behind commas; may be given several times]:socks5\://host\:port:' \
                '--run-dir=[directory of the control socket, the lock and the routes'\'' journal \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--stack=[packet engine\: gvisor (everything) or simple (less overhead) \[default\: gvisor\]]:MODE:(gvisor simple)' \
                '--tun=[name of the TUN device \[default\: nano0\]]:NAME:' \
                '--udp-timeout=[how long a UDP association lives without datagrams, 1s to 1h \[default\: 1m\]]:DURATION:' \
                '--upstream-pool=[connections to the proxy to keep ready for flows to come, 0 to 64 \[default\: 0\]]:CONNECTIONS:' \
                '--version[Display nanotun'\''s version and exit.]' \
                '*:file:_files'
            ;;
        status)
            _arguments -S '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--help[Display this help and exit.]' \
                '--json[one JSON object; docs/command.md has its fields]' \
                '-j[one JSON object; docs/command.md has its fields]' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--version[Display Twisted version and exit.]' \
                '--watch[again every 2 seconds, or SECONDS; Ctrl-C ends it]' \
                '-w[again every 2 seconds, or SECONDS; Ctrl-C ends it]'
            ;;
        reload)
            _arguments -S '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--help[Display this help and exit.]' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--version[Display Twisted version and exit.]'
            ;;
        stop)
            _arguments -S '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--help[Display this help and exit.]' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--version[Display Twisted version and exit.]'
            ;;
        confirm)
            _arguments -S '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--help[Display this help and exit.]' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--version[Display Twisted version and exit.]'
            ;;
        run)
            _arguments -S ':'
            ;;
        explain)
            _arguments -S '--auto-route[send the whole machine'\''s traffic and DNS through the tunnel]' \
                '--cgroup=[path of the flow'\''s cgroup, such as /system.slice/x.service]:VALUE:' \
                '--config=[YAML configuration file]:FILE:_files' \
                '-c[YAML configuration file]:FILE:_files' \
                '--confirm=[with --auto-route\: take everything back after this many seconds, unless '\''nanotun confirm'\'' is called before]:VALUE:' \
                '--connect-timeout=[how long a connection may take to open, 100ms to 5m \[default\: 10s\]]:DURATION:' \
                '--dns-cache-size=[how many answers the relay remembers, 1 to 1000000 \[default\: 4096\]]:ANSWERS:' \
                '--dns-cache=[whether the relay remembers answers, true or false \[default\: true\]]:BOOL:(true false)' \
                '--dns-mode=[DNS answers of the relay\: normal, or fake-ip (addresses that stand for names) \[default\: normal\]]:MODE:(normal fake-ip)' \
                '--dns-override=[true\: the relay answers DNS queries to any server \[default\: false\]]:BOOL:(true false)' \
                '--dns-state-file=[where fake-ip keeps its names across restarts; '\'''\'' for nowhere \[default\: /var/lib/nanotun/fakeip.json\]]:FILE:_files' \
                '*--dns=[DNS server for the gateway'\''s relay, with a port or without; more behind commas \[default\: 8.8.8.8\]; may be given several times]:ADDRESS:' \
                '--exclude-children=[whether what an excluded process has started is excluded too, true or false \[default\: false\]]:BOOL:(true false)' \
                '*--exclude-ip=[addresses and networks (CIDR) that go past the proxy; more behind commas; may be given several times]:ADDRESS:' \
                '--exclude-refresh=[how often the table of excluded processes is made anew, 1s to 1h \[default\: 15s\]]:DURATION:' \
                '*--exclude=[processes that go past the proxy\: a name, a /path, pid\:N, uid\:N or name, cgroup\:/PATH or unit\:NAME; more behind commas; may be given several times]:PROCESS:' \
                '*--fake-ip-exclude=[names that fake-ip leaves alone, with all below; more behind commas; may be given several times]:DOMAIN:' \
                '--from=[source address, for the flow of another machine]:VALUE:' \
                '--help[Display this help and exit.]' \
                '--ipv6=[IPv6 under autoDefaultRoute\: capture, block (unreachable) or auto \[default\: auto\]]:MODE:(auto capture block)' \
                '--json[print one JSON object]' \
                '--kill-switch=[whether traffic stays in when the daemon is gone, true or false \[default\: false\]]:BOOL:(true false)' \
                '--lan-only-ports=[ports that never reach the proxy; '\'''\'' for none \[default\: tcp\:139,tcp\:445,udp\:137,udp\:138,udp\:445,udp\:5353\]]:PORTS:' \
                '--lan=[local networks and reserved addresses\: direct (past the proxy) or proxy \[default\: direct\]]:WAY:(direct proxy)' \
                '--log-dir=[directory of the log files; '\'''\'' for none \[default\: logs\]]:DIR:_files -/' \
                '--log-format=[log lines\: text, or json (one object a line) \[default\: text\]]:FORMAT:(text json)' \
                '--log-level=[what to log\: debug, info, warn or error \[default\: info\]]:LEVEL:(debug info warn error)' \
                '--mtu=[MTU of the TUN device, 1280 to 65535 \[default\: 1500\]]:BYTES:' \
                '--no-auto-route[Change no route, whatever the configuration file says.]' \
                '--offload=[segmentation offload\: auto (try it at start), on or off \[default\: auto\]]:MODE:(auto on off)' \
                '--pid=[the process that has this number now]:VALUE:' \
                '--process=[name or /path of the process whose flow it is]:VALUE:' \
                '--proxy-check-interval=[how often an idle one of several proxies is checked, 1s to 1h \[default\: 30s\]]:DURATION:' \
                '--proxy-password-file=[file with the proxy'\''s password, for a proxy with a user name only]:FILE:_files' \
                '--proxy-policy=[which of several proxies\: failover (the first that works), round-robin or least-latency \[default\: failover\]]:POLICY:(failover round-robin least-latency)' \
                '*--proxy=[socks5, socks5h, socks4, socks4a, http or https \://\[user\:password@\]host\[\:port\]; direct\:// for no proxy, reject\:// for no connections; more behind commas; may be given several times]:socks5\://host\:port:' \
                '--run-dir=[directory of the control socket, the lock and the routes'\'' journal \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--stack=[packet engine\: gvisor (everything) or simple (less overhead) \[default\: gvisor\]]:MODE:(gvisor simple)' \
                '--tun=[name of the TUN device \[default\: nano0\]]:NAME:' \
                '--udp-timeout=[how long a UDP association lives without datagrams, 1s to 1h \[default\: 1m\]]:DURATION:' \
                '--uid=[the user whose flow it is, a name or a number]:VALUE:' \
                '--upstream-pool=[connections to the proxy to keep ready for flows to come, 0 to 64 \[default\: 0\]]:CONNECTIONS:' \
                '--version[Display nanotun'\''s version and exit.]'
            ;;
        doctor)
            _arguments -S '--auto-route[send the whole machine'\''s traffic and DNS through the tunnel]' \
                '--config=[YAML configuration file]:FILE:_files' \
                '-c[YAML configuration file]:FILE:_files' \
                '--confirm=[with --auto-route\: take everything back after this many seconds, unless '\''nanotun confirm'\'' is called before]:VALUE:' \
                '--connect-timeout=[how long a connection may take to open, 100ms to 5m \[default\: 10s\]]:DURATION:' \
                '--dns-cache-size=[how many answers the relay remembers, 1 to 1000000 \[default\: 4096\]]:ANSWERS:' \
                '--dns-cache=[whether the relay remembers answers, true or false \[default\: true\]]:BOOL:(true false)' \
                '--dns-mode=[DNS answers of the relay\: normal, or fake-ip (addresses that stand for names) \[default\: normal\]]:MODE:(normal fake-ip)' \
                '--dns-override=[true\: the relay answers DNS queries to any server \[default\: false\]]:BOOL:(true false)' \
                '--dns-state-file=[where fake-ip keeps its names across restarts; '\'''\'' for nowhere \[default\: /var/lib/nanotun/fakeip.json\]]:FILE:_files' \
                '*--dns=[DNS server for the gateway'\''s relay, with a port or without; more behind commas \[default\: 8.8.8.8\]; may be given several times]:ADDRESS:' \
                '--exclude-children=[whether what an excluded process has started is excluded too, true or false \[default\: false\]]:BOOL:(true false)' \
                '*--exclude-ip=[addresses and networks (CIDR) that go past the proxy; more behind commas; may be given several times]:ADDRESS:' \
                '--exclude-refresh=[how often the table of excluded processes is made anew, 1s to 1h \[default\: 15s\]]:DURATION:' \
                '*--exclude=[processes that go past the proxy\: a name, a /path, pid\:N, uid\:N or name, cgroup\:/PATH or unit\:NAME; more behind commas; may be given several times]:PROCESS:' \
                '*--fake-ip-exclude=[names that fake-ip leaves alone, with all below; more behind commas; may be given several times]:DOMAIN:' \
                '--help[Display this help and exit.]' \
                '--ipv6=[IPv6 under autoDefaultRoute\: capture, block (unreachable) or auto \[default\: auto\]]:MODE:(auto capture block)' \
                '--json[print an array of objects\: check, level, text, cure]' \
                '--kill-switch=[whether traffic stays in when the daemon is gone, true or false \[default\: false\]]:BOOL:(true false)' \
                '--lan-only-ports=[ports that never reach the proxy; '\'''\'' for none \[default\: tcp\:139,tcp\:445,udp\:137,udp\:138,udp\:445,udp\:5353\]]:PORTS:' \
                '--lan=[local networks and reserved addresses\: direct (past the proxy) or proxy \[default\: direct\]]:WAY:(direct proxy)' \
                '--log-dir=[directory of the log files; '\'''\'' for none \[default\: logs\]]:DIR:_files -/' \
                '--log-format=[log lines\: text, or json (one object a line) \[default\: text\]]:FORMAT:(text json)' \
                '--log-level=[what to log\: debug, info, warn or error \[default\: info\]]:LEVEL:(debug info warn error)' \
                '--mtu=[MTU of the TUN device, 1280 to 65535 \[default\: 1500\]]:BYTES:' \
                '--no-auto-route[Change no route, whatever the configuration file says.]' \
                '--offload=[segmentation offload\: auto (try it at start), on or off \[default\: auto\]]:MODE:(auto on off)' \
                '--proxy-check-interval=[how often an idle one of several proxies is checked, 1s to 1h \[default\: 30s\]]:DURATION:' \
                '--proxy-password-file=[file with the proxy'\''s password, for a proxy with a user name only]:FILE:_files' \
                '--proxy-policy=[which of several proxies\: failover (the first that works), round-robin or least-latency \[default\: failover\]]:POLICY:(failover round-robin least-latency)' \
                '*--proxy=[socks5, socks5h, socks4, socks4a, http or https \://\[user\:password@\]host\[\:port\]; direct\:// for no proxy, reject\:// for no connections; more behind commas; may be given several times]:socks5\://host\:port:' \
                '--run-dir=[directory of the control socket, the lock and the routes'\'' journal \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--stack=[packet engine\: gvisor (everything) or simple (less overhead) \[default\: gvisor\]]:MODE:(gvisor simple)' \
                '--target=[HOST\:PORT that the proxy is to connect to]:VALUE:' \
                '--tun=[name of the TUN device \[default\: nano0\]]:NAME:' \
                '--udp-timeout=[how long a UDP association lives without datagrams, 1s to 1h \[default\: 1m\]]:DURATION:' \
                '--upstream-pool=[connections to the proxy to keep ready for flows to come, 0 to 64 \[default\: 0\]]:CONNECTIONS:' \
                '--version[Display nanotun'\''s version and exit.]'
            ;;
        plan)
            _arguments -S '--auto-route[send the whole machine'\''s traffic and DNS through the tunnel]' \
                '--config=[YAML configuration file]:FILE:_files' \
                '-c[YAML configuration file]:FILE:_files' \
                '--confirm=[with --auto-route\: take everything back after this many seconds, unless '\''nanotun confirm'\'' is called before]:VALUE:' \
                '--connect-timeout=[how long a connection may take to open, 100ms to 5m \[default\: 10s\]]:DURATION:' \
                '--dns-cache-size=[how many answers the relay remembers, 1 to 1000000 \[default\: 4096\]]:ANSWERS:' \
                '--dns-cache=[whether the relay remembers answers, true or false \[default\: true\]]:BOOL:(true false)' \
                '--dns-mode=[DNS answers of the relay\: normal, or fake-ip (addresses that stand for names) \[default\: normal\]]:MODE:(normal fake-ip)' \
                '--dns-override=[true\: the relay answers DNS queries to any server \[default\: false\]]:BOOL:(true false)' \
                '--dns-state-file=[where fake-ip keeps its names across restarts; '\'''\'' for nowhere \[default\: /var/lib/nanotun/fakeip.json\]]:FILE:_files' \
                '*--dns=[DNS server for the gateway'\''s relay, with a port or without; more behind commas \[default\: 8.8.8.8\]; may be given several times]:ADDRESS:' \
                '--exclude-children=[whether what an excluded process has started is excluded too, true or false \[default\: false\]]:BOOL:(true false)' \
                '*--exclude-ip=[addresses and networks (CIDR) that go past the proxy; more behind commas; may be given several times]:ADDRESS:' \
                '--exclude-refresh=[how often the table of excluded processes is made anew, 1s to 1h \[default\: 15s\]]:DURATION:' \
                '*--exclude=[processes that go past the proxy\: a name, a /path, pid\:N, uid\:N or name, cgroup\:/PATH or unit\:NAME; more behind commas; may be given several times]:PROCESS:' \
                '*--fake-ip-exclude=[names that fake-ip leaves alone, with all below; more behind commas; may be given several times]:DOMAIN:' \
                '--help[Display this help and exit.]' \
                '--ipv6=[IPv6 under autoDefaultRoute\: capture, block (unreachable) or auto \[default\: auto\]]:MODE:(auto capture block)' \
                '--kill-switch=[whether traffic stays in when the daemon is gone, true or false \[default\: false\]]:BOOL:(true false)' \
                '--lan-only-ports=[ports that never reach the proxy; '\'''\'' for none \[default\: tcp\:139,tcp\:445,udp\:137,udp\:138,udp\:445,udp\:5353\]]:PORTS:' \
                '--lan=[local networks and reserved addresses\: direct (past the proxy) or proxy \[default\: direct\]]:WAY:(direct proxy)' \
                '--log-dir=[directory of the log files; '\'''\'' for none \[default\: logs\]]:DIR:_files -/' \
                '--log-format=[log lines\: text, or json (one object a line) \[default\: text\]]:FORMAT:(text json)' \
                '--log-level=[what to log\: debug, info, warn or error \[default\: info\]]:LEVEL:(debug info warn error)' \
                '--mtu=[MTU of the TUN device, 1280 to 65535 \[default\: 1500\]]:BYTES:' \
                '--no-auto-route[Change no route, whatever the configuration file says.]' \
                '--offload=[segmentation offload\: auto (try it at start), on or off \[default\: auto\]]:MODE:(auto on off)' \
                '--proxy-check-interval=[how often an idle one of several proxies is checked, 1s to 1h \[default\: 30s\]]:DURATION:' \
                '--proxy-password-file=[file with the proxy'\''s password, for a proxy with a user name only]:FILE:_files' \
                '--proxy-policy=[which of several proxies\: failover (the first that works), round-robin or least-latency \[default\: failover\]]:POLICY:(failover round-robin least-latency)' \
                '*--proxy=[socks5, socks5h, socks4, socks4a, http or https \://\[user\:password@\]host\[\:port\]; direct\:// for no proxy, reject\:// for no connections; more behind commas; may be given several times]:socks5\://host\:port:' \
                '--run-dir=[directory of the control socket, the lock and the routes'\'' journal \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--stack=[packet engine\: gvisor (everything) or simple (less overhead) \[default\: gvisor\]]:MODE:(gvisor simple)' \
                '--tun=[name of the TUN device \[default\: nano0\]]:NAME:' \
                '--udp-timeout=[how long a UDP association lives without datagrams, 1s to 1h \[default\: 1m\]]:DURATION:' \
                '--upstream-pool=[connections to the proxy to keep ready for flows to come, 0 to 64 \[default\: 0\]]:CONNECTIONS:' \
                '--version[Display nanotun'\''s version and exit.]'
            ;;
        recover)
            _arguments -S '--config=[YAML configuration file, for its runDir]:FILE:_files' \
                '-c[YAML configuration file, for its runDir]:FILE:_files' \
                '--force[also remove rules and routes that bear nanotun'\''s number (protocol 110)]' \
                '--help[Display this help and exit.]' \
                '--keep-kill-switch[change nothing if killSwitch was on\: traffic stays in]' \
                '--run-dir=[directory of the journal \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--version[Display Twisted version and exit.]'
            ;;
    esac
}
_nanotun "$@"

#compdef nanotun
# zsh completion for nanotun, made by tools/completions.py
_nanotun() {
    if ((CURRENT == 2)); then
        local -a names=(
            'start:run the daemon; with -d in the background'
            'check:read a configuration file and say what is wrong with it'
            'status:show how the daemon does; --json, --watch'
            'flows:list the open flows, and whose they are; --json, --watch'
            'top:sum the flows up by program, domain, upstream or rule'
            'close:end flows, by their ids or by filters'
            'capture:write packets to a file, with their programs and rules'
            'history:show the flows that have ended, or sums of them'
            'web:print the link to the page in a browser; --token'
            'reload:have the daemon read its configuration again'
            'stop:end the daemon and wait until it has ended'
            'confirm:keep the routes of a start with --confirm'
            'run:run one command in a network of its own, through the proxy'
            'explain:say where a flow would go, and why'
            'dns:look a name up as programs do, and say who answered'
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
            _arguments -S '--auto-route[send the whole machine'\''s traffic and DNS through the tunnel \[default\: false\]]' \
                '--config=[YAML configuration file]:FILE:_files' \
                '-c[YAML configuration file]:FILE:_files' \
                '--confirm=[with --auto-route\: take everything back after this many seconds, unless '\''nanotun confirm'\'' is called before]:VALUE:' \
                '--connect-timeout=[how long a connection may take to open, all steps together, 100ms to 5m \[default\: 10s\]]:DURATION:' \
                '--country-file=[MaxMind DB that says which country an address is in, for rules with countries]:FILE:_files' \
                '--daemon[run in the background; returns once the device is up, and says if the proxy is not]' \
                '-d[run in the background; returns once the device is up, and says if the proxy is not]' \
                '--default=[where connections go that no rule is about\: an upstream, direct, reject or drop \[default\: proxy\]]:NAME:' \
                '*--dns=[DNS server for the gateway'\''s relay\: an address, tls\://, https\:// or system; several with commas \[default\: 8.8.8.8\]; may be given several times]:SERVER:' \
                '--dns-cache[whether the relay remembers answers \[default\: true\]]' \
                '--dns-cache-size=[how many answers the relay remembers, 1 to 1000000 \[default\: 4096\]]:ANSWERS:' \
                '--dns-client-subnet[whether servers are told the client'\''s network if a query names it (EDNS client subnet) \[default\: false\]]' \
                '--dns-mode=[DNS answers of the relay\: normal, or fake-ip (addresses that stand for names) \[default\: normal\]]:MODE:(normal fake-ip)' \
                '--dns-override[the relay answers DNS queries to any server, if they would go to the proxy \[default\: false\]]' \
                '--dns-rejected=[what is answered to queries for domains that a rule rejects or drops\: pass (what the servers say), refuse, nodata, or addresses with commas \[default\: pass\]]:ANSWER:' \
                '*--dns-rule=[who answers for which names\: servers, or the relay itself; the first rule that has the name counts; --dns-rule takes one as YAML; may be given several times]:RULE:' \
                '--dns-stale=[for how long after its time an answer is given if no server responds, 0s to 168h \[default\: 24h\]]:DURATION:' \
                '--dns-state-file=[where fake-ip keeps its names across restarts; '\'''\'' for nowhere \[default\: /var/lib/nanotun/fakeip.json\]]:FILE:_files' \
                '--dns-via=[how the relay'\''s queries travel\: direct (past the proxy), proxy, or by the upstream of that name \[default\: direct\]]:WAY:(direct proxy)' \
                '*--exclude=[processes that bypass the proxy\: a name, a /path, pid\:N, uid\:N or name, cgroup\:/PATH or unit\:NAME; several with commas; may be given several times]:PROCESS:' \
                '--exclude-children[whether what an excluded process has started is excluded too \[default\: false\]]' \
                '*--exclude-ip=[addresses and networks (CIDR) that bypass the proxy; several with commas; may be given several times]:ADDRESS:' \
                '--exclude-refresh=[how often the table of excluded processes is rebuilt, 1s to 1h \[default\: 15s\]]:DURATION:' \
                '*--fake-ip-exclude=[names that fake-ip leaves alone, with all below; several with commas; may be given several times]:DOMAIN:' \
                '--flow-log=[SQLite file that keeps the flows that have ended; '\'''\'' for none]:FILE:_files' \
                '--flow-log-days=[how long flowLog keeps each flow, 1 to 3650 days \[default\: 30\]]:DAYS:' \
                '--flow-log-size=[how large flowLog may become, 1MiB to 1TiB \[default\: 256MiB\]]:SIZE:' \
                '--help[Display this help and exit.]' \
                '--hosts[whether the relay answers by /etc/hosts \[default\: false\]]' \
                '--ipv6=[IPv6 under autoDefaultRoute\: capture, block (unreachable) or auto (capture where the machine has it) \[default\: auto\]]:MODE:(auto capture block)' \
                '--kill-switch[under autoDefaultRoute, whether traffic stays in when the daemon is gone \[default\: false\]]' \
                '--lan=[local networks and reserved addresses\: direct (past the proxy) or proxy \[default\: direct\]]:MODE:(direct proxy)' \
                '--lan-only-ports=[ports for local networks only (file shares, mDNS), refused elsewhere; '\'''\'' for none \[default\: tcp\:139,tcp\:445,udp\:137,udp\:138,udp\:445,udp\:5353\]]:PORTS:' \
                '--log-dir=[directory of the log files; '\'''\'' for none \[default\: logs\]]:DIR:_files -/' \
                '--log-flows[log a line for each flow that has ended \[default\: false\]]' \
                '--log-format=[log lines\: text, or json (one object a line) \[default\: text\]]:FORMAT:(text json)' \
                '--log-level=[what to log\: debug, info, warn or error \[default\: info\]]:LEVEL:(debug info warn error)' \
                '--logfile=[log to this file in the place of stderr]:VALUE:' \
                '-l[log to this file in the place of stderr]:VALUE:' \
                '--metrics=[address at which Prometheus gets metrics, such as 127.0.0.1\:9198; '\'''\'' for none]:HOST\:PORT:' \
                '--mtu=[MTU of the TUN device, 1280 to 65535 \[default\: 1500\]]:BYTES:' \
                '--no-auto-route[change no route, whatever the configuration file says]' \
                '--no-dns-cache[the same as --dns-cache=false]' \
                '--no-dns-client-subnet[the same as --dns-client-subnet=false]' \
                '--no-dns-override[the same as --dns-override=false]' \
                '--no-exclude-children[the same as --exclude-children=false]' \
                '--no-hosts[the same as --hosts=false]' \
                '--no-kill-switch[the same as --kill-switch=false]' \
                '--no-log-flows[the same as --log-flows=false]' \
                '--no-rebind-protection[the same as --rebind-protection=false]' \
                '--no-sniff[the same as --sniff=false]' \
                '--offload=[segmentation offload\: auto (try it at start), on or off \[default\: auto\]]:MODE:(auto on off)' \
                '*--only=[under autoDefaultRoute, the only programs whose traffic enters the tunnel\: uid\:N or name, cgroup\:/PATH or unit\:NAME; several with commas; may be given several times]:PROCESS:' \
                '--pidfile=[file for the process id \[default with -d\: runDir/nanotun.pid\]]:VALUE:' \
                '--prefix=[what syslog'\''s lines begin with]:VALUE:' \
                '*--proxy=[socks5, socks5h, socks4, socks4a, http or https \://\[user\:password@\]host\[\:port\]; direct\:// for no proxy, reject\:// for no connections; several with commas; may be given several times]:socks5\://host\:port:' \
                '--proxy-check-interval=[how often an idle proxy is checked, 1s to 1h \[default\: 30s\]]:DURATION:' \
                '--proxy-password-file=[file with the proxy'\''s password, for a proxy with a user name only]:FILE:_files' \
                '--proxy-policy=[which of several proxies\: failover (the first that works), round-robin or least-latency \[default\: failover\]]:POLICY:(failover round-robin least-latency)' \
                '--proxy-via=[upstream through which the proxy itself is reached]:NAME:' \
                '--rebind-protection[whether answers are dropped that give a name an address of a local network \[default\: false\]]' \
                '--reload-flows=[open connections at a reload\: keep them all, or judge them again and end those that would go elsewhere \[default\: keep\]]:MODE:(keep judge)' \
                '--resolv-conf=[/etc/resolv.conf of a container under autoDefaultRoute\: auto (names only the relay) or off \[default\: auto\]]:MODE:(auto off)' \
                '*--rule=[where connections go, by domain, network, country, process, port, source and time; the first rule that matches decides; --rule takes one as YAML; may be given several times]:RULE:' \
                '--run-dir=[directory of the control socket, the lock and the routes'\'' journal \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--script=[Python file that decides about flows; '\'''\'' for none]:FILE:_files' \
                '--script-error=[when the script fails\: reject the connection, or let the rules decide \[default\: reject\]]:MODE:(reject rules)' \
                '--script-timeout=[how long the script'\''s answer may take, 100ms to 2m \[default\: 5s\]]:DURATION:' \
                '--sniff[read the name from TLS, HTTP and QUIC where a rule or script needs it and none is known \[default\: false\]]' \
                '*--sniff-ports=[ports whose first bytes may be read with sniff \[default\: 80,443\]; may be given several times]:PORTS:' \
                '--stack=[TCP for this machine'\''s flows\: gvisor (all of it) or simple (a third less CPU) \[default\: gvisor\]]:MODE:(gvisor simple)' \
                '--syslog[log to syslog in the place of stderr]' \
                '--tun=[name of the TUN device \[default\: nano0\]]:NAME:' \
                '--udp-timeout=[how long a UDP association lives without datagrams, 1s to 1h \[default\: 1m\]]:DURATION:' \
                '*--upstream=[more ways out, by name, for rules to send connections to\: NAME=URL; may be given several times]:NAME=URL:' \
                '--upstream-pool=[connections to the proxy to keep ready for flows to come, 0 to 64 \[default\: 0\]]:CONNECTIONS:' \
                '--version[Display nanotun'\''s version and exit.]' \
                '--web=[address of the page for a browser and of its API, such as 127.0.0.1\:8198; '\'''\'' for none]:HOST\:PORT:'
            ;;
        check)
            _arguments -S '--auto-route[send the whole machine'\''s traffic and DNS through the tunnel \[default\: false\]]' \
                '--config=[YAML configuration file]:FILE:_files' \
                '-c[YAML configuration file]:FILE:_files' \
                '--confirm=[with --auto-route\: take everything back after this many seconds, unless '\''nanotun confirm'\'' is called before]:VALUE:' \
                '--connect-timeout=[how long a connection may take to open, all steps together, 100ms to 5m \[default\: 10s\]]:DURATION:' \
                '--country-file=[MaxMind DB that says which country an address is in, for rules with countries]:FILE:_files' \
                '--default=[where connections go that no rule is about\: an upstream, direct, reject or drop \[default\: proxy\]]:NAME:' \
                '*--dns=[DNS server for the gateway'\''s relay\: an address, tls\://, https\:// or system; several with commas \[default\: 8.8.8.8\]; may be given several times]:SERVER:' \
                '--dns-cache[whether the relay remembers answers \[default\: true\]]' \
                '--dns-cache-size=[how many answers the relay remembers, 1 to 1000000 \[default\: 4096\]]:ANSWERS:' \
                '--dns-client-subnet[whether servers are told the client'\''s network if a query names it (EDNS client subnet) \[default\: false\]]' \
                '--dns-mode=[DNS answers of the relay\: normal, or fake-ip (addresses that stand for names) \[default\: normal\]]:MODE:(normal fake-ip)' \
                '--dns-override[the relay answers DNS queries to any server, if they would go to the proxy \[default\: false\]]' \
                '--dns-rejected=[what is answered to queries for domains that a rule rejects or drops\: pass (what the servers say), refuse, nodata, or addresses with commas \[default\: pass\]]:ANSWER:' \
                '*--dns-rule=[who answers for which names\: servers, or the relay itself; the first rule that has the name counts; --dns-rule takes one as YAML; may be given several times]:RULE:' \
                '--dns-stale=[for how long after its time an answer is given if no server responds, 0s to 168h \[default\: 24h\]]:DURATION:' \
                '--dns-state-file=[where fake-ip keeps its names across restarts; '\'''\'' for nowhere \[default\: /var/lib/nanotun/fakeip.json\]]:FILE:_files' \
                '--dns-via=[how the relay'\''s queries travel\: direct (past the proxy), proxy, or by the upstream of that name \[default\: direct\]]:WAY:(direct proxy)' \
                '*--exclude=[processes that bypass the proxy\: a name, a /path, pid\:N, uid\:N or name, cgroup\:/PATH or unit\:NAME; several with commas; may be given several times]:PROCESS:' \
                '--exclude-children[whether what an excluded process has started is excluded too \[default\: false\]]' \
                '*--exclude-ip=[addresses and networks (CIDR) that bypass the proxy; several with commas; may be given several times]:ADDRESS:' \
                '--exclude-refresh=[how often the table of excluded processes is rebuilt, 1s to 1h \[default\: 15s\]]:DURATION:' \
                '*--fake-ip-exclude=[names that fake-ip leaves alone, with all below; several with commas; may be given several times]:DOMAIN:' \
                '--flow-log=[SQLite file that keeps the flows that have ended; '\'''\'' for none]:FILE:_files' \
                '--flow-log-days=[how long flowLog keeps each flow, 1 to 3650 days \[default\: 30\]]:DAYS:' \
                '--flow-log-size=[how large flowLog may become, 1MiB to 1TiB \[default\: 256MiB\]]:SIZE:' \
                '--help[Display this help and exit.]' \
                '--hosts[whether the relay answers by /etc/hosts \[default\: false\]]' \
                '--ipv6=[IPv6 under autoDefaultRoute\: capture, block (unreachable) or auto (capture where the machine has it) \[default\: auto\]]:MODE:(auto capture block)' \
                '--kill-switch[under autoDefaultRoute, whether traffic stays in when the daemon is gone \[default\: false\]]' \
                '--lan=[local networks and reserved addresses\: direct (past the proxy) or proxy \[default\: direct\]]:MODE:(direct proxy)' \
                '--lan-only-ports=[ports for local networks only (file shares, mDNS), refused elsewhere; '\'''\'' for none \[default\: tcp\:139,tcp\:445,udp\:137,udp\:138,udp\:445,udp\:5353\]]:PORTS:' \
                '--log-dir=[directory of the log files; '\'''\'' for none \[default\: logs\]]:DIR:_files -/' \
                '--log-flows[log a line for each flow that has ended \[default\: false\]]' \
                '--log-format=[log lines\: text, or json (one object a line) \[default\: text\]]:FORMAT:(text json)' \
                '--log-level=[what to log\: debug, info, warn or error \[default\: info\]]:LEVEL:(debug info warn error)' \
                '--metrics=[address at which Prometheus gets metrics, such as 127.0.0.1\:9198; '\'''\'' for none]:HOST\:PORT:' \
                '--mtu=[MTU of the TUN device, 1280 to 65535 \[default\: 1500\]]:BYTES:' \
                '--no-auto-route[change no route, whatever the configuration file says]' \
                '--no-dns-cache[the same as --dns-cache=false]' \
                '--no-dns-client-subnet[the same as --dns-client-subnet=false]' \
                '--no-dns-override[the same as --dns-override=false]' \
                '--no-exclude-children[the same as --exclude-children=false]' \
                '--no-hosts[the same as --hosts=false]' \
                '--no-kill-switch[the same as --kill-switch=false]' \
                '--no-log-flows[the same as --log-flows=false]' \
                '--no-rebind-protection[the same as --rebind-protection=false]' \
                '--no-sniff[the same as --sniff=false]' \
                '--offload=[segmentation offload\: auto (try it at start), on or off \[default\: auto\]]:MODE:(auto on off)' \
                '*--only=[under autoDefaultRoute, the only programs whose traffic enters the tunnel\: uid\:N or name, cgroup\:/PATH or unit\:NAME; several with commas; may be given several times]:PROCESS:' \
                '*--proxy=[socks5, socks5h, socks4, socks4a, http or https \://\[user\:password@\]host\[\:port\]; direct\:// for no proxy, reject\:// for no connections; several with commas; may be given several times]:socks5\://host\:port:' \
                '--proxy-check-interval=[how often an idle proxy is checked, 1s to 1h \[default\: 30s\]]:DURATION:' \
                '--proxy-password-file=[file with the proxy'\''s password, for a proxy with a user name only]:FILE:_files' \
                '--proxy-policy=[which of several proxies\: failover (the first that works), round-robin or least-latency \[default\: failover\]]:POLICY:(failover round-robin least-latency)' \
                '--proxy-via=[upstream through which the proxy itself is reached]:NAME:' \
                '--rebind-protection[whether answers are dropped that give a name an address of a local network \[default\: false\]]' \
                '--reload-flows=[open connections at a reload\: keep them all, or judge them again and end those that would go elsewhere \[default\: keep\]]:MODE:(keep judge)' \
                '--resolv-conf=[/etc/resolv.conf of a container under autoDefaultRoute\: auto (names only the relay) or off \[default\: auto\]]:MODE:(auto off)' \
                '*--rule=[where connections go, by domain, network, country, process, port, source and time; the first rule that matches decides; --rule takes one as YAML; may be given several times]:RULE:' \
                '--run-dir=[directory of the control socket, the lock and the routes'\'' journal \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--script=[Python file that decides about flows; '\'''\'' for none]:FILE:_files' \
                '--script-error=[when the script fails\: reject the connection, or let the rules decide \[default\: reject\]]:MODE:(reject rules)' \
                '--script-timeout=[how long the script'\''s answer may take, 100ms to 2m \[default\: 5s\]]:DURATION:' \
                '--sniff[read the name from TLS, HTTP and QUIC where a rule or script needs it and none is known \[default\: false\]]' \
                '*--sniff-ports=[ports whose first bytes may be read with sniff \[default\: 80,443\]; may be given several times]:PORTS:' \
                '--stack=[TCP for this machine'\''s flows\: gvisor (all of it) or simple (a third less CPU) \[default\: gvisor\]]:MODE:(gvisor simple)' \
                '--tun=[name of the TUN device \[default\: nano0\]]:NAME:' \
                '--udp-timeout=[how long a UDP association lives without datagrams, 1s to 1h \[default\: 1m\]]:DURATION:' \
                '*--upstream=[more ways out, by name, for rules to send connections to\: NAME=URL; may be given several times]:NAME=URL:' \
                '--upstream-pool=[connections to the proxy to keep ready for flows to come, 0 to 64 \[default\: 0\]]:CONNECTIONS:' \
                '--version[Display nanotun'\''s version and exit.]' \
                '--web=[address of the page for a browser and of its API, such as 127.0.0.1\:8198; '\'''\'' for none]:HOST\:PORT:' \
                '*:file:_files'
            ;;
        status)
            _arguments -S '--check[only whether the tunnel works; status 1 and one sentence if not]' \
                '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--help[Display this help and exit.]' \
                '--json[one JSON object; docs/command.md has its fields]' \
                '-j[one JSON object; docs/command.md has its fields]' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--version[Display nanotun'\''s version and exit.]' \
                '--watch[again every 2 seconds, or SECONDS; Ctrl-C ends it]' \
                '-w[again every 2 seconds, or SECONDS; Ctrl-C ends it]'
            ;;
        flows)
            _arguments -S '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--domain=[flows to a name\: example.org and all below, =NAME, *.NAME or ~EXPRESSION]:VALUE:' \
                '--help[Display this help and exit.]' \
                '--json[one JSON object; docs/flows.md has its fields]' \
                '-j[one JSON object; docs/flows.md has its fields]' \
                '--process=[flows of a program\: a name, a path or a process'\''s number]:VALUE:' \
                '--protocol=[tcp or udp]:VALUE:(tcp udp)' \
                '--rule=[flows that a rule has decided about\: its name in logs, or its number]:VALUE:' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--sort=[by which column, in small letters; -COLUMN turns the order]:VALUE:' \
                '-s[by which column, in small letters; -COLUMN turns the order]:VALUE:' \
                '--state=[flows that are waiting, dialling, open or half-closed]:VALUE:(waiting dialling open half-closed)' \
                '--to=[flows to an address or NETWORK\[\:PORT\]]:VALUE:' \
                '--upstream=[flows by an upstream, such as proxy, direct or one by name]:VALUE:' \
                '--version[Display nanotun'\''s version and exit.]' \
                '--watch[again every 2 seconds, or SECONDS; Ctrl-C ends it]' \
                '-w[again every 2 seconds, or SECONDS; Ctrl-C ends it]'
            ;;
        top)
            _arguments -S '--by=[what to sum up by\: process, domain, upstream, rule]:VALUE:' \
                '-b[what to sum up by\: process, domain, upstream, rule]:VALUE:' \
                '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--domain=[flows to a name\: example.org and all below, =NAME, *.NAME or ~EXPRESSION]:VALUE:' \
                '--help[Display this help and exit.]' \
                '--json[one JSON object; docs/flows.md has its fields]' \
                '-j[one JSON object; docs/flows.md has its fields]' \
                '--process=[flows of a program\: a name, a path or a process'\''s number]:VALUE:' \
                '--protocol=[tcp or udp]:VALUE:(tcp udp)' \
                '--rule=[flows that a rule has decided about\: its name in logs, or its number]:VALUE:' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--sort=[by which column, in small letters; -COLUMN turns the order]:VALUE:' \
                '-s[by which column, in small letters; -COLUMN turns the order]:VALUE:' \
                '--state=[flows that are waiting, dialling, open or half-closed]:VALUE:(waiting dialling open half-closed)' \
                '--to=[flows to an address or NETWORK\[\:PORT\]]:VALUE:' \
                '--upstream=[flows by an upstream, such as proxy, direct or one by name]:VALUE:' \
                '--version[Display nanotun'\''s version and exit.]' \
                '--watch[again every 2 seconds, or SECONDS; Ctrl-C ends it]' \
                '-w[again every 2 seconds, or SECONDS; Ctrl-C ends it]'
            ;;
        close)
            _arguments -S '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--domain=[flows to a name\: example.org and all below, =NAME, *.NAME or ~EXPRESSION]:VALUE:' \
                '--help[Display this help and exit.]' \
                '--process=[flows of a program\: a name, a path or a process'\''s number]:VALUE:' \
                '--protocol=[tcp or udp]:VALUE:(tcp udp)' \
                '--rule=[flows that a rule has decided about\: its name in logs, or its number]:VALUE:' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--state=[flows that are waiting, dialling, open or half-closed]:VALUE:(waiting dialling open half-closed)' \
                '--to=[flows to an address or NETWORK\[\:PORT\]]:VALUE:' \
                '--upstream=[flows by an upstream, such as proxy, direct or one by name]:VALUE:' \
                '--version[Display nanotun'\''s version and exit.]' \
                '--yes[close what meets the filters without asking]' \
                '-y[close what meets the filters without asking]'
            ;;
        capture)
            _arguments -S '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--count=[end after so many packets]:VALUE:' \
                '--domain=[flows to a name\: example.org and all below, =NAME, *.NAME or ~EXPRESSION]:VALUE:' \
                '--force[overwrite a file that exists]' \
                '-f[overwrite a file that exists]' \
                '--help[Display this help and exit.]' \
                '--limit=[end when the file has this size]:VALUE:' \
                '--process=[flows of a program\: a name, a path or a process'\''s number]:VALUE:' \
                '--protocol=[tcp or udp]:VALUE:(tcp udp)' \
                '--rule=[flows that a rule has decided about\: its name in logs, or its number]:VALUE:' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--state=[flows that are waiting, dialling, open or half-closed]:VALUE:(waiting dialling open half-closed)' \
                '--time=[end after this time]:VALUE:' \
                '--to=[flows to an address or NETWORK\[\:PORT\]]:VALUE:' \
                '--upstream=[flows by an upstream, such as proxy, direct or one by name]:VALUE:' \
                '--version[Display nanotun'\''s version and exit.]' \
                '--write=[the file; - for standard output]:FILE:_files' \
                '-w[the file; - for standard output]:FILE:_files' \
                '*:file:_files'
            ;;
        history)
            _arguments -S '--by=[sum up by process, domain, upstream, rule, day]:VALUE:' \
                '-b[sum up by process, domain, upstream, rule, day]:VALUE:' \
                '--config=[the configuration file that names it \[default\: /etc/nanotun.yaml\]]:FILE:_files' \
                '-c[the configuration file that names it \[default\: /etc/nanotun.yaml\]]:FILE:_files' \
                '--domain=[flows to a name\: example.org and all below, =NAME, *.NAME or ~EXPRESSION]:VALUE:' \
                '--file=[the file, if it is not the flowLog of the configuration]:VALUE:' \
                '-f[the file, if it is not the flowLog of the configuration]:VALUE:' \
                '--help[Display this help and exit.]' \
                '--json[one JSON object; docs/history.md has its fields]' \
                '-j[one JSON object; docs/history.md has its fields]' \
                '--limit=[how many lines at most]:VALUE:' \
                '-n[how many lines at most]:VALUE:' \
                '--process=[flows of a program\: a name, a path or a process'\''s number]:VALUE:' \
                '--rule=[flows that a rule has decided about\: its name in logs, or its number]:VALUE:' \
                '--since=[no flows that ended earlier]:VALUE:' \
                '-s[no flows that ended earlier]:VALUE:' \
                '--until=[no flows that ended later]:VALUE:' \
                '-u[no flows that ended later]:VALUE:' \
                '--upstream=[flows by an upstream, such as proxy, direct or one by name]:VALUE:' \
                '--version[Display nanotun'\''s version and exit.]'
            ;;
        web)
            _arguments -S '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--help[Display this help and exit.]' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--token[print the token alone, for programs that use the API]' \
                '--version[Display nanotun'\''s version and exit.]'
            ;;
        reload)
            _arguments -S '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--help[Display this help and exit.]' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--version[Display nanotun'\''s version and exit.]'
            ;;
        stop)
            _arguments -S '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--help[Display this help and exit.]' \
                '--keep-kill-switch[leave traffic in if killSwitch is on, for a start that follows]' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--version[Display nanotun'\''s version and exit.]'
            ;;
        confirm)
            _arguments -S '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--help[Display this help and exit.]' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--version[Display nanotun'\''s version and exit.]'
            ;;
        run)
            _arguments -S '--allow-direct[let what the script, a rule, an upstream or dns sends direct go past the proxy]' \
                '--config=[YAML configuration file]:FILE:_files' \
                '-c[YAML configuration file]:FILE:_files' \
                '--connect-timeout=[how long a connection may take to open, all steps together, 100ms to 5m \[default\: 10s\]]:DURATION:' \
                '--country-file=[MaxMind DB that says which country an address is in, for rules with countries]:FILE:_files' \
                '--default=[where connections go that no rule is about\: an upstream, direct, reject or drop \[default\: proxy\]]:NAME:' \
                '*--dns=[DNS server for the gateway'\''s relay\: an address, tls\://, https\:// or system; several with commas \[default\: 8.8.8.8\]; may be given several times]:SERVER:' \
                '--dns-cache[whether the relay remembers answers \[default\: true\]]' \
                '--dns-cache-size=[how many answers the relay remembers, 1 to 1000000 \[default\: 4096\]]:ANSWERS:' \
                '--dns-client-subnet[whether servers are told the client'\''s network if a query names it (EDNS client subnet) \[default\: false\]]' \
                '--dns-mode=[DNS answers of the relay\: normal, or fake-ip (addresses that stand for names) \[default\: normal\]]:MODE:(normal fake-ip)' \
                '--dns-override[the relay answers DNS queries to any server, if they would go to the proxy \[default\: false\]]' \
                '--dns-rejected=[what is answered to queries for domains that a rule rejects or drops\: pass (what the servers say), refuse, nodata, or addresses with commas \[default\: pass\]]:ANSWER:' \
                '*--dns-rule=[who answers for which names\: servers, or the relay itself; the first rule that has the name counts; --dns-rule takes one as YAML; may be given several times]:RULE:' \
                '--dns-stale=[for how long after its time an answer is given if no server responds, 0s to 168h \[default\: 24h\]]:DURATION:' \
                '--dns-via=[how the relay'\''s queries travel\: direct (past the proxy), proxy, or by the upstream of that name \[default\: direct\]]:WAY:(direct proxy)' \
                '*--exclude-ip=[addresses and networks (CIDR) that bypass the proxy; several with commas; may be given several times]:ADDRESS:' \
                '*--fake-ip-exclude=[names that fake-ip leaves alone, with all below; several with commas; may be given several times]:DOMAIN:' \
                '--help[Display this help and exit.]' \
                '*--host-port=[let COMMAND reach a TCP port of this machine'\''s loopback at its own\: \[PORT\:\]PORT, of which the first is COMMAND'\''s; may be given several times]:VALUE:' \
                '--hosts[whether the relay answers by /etc/hosts \[default\: false\]]' \
                '--keep-proxy-env[leave http_proxy, https_proxy, all_proxy and no_proxy to COMMAND]' \
                '--lan=[local networks and reserved addresses\: direct (past the proxy) or proxy \[default\: direct\]]:MODE:(direct proxy)' \
                '--lan-only-ports=[ports for local networks only (file shares, mDNS), refused elsewhere; '\'''\'' for none \[default\: tcp\:139,tcp\:445,udp\:137,udp\:138,udp\:445,udp\:5353\]]:PORTS:' \
                '--log-dir=[directory of the log files; '\'''\'' for none \[default\: logs\]]:DIR:_files -/' \
                '--log-format=[log lines\: text, or json (one object a line) \[default\: text\]]:FORMAT:(text json)' \
                '--log-level=[what to log\: debug, info, warn or error \[default\: info\]]:LEVEL:(debug info warn error)' \
                '--mtu=[MTU of the TUN device, 1280 to 65535 \[default\: 1500\]]:BYTES:' \
                '--no-dns-cache[the same as --dns-cache=false]' \
                '--no-dns-client-subnet[the same as --dns-client-subnet=false]' \
                '--no-dns-override[the same as --dns-override=false]' \
                '--no-hosts[the same as --hosts=false]' \
                '--no-rebind-protection[the same as --rebind-protection=false]' \
                '--no-sniff[the same as --sniff=false]' \
                '--offload=[segmentation offload\: auto (try it at start), on or off \[default\: auto\]]:MODE:(auto on off)' \
                '*--proxy=[socks5, socks5h, socks4, socks4a, http or https \://\[user\:password@\]host\[\:port\]; direct\:// for no proxy, reject\:// for no connections; several with commas; may be given several times]:socks5\://host\:port:' \
                '--proxy-check-interval=[how often an idle proxy is checked, 1s to 1h \[default\: 30s\]]:DURATION:' \
                '--proxy-password-file=[file with the proxy'\''s password, for a proxy with a user name only]:FILE:_files' \
                '--proxy-policy=[which of several proxies\: failover (the first that works), round-robin or least-latency \[default\: failover\]]:POLICY:(failover round-robin least-latency)' \
                '--proxy-via=[upstream through which the proxy itself is reached]:NAME:' \
                '*--publish=[let connections from outside reach a TCP port that COMMAND listens on, without ADDRESS those from this machine only\: \[ADDRESS\:\]\[PORT\:\]PORT; may be given several times]:VALUE:' \
                '--rebind-protection[whether answers are dropped that give a name an address of a local network \[default\: false\]]' \
                '*--rule=[where connections go, by domain, network, country, process, port, source and time; the first rule that matches decides; --rule takes one as YAML; may be given several times]:RULE:' \
                '--script=[Python file that decides about flows; '\'''\'' for none]:FILE:_files' \
                '--script-error=[when the script fails\: reject the connection, or let the rules decide \[default\: reject\]]:MODE:(reject rules)' \
                '--script-timeout=[how long the script'\''s answer may take, 100ms to 2m \[default\: 5s\]]:DURATION:' \
                '--sniff[read the name from TLS, HTTP and QUIC where a rule or script needs it and none is known \[default\: false\]]' \
                '*--sniff-ports=[ports whose first bytes may be read with sniff \[default\: 80,443\]; may be given several times]:PORTS:' \
                '--stack=[TCP for this machine'\''s flows\: gvisor (all of it) or simple (a third less CPU) \[default\: gvisor\]]:MODE:(gvisor simple)' \
                '--udp-timeout=[how long a UDP association lives without datagrams, 1s to 1h \[default\: 1m\]]:DURATION:' \
                '*--upstream=[more ways out, by name, for rules to send connections to\: NAME=URL; may be given several times]:NAME=URL:' \
                '--upstream-pool=[connections to the proxy to keep ready for flows to come, 0 to 64 \[default\: 0\]]:CONNECTIONS:' \
                '--user=[run COMMAND as this user, a name or a number; its groups and HOME too]:VALUE:' \
                '-u[run COMMAND as this user, a name or a number; its groups and HOME too]:VALUE:' \
                '--version[Display nanotun'\''s version and exit.]' \
                '(-)1:command:_command_names -e' \
                '*::argument:_normal'
            ;;
        explain)
            _arguments -S '--auto-route[send the whole machine'\''s traffic and DNS through the tunnel \[default\: false\]]' \
                '--cgroup=[path of the flow'\''s cgroup, such as /system.slice/x.service]:VALUE:' \
                '--config=[YAML configuration file]:FILE:_files' \
                '-c[YAML configuration file]:FILE:_files' \
                '--confirm=[with --auto-route\: take everything back after this many seconds, unless '\''nanotun confirm'\'' is called before]:VALUE:' \
                '--connect-timeout=[how long a connection may take to open, all steps together, 100ms to 5m \[default\: 10s\]]:DURATION:' \
                '--country-file=[MaxMind DB that says which country an address is in, for rules with countries]:FILE:_files' \
                '--default=[where connections go that no rule is about\: an upstream, direct, reject or drop \[default\: proxy\]]:NAME:' \
                '*--dns=[DNS server for the gateway'\''s relay\: an address, tls\://, https\:// or system; several with commas \[default\: 8.8.8.8\]; may be given several times]:SERVER:' \
                '--dns-cache[whether the relay remembers answers \[default\: true\]]' \
                '--dns-cache-size=[how many answers the relay remembers, 1 to 1000000 \[default\: 4096\]]:ANSWERS:' \
                '--dns-client-subnet[whether servers are told the client'\''s network if a query names it (EDNS client subnet) \[default\: false\]]' \
                '--dns-mode=[DNS answers of the relay\: normal, or fake-ip (addresses that stand for names) \[default\: normal\]]:MODE:(normal fake-ip)' \
                '--dns-override[the relay answers DNS queries to any server, if they would go to the proxy \[default\: false\]]' \
                '--dns-rejected=[what is answered to queries for domains that a rule rejects or drops\: pass (what the servers say), refuse, nodata, or addresses with commas \[default\: pass\]]:ANSWER:' \
                '*--dns-rule=[who answers for which names\: servers, or the relay itself; the first rule that has the name counts; --dns-rule takes one as YAML; may be given several times]:RULE:' \
                '--dns-stale=[for how long after its time an answer is given if no server responds, 0s to 168h \[default\: 24h\]]:DURATION:' \
                '--dns-state-file=[where fake-ip keeps its names across restarts; '\'''\'' for nowhere \[default\: /var/lib/nanotun/fakeip.json\]]:FILE:_files' \
                '--dns-via=[how the relay'\''s queries travel\: direct (past the proxy), proxy, or by the upstream of that name \[default\: direct\]]:WAY:(direct proxy)' \
                '*--exclude=[processes that bypass the proxy\: a name, a /path, pid\:N, uid\:N or name, cgroup\:/PATH or unit\:NAME; several with commas; may be given several times]:PROCESS:' \
                '--exclude-children[whether what an excluded process has started is excluded too \[default\: false\]]' \
                '*--exclude-ip=[addresses and networks (CIDR) that bypass the proxy; several with commas; may be given several times]:ADDRESS:' \
                '--exclude-refresh=[how often the table of excluded processes is rebuilt, 1s to 1h \[default\: 15s\]]:DURATION:' \
                '*--fake-ip-exclude=[names that fake-ip leaves alone, with all below; several with commas; may be given several times]:DOMAIN:' \
                '--flow-log=[SQLite file that keeps the flows that have ended; '\'''\'' for none]:FILE:_files' \
                '--flow-log-days=[how long flowLog keeps each flow, 1 to 3650 days \[default\: 30\]]:DAYS:' \
                '--flow-log-size=[how large flowLog may become, 1MiB to 1TiB \[default\: 256MiB\]]:SIZE:' \
                '--from=[source address, for the flow of another machine]:VALUE:' \
                '--help[Display this help and exit.]' \
                '--hosts[whether the relay answers by /etc/hosts \[default\: false\]]' \
                '--ipv6=[IPv6 under autoDefaultRoute\: capture, block (unreachable) or auto (capture where the machine has it) \[default\: auto\]]:MODE:(auto capture block)' \
                '--json[print one JSON object]' \
                '--kill-switch[under autoDefaultRoute, whether traffic stays in when the daemon is gone \[default\: false\]]' \
                '--lan=[local networks and reserved addresses\: direct (past the proxy) or proxy \[default\: direct\]]:MODE:(direct proxy)' \
                '--lan-only-ports=[ports for local networks only (file shares, mDNS), refused elsewhere; '\'''\'' for none \[default\: tcp\:139,tcp\:445,udp\:137,udp\:138,udp\:445,udp\:5353\]]:PORTS:' \
                '--log-dir=[directory of the log files; '\'''\'' for none \[default\: logs\]]:DIR:_files -/' \
                '--log-flows[log a line for each flow that has ended \[default\: false\]]' \
                '--log-format=[log lines\: text, or json (one object a line) \[default\: text\]]:FORMAT:(text json)' \
                '--log-level=[what to log\: debug, info, warn or error \[default\: info\]]:LEVEL:(debug info warn error)' \
                '--metrics=[address at which Prometheus gets metrics, such as 127.0.0.1\:9198; '\'''\'' for none]:HOST\:PORT:' \
                '--mtu=[MTU of the TUN device, 1280 to 65535 \[default\: 1500\]]:BYTES:' \
                '--name=[host name that is known of an address, for rules about names]:VALUE:' \
                '--no-auto-route[change no route, whatever the configuration file says]' \
                '--no-dns-cache[the same as --dns-cache=false]' \
                '--no-dns-client-subnet[the same as --dns-client-subnet=false]' \
                '--no-dns-override[the same as --dns-override=false]' \
                '--no-exclude-children[the same as --exclude-children=false]' \
                '--no-hosts[the same as --hosts=false]' \
                '--no-kill-switch[the same as --kill-switch=false]' \
                '--no-log-flows[the same as --log-flows=false]' \
                '--no-rebind-protection[the same as --rebind-protection=false]' \
                '--no-sniff[the same as --sniff=false]' \
                '--offload=[segmentation offload\: auto (try it at start), on or off \[default\: auto\]]:MODE:(auto on off)' \
                '*--only=[under autoDefaultRoute, the only programs whose traffic enters the tunnel\: uid\:N or name, cgroup\:/PATH or unit\:NAME; several with commas; may be given several times]:PROCESS:' \
                '--pid=[the process that has this number now]:VALUE:' \
                '--process=[name or /path of the process whose flow it is]:VALUE:' \
                '*--proxy=[socks5, socks5h, socks4, socks4a, http or https \://\[user\:password@\]host\[\:port\]; direct\:// for no proxy, reject\:// for no connections; several with commas; may be given several times]:socks5\://host\:port:' \
                '--proxy-check-interval=[how often an idle proxy is checked, 1s to 1h \[default\: 30s\]]:DURATION:' \
                '--proxy-password-file=[file with the proxy'\''s password, for a proxy with a user name only]:FILE:_files' \
                '--proxy-policy=[which of several proxies\: failover (the first that works), round-robin or least-latency \[default\: failover\]]:POLICY:(failover round-robin least-latency)' \
                '--proxy-via=[upstream through which the proxy itself is reached]:NAME:' \
                '--rebind-protection[whether answers are dropped that give a name an address of a local network \[default\: false\]]' \
                '--reload-flows=[open connections at a reload\: keep them all, or judge them again and end those that would go elsewhere \[default\: keep\]]:MODE:(keep judge)' \
                '--resolv-conf=[/etc/resolv.conf of a container under autoDefaultRoute\: auto (names only the relay) or off \[default\: auto\]]:MODE:(auto off)' \
                '*--rule=[where connections go, by domain, network, country, process, port, source and time; the first rule that matches decides; --rule takes one as YAML; may be given several times]:RULE:' \
                '--run-dir=[directory of the control socket, the lock and the routes'\'' journal \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--script=[Python file that decides about flows; '\'''\'' for none]:FILE:_files' \
                '--script-error=[when the script fails\: reject the connection, or let the rules decide \[default\: reject\]]:MODE:(reject rules)' \
                '--script-timeout=[how long the script'\''s answer may take, 100ms to 2m \[default\: 5s\]]:DURATION:' \
                '--sniff[read the name from TLS, HTTP and QUIC where a rule or script needs it and none is known \[default\: false\]]' \
                '*--sniff-ports=[ports whose first bytes may be read with sniff \[default\: 80,443\]; may be given several times]:PORTS:' \
                '--stack=[TCP for this machine'\''s flows\: gvisor (all of it) or simple (a third less CPU) \[default\: gvisor\]]:MODE:(gvisor simple)' \
                '--tun=[name of the TUN device \[default\: nano0\]]:NAME:' \
                '--udp-timeout=[how long a UDP association lives without datagrams, 1s to 1h \[default\: 1m\]]:DURATION:' \
                '--uid=[the user whose flow it is, a name or a number]:VALUE:' \
                '*--upstream=[more ways out, by name, for rules to send connections to\: NAME=URL; may be given several times]:NAME=URL:' \
                '--upstream-pool=[connections to the proxy to keep ready for flows to come, 0 to 64 \[default\: 0\]]:CONNECTIONS:' \
                '--version[Display nanotun'\''s version and exit.]' \
                '--web=[address of the page for a browser and of its API, such as 127.0.0.1\:8198; '\'''\'' for none]:HOST\:PORT:'
            ;;
        dns)
            _arguments -S '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--help[Display this help and exit.]' \
                '--json[a JSON object for each type; docs/command.md has its fields]' \
                '-j[a JSON object for each type; docs/command.md has its fields]' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--version[Display nanotun'\''s version and exit.]'
            ;;
        doctor)
            _arguments -S '--auto-route[send the whole machine'\''s traffic and DNS through the tunnel \[default\: false\]]' \
                '--config=[YAML configuration file]:FILE:_files' \
                '-c[YAML configuration file]:FILE:_files' \
                '--confirm=[with --auto-route\: take everything back after this many seconds, unless '\''nanotun confirm'\'' is called before]:VALUE:' \
                '--connect-timeout=[how long a connection may take to open, all steps together, 100ms to 5m \[default\: 10s\]]:DURATION:' \
                '--country-file=[MaxMind DB that says which country an address is in, for rules with countries]:FILE:_files' \
                '--default=[where connections go that no rule is about\: an upstream, direct, reject or drop \[default\: proxy\]]:NAME:' \
                '*--dns=[DNS server for the gateway'\''s relay\: an address, tls\://, https\:// or system; several with commas \[default\: 8.8.8.8\]; may be given several times]:SERVER:' \
                '--dns-cache[whether the relay remembers answers \[default\: true\]]' \
                '--dns-cache-size=[how many answers the relay remembers, 1 to 1000000 \[default\: 4096\]]:ANSWERS:' \
                '--dns-client-subnet[whether servers are told the client'\''s network if a query names it (EDNS client subnet) \[default\: false\]]' \
                '--dns-mode=[DNS answers of the relay\: normal, or fake-ip (addresses that stand for names) \[default\: normal\]]:MODE:(normal fake-ip)' \
                '--dns-override[the relay answers DNS queries to any server, if they would go to the proxy \[default\: false\]]' \
                '--dns-rejected=[what is answered to queries for domains that a rule rejects or drops\: pass (what the servers say), refuse, nodata, or addresses with commas \[default\: pass\]]:ANSWER:' \
                '*--dns-rule=[who answers for which names\: servers, or the relay itself; the first rule that has the name counts; --dns-rule takes one as YAML; may be given several times]:RULE:' \
                '--dns-stale=[for how long after its time an answer is given if no server responds, 0s to 168h \[default\: 24h\]]:DURATION:' \
                '--dns-state-file=[where fake-ip keeps its names across restarts; '\'''\'' for nowhere \[default\: /var/lib/nanotun/fakeip.json\]]:FILE:_files' \
                '--dns-via=[how the relay'\''s queries travel\: direct (past the proxy), proxy, or by the upstream of that name \[default\: direct\]]:WAY:(direct proxy)' \
                '*--exclude=[processes that bypass the proxy\: a name, a /path, pid\:N, uid\:N or name, cgroup\:/PATH or unit\:NAME; several with commas; may be given several times]:PROCESS:' \
                '--exclude-children[whether what an excluded process has started is excluded too \[default\: false\]]' \
                '*--exclude-ip=[addresses and networks (CIDR) that bypass the proxy; several with commas; may be given several times]:ADDRESS:' \
                '--exclude-refresh=[how often the table of excluded processes is rebuilt, 1s to 1h \[default\: 15s\]]:DURATION:' \
                '*--fake-ip-exclude=[names that fake-ip leaves alone, with all below; several with commas; may be given several times]:DOMAIN:' \
                '--flow-log=[SQLite file that keeps the flows that have ended; '\'''\'' for none]:FILE:_files' \
                '--flow-log-days=[how long flowLog keeps each flow, 1 to 3650 days \[default\: 30\]]:DAYS:' \
                '--flow-log-size=[how large flowLog may become, 1MiB to 1TiB \[default\: 256MiB\]]:SIZE:' \
                '--help[Display this help and exit.]' \
                '--hosts[whether the relay answers by /etc/hosts \[default\: false\]]' \
                '--ipv6=[IPv6 under autoDefaultRoute\: capture, block (unreachable) or auto (capture where the machine has it) \[default\: auto\]]:MODE:(auto capture block)' \
                '--json[print an array of objects\: check, level, text, cure]' \
                '--kill-switch[under autoDefaultRoute, whether traffic stays in when the daemon is gone \[default\: false\]]' \
                '--lan=[local networks and reserved addresses\: direct (past the proxy) or proxy \[default\: direct\]]:MODE:(direct proxy)' \
                '--lan-only-ports=[ports for local networks only (file shares, mDNS), refused elsewhere; '\'''\'' for none \[default\: tcp\:139,tcp\:445,udp\:137,udp\:138,udp\:445,udp\:5353\]]:PORTS:' \
                '--log-dir=[directory of the log files; '\'''\'' for none \[default\: logs\]]:DIR:_files -/' \
                '--log-flows[log a line for each flow that has ended \[default\: false\]]' \
                '--log-format=[log lines\: text, or json (one object a line) \[default\: text\]]:FORMAT:(text json)' \
                '--log-level=[what to log\: debug, info, warn or error \[default\: info\]]:LEVEL:(debug info warn error)' \
                '--metrics=[address at which Prometheus gets metrics, such as 127.0.0.1\:9198; '\'''\'' for none]:HOST\:PORT:' \
                '--mtu=[MTU of the TUN device, 1280 to 65535 \[default\: 1500\]]:BYTES:' \
                '--no-auto-route[change no route, whatever the configuration file says]' \
                '--no-dns-cache[the same as --dns-cache=false]' \
                '--no-dns-client-subnet[the same as --dns-client-subnet=false]' \
                '--no-dns-override[the same as --dns-override=false]' \
                '--no-exclude-children[the same as --exclude-children=false]' \
                '--no-hosts[the same as --hosts=false]' \
                '--no-kill-switch[the same as --kill-switch=false]' \
                '--no-log-flows[the same as --log-flows=false]' \
                '--no-rebind-protection[the same as --rebind-protection=false]' \
                '--no-sniff[the same as --sniff=false]' \
                '--offload=[segmentation offload\: auto (try it at start), on or off \[default\: auto\]]:MODE:(auto on off)' \
                '*--only=[under autoDefaultRoute, the only programs whose traffic enters the tunnel\: uid\:N or name, cgroup\:/PATH or unit\:NAME; several with commas; may be given several times]:PROCESS:' \
                '*--proxy=[socks5, socks5h, socks4, socks4a, http or https \://\[user\:password@\]host\[\:port\]; direct\:// for no proxy, reject\:// for no connections; several with commas; may be given several times]:socks5\://host\:port:' \
                '--proxy-check-interval=[how often an idle proxy is checked, 1s to 1h \[default\: 30s\]]:DURATION:' \
                '--proxy-password-file=[file with the proxy'\''s password, for a proxy with a user name only]:FILE:_files' \
                '--proxy-policy=[which of several proxies\: failover (the first that works), round-robin or least-latency \[default\: failover\]]:POLICY:(failover round-robin least-latency)' \
                '--proxy-via=[upstream through which the proxy itself is reached]:NAME:' \
                '--rebind-protection[whether answers are dropped that give a name an address of a local network \[default\: false\]]' \
                '--reload-flows=[open connections at a reload\: keep them all, or judge them again and end those that would go elsewhere \[default\: keep\]]:MODE:(keep judge)' \
                '--resolv-conf=[/etc/resolv.conf of a container under autoDefaultRoute\: auto (names only the relay) or off \[default\: auto\]]:MODE:(auto off)' \
                '*--rule=[where connections go, by domain, network, country, process, port, source and time; the first rule that matches decides; --rule takes one as YAML; may be given several times]:RULE:' \
                '--run-dir=[directory of the control socket, the lock and the routes'\'' journal \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--script=[Python file that decides about flows; '\'''\'' for none]:FILE:_files' \
                '--script-error=[when the script fails\: reject the connection, or let the rules decide \[default\: reject\]]:MODE:(reject rules)' \
                '--script-timeout=[how long the script'\''s answer may take, 100ms to 2m \[default\: 5s\]]:DURATION:' \
                '--sniff[read the name from TLS, HTTP and QUIC where a rule or script needs it and none is known \[default\: false\]]' \
                '*--sniff-ports=[ports whose first bytes may be read with sniff \[default\: 80,443\]; may be given several times]:PORTS:' \
                '--stack=[TCP for this machine'\''s flows\: gvisor (all of it) or simple (a third less CPU) \[default\: gvisor\]]:MODE:(gvisor simple)' \
                '--target=[HOST\:PORT that the proxy is to connect to]:VALUE:' \
                '--tun=[name of the TUN device \[default\: nano0\]]:NAME:' \
                '--udp-timeout=[how long a UDP association lives without datagrams, 1s to 1h \[default\: 1m\]]:DURATION:' \
                '*--upstream=[more ways out, by name, for rules to send connections to\: NAME=URL; may be given several times]:NAME=URL:' \
                '--upstream-pool=[connections to the proxy to keep ready for flows to come, 0 to 64 \[default\: 0\]]:CONNECTIONS:' \
                '--version[Display nanotun'\''s version and exit.]' \
                '--web=[address of the page for a browser and of its API, such as 127.0.0.1\:8198; '\'''\'' for none]:HOST\:PORT:'
            ;;
        plan)
            _arguments -S '--auto-route[send the whole machine'\''s traffic and DNS through the tunnel \[default\: false\]]' \
                '--config=[YAML configuration file]:FILE:_files' \
                '-c[YAML configuration file]:FILE:_files' \
                '--confirm=[with --auto-route\: take everything back after this many seconds, unless '\''nanotun confirm'\'' is called before]:VALUE:' \
                '--connect-timeout=[how long a connection may take to open, all steps together, 100ms to 5m \[default\: 10s\]]:DURATION:' \
                '--country-file=[MaxMind DB that says which country an address is in, for rules with countries]:FILE:_files' \
                '--default=[where connections go that no rule is about\: an upstream, direct, reject or drop \[default\: proxy\]]:NAME:' \
                '*--dns=[DNS server for the gateway'\''s relay\: an address, tls\://, https\:// or system; several with commas \[default\: 8.8.8.8\]; may be given several times]:SERVER:' \
                '--dns-cache[whether the relay remembers answers \[default\: true\]]' \
                '--dns-cache-size=[how many answers the relay remembers, 1 to 1000000 \[default\: 4096\]]:ANSWERS:' \
                '--dns-client-subnet[whether servers are told the client'\''s network if a query names it (EDNS client subnet) \[default\: false\]]' \
                '--dns-mode=[DNS answers of the relay\: normal, or fake-ip (addresses that stand for names) \[default\: normal\]]:MODE:(normal fake-ip)' \
                '--dns-override[the relay answers DNS queries to any server, if they would go to the proxy \[default\: false\]]' \
                '--dns-rejected=[what is answered to queries for domains that a rule rejects or drops\: pass (what the servers say), refuse, nodata, or addresses with commas \[default\: pass\]]:ANSWER:' \
                '*--dns-rule=[who answers for which names\: servers, or the relay itself; the first rule that has the name counts; --dns-rule takes one as YAML; may be given several times]:RULE:' \
                '--dns-stale=[for how long after its time an answer is given if no server responds, 0s to 168h \[default\: 24h\]]:DURATION:' \
                '--dns-state-file=[where fake-ip keeps its names across restarts; '\'''\'' for nowhere \[default\: /var/lib/nanotun/fakeip.json\]]:FILE:_files' \
                '--dns-via=[how the relay'\''s queries travel\: direct (past the proxy), proxy, or by the upstream of that name \[default\: direct\]]:WAY:(direct proxy)' \
                '*--exclude=[processes that bypass the proxy\: a name, a /path, pid\:N, uid\:N or name, cgroup\:/PATH or unit\:NAME; several with commas; may be given several times]:PROCESS:' \
                '--exclude-children[whether what an excluded process has started is excluded too \[default\: false\]]' \
                '*--exclude-ip=[addresses and networks (CIDR) that bypass the proxy; several with commas; may be given several times]:ADDRESS:' \
                '--exclude-refresh=[how often the table of excluded processes is rebuilt, 1s to 1h \[default\: 15s\]]:DURATION:' \
                '*--fake-ip-exclude=[names that fake-ip leaves alone, with all below; several with commas; may be given several times]:DOMAIN:' \
                '--flow-log=[SQLite file that keeps the flows that have ended; '\'''\'' for none]:FILE:_files' \
                '--flow-log-days=[how long flowLog keeps each flow, 1 to 3650 days \[default\: 30\]]:DAYS:' \
                '--flow-log-size=[how large flowLog may become, 1MiB to 1TiB \[default\: 256MiB\]]:SIZE:' \
                '--help[Display this help and exit.]' \
                '--hosts[whether the relay answers by /etc/hosts \[default\: false\]]' \
                '--ipv6=[IPv6 under autoDefaultRoute\: capture, block (unreachable) or auto (capture where the machine has it) \[default\: auto\]]:MODE:(auto capture block)' \
                '--kill-switch[under autoDefaultRoute, whether traffic stays in when the daemon is gone \[default\: false\]]' \
                '--lan=[local networks and reserved addresses\: direct (past the proxy) or proxy \[default\: direct\]]:MODE:(direct proxy)' \
                '--lan-only-ports=[ports for local networks only (file shares, mDNS), refused elsewhere; '\'''\'' for none \[default\: tcp\:139,tcp\:445,udp\:137,udp\:138,udp\:445,udp\:5353\]]:PORTS:' \
                '--log-dir=[directory of the log files; '\'''\'' for none \[default\: logs\]]:DIR:_files -/' \
                '--log-flows[log a line for each flow that has ended \[default\: false\]]' \
                '--log-format=[log lines\: text, or json (one object a line) \[default\: text\]]:FORMAT:(text json)' \
                '--log-level=[what to log\: debug, info, warn or error \[default\: info\]]:LEVEL:(debug info warn error)' \
                '--metrics=[address at which Prometheus gets metrics, such as 127.0.0.1\:9198; '\'''\'' for none]:HOST\:PORT:' \
                '--mtu=[MTU of the TUN device, 1280 to 65535 \[default\: 1500\]]:BYTES:' \
                '--no-auto-route[change no route, whatever the configuration file says]' \
                '--no-dns-cache[the same as --dns-cache=false]' \
                '--no-dns-client-subnet[the same as --dns-client-subnet=false]' \
                '--no-dns-override[the same as --dns-override=false]' \
                '--no-exclude-children[the same as --exclude-children=false]' \
                '--no-hosts[the same as --hosts=false]' \
                '--no-kill-switch[the same as --kill-switch=false]' \
                '--no-log-flows[the same as --log-flows=false]' \
                '--no-rebind-protection[the same as --rebind-protection=false]' \
                '--no-sniff[the same as --sniff=false]' \
                '--offload=[segmentation offload\: auto (try it at start), on or off \[default\: auto\]]:MODE:(auto on off)' \
                '*--only=[under autoDefaultRoute, the only programs whose traffic enters the tunnel\: uid\:N or name, cgroup\:/PATH or unit\:NAME; several with commas; may be given several times]:PROCESS:' \
                '*--proxy=[socks5, socks5h, socks4, socks4a, http or https \://\[user\:password@\]host\[\:port\]; direct\:// for no proxy, reject\:// for no connections; several with commas; may be given several times]:socks5\://host\:port:' \
                '--proxy-check-interval=[how often an idle proxy is checked, 1s to 1h \[default\: 30s\]]:DURATION:' \
                '--proxy-password-file=[file with the proxy'\''s password, for a proxy with a user name only]:FILE:_files' \
                '--proxy-policy=[which of several proxies\: failover (the first that works), round-robin or least-latency \[default\: failover\]]:POLICY:(failover round-robin least-latency)' \
                '--proxy-via=[upstream through which the proxy itself is reached]:NAME:' \
                '--rebind-protection[whether answers are dropped that give a name an address of a local network \[default\: false\]]' \
                '--reload-flows=[open connections at a reload\: keep them all, or judge them again and end those that would go elsewhere \[default\: keep\]]:MODE:(keep judge)' \
                '--resolv-conf=[/etc/resolv.conf of a container under autoDefaultRoute\: auto (names only the relay) or off \[default\: auto\]]:MODE:(auto off)' \
                '*--rule=[where connections go, by domain, network, country, process, port, source and time; the first rule that matches decides; --rule takes one as YAML; may be given several times]:RULE:' \
                '--run-dir=[directory of the control socket, the lock and the routes'\'' journal \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--script=[Python file that decides about flows; '\'''\'' for none]:FILE:_files' \
                '--script-error=[when the script fails\: reject the connection, or let the rules decide \[default\: reject\]]:MODE:(reject rules)' \
                '--script-timeout=[how long the script'\''s answer may take, 100ms to 2m \[default\: 5s\]]:DURATION:' \
                '--sniff[read the name from TLS, HTTP and QUIC where a rule or script needs it and none is known \[default\: false\]]' \
                '*--sniff-ports=[ports whose first bytes may be read with sniff \[default\: 80,443\]; may be given several times]:PORTS:' \
                '--stack=[TCP for this machine'\''s flows\: gvisor (all of it) or simple (a third less CPU) \[default\: gvisor\]]:MODE:(gvisor simple)' \
                '--tun=[name of the TUN device \[default\: nano0\]]:NAME:' \
                '--udp-timeout=[how long a UDP association lives without datagrams, 1s to 1h \[default\: 1m\]]:DURATION:' \
                '*--upstream=[more ways out, by name, for rules to send connections to\: NAME=URL; may be given several times]:NAME=URL:' \
                '--upstream-pool=[connections to the proxy to keep ready for flows to come, 0 to 64 \[default\: 0\]]:CONNECTIONS:' \
                '--version[Display nanotun'\''s version and exit.]' \
                '--web=[address of the page for a browser and of its API, such as 127.0.0.1\:8198; '\'''\'' for none]:HOST\:PORT:'
            ;;
        recover)
            _arguments -S '--config=[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '-c[the daemon'\''s configuration file, for its runDir]:FILE:_files' \
                '--force[also remove rules and routes that bear nanotun'\''s number (protocol 110)]' \
                '--help[Display this help and exit.]' \
                '--keep-kill-switch[change nothing if killSwitch was on\: traffic stays in]' \
                '--run-dir=[the daemon'\''s runDir \[default\: /run/nanotun\]]:DIR:_files -/' \
                '--version[Display nanotun'\''s version and exit.]'
            ;;
    esac
}
_nanotun "$@"

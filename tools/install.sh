#!/bin/sh
# Installs nanotun for the whole machine, or removes it:
#
#   tools/install.sh install PYTHON [BASE]
#   tools/install.sh uninstall
#
# PYTHON is the interpreter of the environment that 'make build' has made, which has all that
# is installed; no package index is asked.  BASE is the interpreter for the installed nanotun,
# the one that PYTHON was made with unless given.
# From the environment: PREFIX (/usr/local), SYSCONFDIR (/etc), and DESTDIR, a
# directory that takes the place of / while a package is made.
#
# The code is installed into a virtual environment of its own, PREFIX/lib/nanotun, which
# only root can write.  An existing configuration is never changed.
set -eu
umask 022

PREFIX=${PREFIX:-/usr/local}
SYSCONFDIR=${SYSCONFDIR:-/etc}
DESTDIR=${DESTDIR:-}
lib=$PREFIX/lib/nanotun
config=$SYSCONFDIR/nanotun.yaml
# Where XDG_DATA_DIRS is not set, as in a session by SSH, fish looks nowhere below /usr/local.
case $PREFIX in
    /usr) fish=$PREFIX/share/fish/vendor_completions.d ;;
    *) fish=$SYSCONFDIR/fish/completions ;;
esac
# The directories that were made for the installation.
directories=$lib/directories

fail() {
    echo "$*" >&2
    exit 1
}

# These are written into scripts and units, some of which cannot quote.
for path in "$PREFIX" "$SYSCONFDIR" "${DESTDIR:-/}"; do
    case $path in
        *[!A-Za-z0-9/._+-]*) fail "A path of letters, digits and / . _ + - is needed, not $path." ;;
        /*) ;;
        *) fail "An absolute path is needed, not $path." ;;
    esac
done

# Prints the pid of a process of the installed Python, if there is one.
running() {
    for process in /proc/[0-9]*; do
        # It may have ended meanwhile; < would print an error then.
        # shellcheck disable=SC2002
        if cat "$process/cmdline" 2>/dev/null | tr '\0' '\n' | head -n 1 |
            grep -Fqx "$lib/bin/python"; then
            echo "${process#/proc/}"
            return
        fi
    done
}

# Every file except lib and the configuration, as: source, target, mode.
files() {
    echo "etc/init.d/nanotun $SYSCONFDIR/init.d/nanotun 755"
    echo "etc/systemd/nanotun.service $PREFIX/lib/systemd/system/nanotun.service 644"
    echo "docs/nanotun.8 $PREFIX/share/man/man8/nanotun.8 644"
    echo "etc/completions/nanotun.bash $PREFIX/share/bash-completion/completions/nanotun 644"
    echo "etc/completions/nanotun.zsh $PREFIX/share/zsh/site-functions/_nanotun 644"
    echo "etc/completions/nanotun.fish $fish/nanotun.fish 644"
    echo "etc/grafana/nanotun.json $PREFIX/share/nanotun/grafana.json 644"
    echo "etc/prometheus/nanotun-alerts.yml $PREFIX/share/nanotun/prometheus-alerts.yml 644"
}

# need DIRECTORY: makes a directory, and notes what was not there before, the innermost first.
need() {
    [ ! -d "$DESTDIR$1" ] || return 0
    parent=${1%/*}
    need "${parent:-/}"
    mkdir "$DESTDIR$1"
    made="$1 $made"
}

# place SOURCE TARGET MODE: copies a file and puts the paths of this installation into it.
place() {
    sed -e "s|/usr/local/lib/nanotun|$lib|g" -e "s|/etc/nanotun\.yaml|$config|g" \
        -e "s|/etc/default/nanotun|$SYSCONFDIR/default/nanotun|g" "$1" >"$DESTDIR$2.new"
    chmod "$3" "$DESTDIR$2.new"
    mv "$DESTDIR$2.new" "$DESTDIR$2"
}

install_all() {
    python=$1
    # nanotun runs as root, and so does this Python.
    base=${2:-$("$python" -c 'import os, sys; print(os.path.realpath(sys._base_executable))')}
    [ "$(stat -c %u "$base")" -eq 0 ] || fail "The Python $base belongs to another user than \
root, who could change what runs as root; build with: make clean build PYTHON=/usr/bin/python3"
    [ -z "$DESTDIR" ] || mkdir -p "$DESTDIR"
    made=
    [ ! -e "$DESTDIR$directories" ] || made=$(cat "$DESTDIR$directories")
    for target in "$lib" "$PREFIX/bin/nanotun" "$SYSCONFDIR/default/nanotun" $(files | cut -d ' ' -f 2); do
        need "${target%/*}"
    done
    # Made next to the old one, which a daemon may have mapped, and then moved into its place.
    fresh=$DESTDIR$lib.new
    rm -rf "$fresh"
    trap 'rm -rf "$fresh"' EXIT
    "$python" tools/environment.py "$fresh" "$lib" "$base"
    echo "$made" >"$fresh/${directories##*/}"
    rm -rf "$DESTDIR$lib.old"
    [ ! -e "$DESTDIR$lib" ] || mv "$DESTDIR$lib" "$DESTDIR$lib.old"
    mv "$fresh" "$DESTDIR$lib"
    rm -rf "$DESTDIR$lib.old"
    # Compiled now, because the daemon cannot write here and each start would take longer.
    # Looking for a plugin makes the cache of Twisted's plugins.
    "$DESTDIR$lib/bin/python" -m compileall -q -s "$DESTDIR" -p / "$DESTDIR$lib/lib"
    "$DESTDIR$lib/bin/python" -c \
        'from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))'
    ln -sf "$lib/bin/nanotun" "$DESTDIR$PREFIX/bin/nanotun"
    files | while read -r source target mode; do
        place "$source" "$target" "$mode"
    done
    [ -e "$DESTDIR$SYSCONFDIR/default/nanotun" ] ||
        place etc/default/nanotun "$SYSCONFDIR/default/nanotun" 644
    if [ -e "$DESTDIR$config" ]; then
        echo "$config is there already and stays as it is."
    else
        # It may hold a password later.
        (
            umask 077
            sed "s|^# logDir: logs|logDir: /var/log/nanotun|" etc/nanotun.yaml >"$DESTDIR$config"
        )
    fi
    pid=
    [ -n "$DESTDIR" ] || pid=$(running)
    if [ -n "$pid" ]; then
        echo "nanotun is installed in $lib. Process $pid still runs the old one; restart it:"
        echo "    systemctl daemon-reload && systemctl restart nanotun"
        echo "or, without systemd: service nanotun restart"
        return
    fi
    echo "nanotun is installed in $lib. Write your proxy into $config, then start it:"
    echo "    systemctl daemon-reload && systemctl enable --now nanotun"
    echo "or, without systemd: update-rc.d nanotun defaults && service nanotun start"
}

# Undoes what a crash has left, and opens a kill switch: once nanotun is removed, nobody could.
undo_all() {
    if [ -d /run/nanotun ]; then
        "$lib/bin/nanotun" recover --run-dir /run/nanotun || return
    fi
    if [ -e "$config" ] && grep -q '^ *runDir *:' "$config"; then
        "$lib/bin/nanotun" recover --config "$config" || return
    fi
}

uninstall_all() {
    [ -d "$DESTDIR$lib" ] || fail "There is no nanotun in $DESTDIR$lib; say where with PREFIX=."
    pid=
    [ -n "$DESTDIR" ] || pid=$(running)
    [ -z "$pid" ] || fail "nanotun runs as process $pid; stop it first: \
systemctl disable --now nanotun, or without systemd: service nanotun stop"
    [ -n "$DESTDIR" ] || undo_all ||
        fail "Not everything is undone, so nothing is removed; look at what it says above."
    made=
    [ ! -e "$DESTDIR$directories" ] || made=$(cat "$DESTDIR$directories")
    files | while read -r _ target _; do
        rm -f "$DESTDIR$target"
    done
    rm -f "$DESTDIR$PREFIX/bin/nanotun"
    rm -rf "$DESTDIR$lib" "$DESTDIR$PREFIX/share/nanotun"
    # What 'systemctl enable' and 'update-rc.d' have made points nowhere now.
    wanted=$DESTDIR$SYSCONFDIR/systemd/system/multi-user.target.wants/nanotun.service
    if [ "$(readlink "$wanted")" = "$PREFIX/lib/systemd/system/nanotun.service" ]; then
        rm -f "$wanted"
        rmdir --ignore-fail-on-non-empty "${wanted%/*}"
    fi
    rm -f "$DESTDIR$SYSCONFDIR"/rc?.d/[SK][0-9][0-9]nanotun
    for directory in $made; do
        # Others may have put something there, or removed it.
        [ ! -d "$DESTDIR$directory" ] ||
            rmdir --ignore-fail-on-non-empty "$DESTDIR$directory"
    done
    if [ -z "$DESTDIR" ]; then
        # The lock of a daemon that has ended, and the journal, of which nothing is left.
        rm -rf /run/nanotun
        [ ! -d /run/systemd/system ] || systemctl daemon-reload
    fi
    echo "nanotun is removed. What is left is yours: $config, $SYSCONFDIR/default/nanotun,"
    echo "/var/lib/nanotun, the logs in /var/log/nanotun, and logs/ in any directory where you"
    echo "started it by hand."
}

may() {
    [ "$(id -u)" -eq 0 ] || [ -n "$DESTDIR" ] || fail "Only root may do that; try: sudo make $1"
}

case ${1:-} in
    install)
        may install
        install_all "$2" "${3:-}"
        ;;
    uninstall)
        may uninstall
        uninstall_all
        ;;
    *) fail "usage: tools/install.sh {install PYTHON [BASE]|uninstall}" ;;
esac

#!/bin/sh
# Installs the Debian or Ubuntu packages that are missing, and only those.
#
#   tools/bootstrap.sh build    what the build needs
#   tools/bootstrap.sh deb      that, and what 'make deb' needs
#   tools/bootstrap.sh test     that, and what the demonstration and the
#                               end-to-end tests run
#   tools/bootstrap.sh wheel    what the build needs, and what tries the wheels
#   tools/bootstrap.sh image    what the build needs, and what the image is made with
#   tools/bootstrap.sh test-image  that, and what tries the image
#   tools/bootstrap.sh site     what the build needs, and what the site is made with
#
# Says nothing when nothing is missing.
set -eu

python=${PYTHON:-python3}
needed=
wanted=

# package command: notes the package if the command is not there.
need() { command -v "$2" >/dev/null 2>&1 || needed="$needed $1"; }
want() { command -v "$2" >/dev/null 2>&1 || wanted="$wanted $1"; }

need python3 "$python"
[ -x .venv/bin/python ] || "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
    needed="$needed python3-venv"
# CC may have arguments.
compiler=${CC:-cc}
need gcc "${compiler%% *}"
[ -e /usr/include/stdlib.h ] || needed="$needed libc6-dev"
[ "${1:-build}" != deb ] || need debhelper dh

if [ "${1:-build}" = wheel ]; then
    need mmdebstrap mmdebstrap
    need qemu-user-static qemu-aarch64-static
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ||
        needed="$needed debian-archive-keyring"
fi
case ${1:-build} in image | test-image)
    need mmdebstrap mmdebstrap
    need buildah buildah
    # Neither works without it; for Debian that is a recommendation.
    [ -e /usr/lib/podman/netavark ] || needed="$needed netavark"
    ;;
esac
if [ "${1:-build}" = test-image ]; then
    need podman podman
    need runc runc
fi
[ "${1:-build}" != site ] || need mandoc mandoc

if [ "${1:-build}" = test ]; then
    # Root's tools; not on every PATH.
    PATH=$PATH:/usr/sbin:/sbin
    want iproute2 ip
    want iputils-ping ping
    want curl curl
    want wget wget
    want iperf3 iperf3
    want socat socat
    want git git
    want bind9-dnsutils dig
    # Ubuntu's are snaps, which a container cannot have.
    if ! grep -q '^ID=ubuntu' /etc/os-release 2>/dev/null; then
        want chromium chromium
        want chromium-driver chromedriver
    fi
    want dante-server danted
    want microsocks microsocks
    want squid squid
    want tinyproxy tinyproxy
    want stunnel4 stunnel
    want openssl openssl
    want openssh-server sshd
    want openssh-client ssh
    want unbound unbound
    want dnsdist dnsdist
    want ldnsutils ldns-signzone
    want knot-dnsutils kdig
    want dnsperf dnsperf
    want nftables nft
    want iptables iptables
    want tcpdump tcpdump
    want tshark tshark
    want openvpn openvpn
    want procps ps
    want systemd systemd-analyze
    want shellcheck shellcheck
    want mandoc mandoc
    want bash bash
    want zsh zsh
    want fish fish
    want dbus-daemon dbus-daemon
    [ -e /usr/share/dbus-1/system.conf ] || wanted="$wanted dbus-system-bus-common"
    want prometheus promtool
    want nodejs node
    # For a stand-in of systemd-resolved, which Debian's own Python runs.
    [ -e /usr/lib/python3/dist-packages/jeepney ] || wanted="$wanted python3-jeepney"
fi

missing=$(echo $needed $wanted)
if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "Missing here: $missing (Debian's package names); install them, as root: apt-get install $missing" >&2
        # The tests skip what they cannot run, and say so.
        [ -z "$needed" ] || exit 1
        exit 0
    fi

    echo "Installing $missing"
    # Without this, Debian starts the servers of what it installs.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    install() {
        apt-get install -y --no-install-recommends "$@" >"$log" 2>&1
    }
    apt-get update -qq || echo "apt-get update failed; trying with the lists that are there" >&2
    if [ -n "$needed" ] && ! install $needed; then
        cat "$log" >&2
        echo "These packages could not be installed:$needed; see above." >&2
        exit 1
    fi
    # One that this release does not have must not keep the others away.  apt names all of them.
    until [ -z "$wanted" ] || install --simulate $wanted; do
        available=
        for package in $wanted; do
            if reason=$(grep "^E: .* '\?$package'\?\( \|$\)" "$log"); then
                echo "$package cannot be installed here: $reason" >&2
            else
                available="$available $package"
            fi
        done
        # Something else is wrong, as the installation will show.
        [ "$available" != " $(echo $wanted)" ] || break
        wanted=$available
    done
    if [ -n "$wanted" ] && ! install $wanted; then
        cat "$log" >&2
        echo "Not all of these could be installed:$wanted; tests that need them skip." >&2
    fi
    rm -f "$log"
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "nanotun needs Python 3.11 or newer; say which with: make PYTHON=python3.11 ..." >&2
    exit 1
}

"""
How a command of C{nanotun run} looks up names, however the machine does it: in mount
namespaces that imitate other machines.
"""

from __future__ import annotations

import shlex

from tests.e2e.lab import tlsfront
from tests.e2e.lab.cell import Done
from tests.e2e.lab.nameserver import PATH
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import IPV4
from tests.e2e.run_case import NOWHERE, RunCase, callers

RESOLV = (
    "# Made by 'nanotun run' for this command.\n"
    "nameserver 198.18.0.1\nnameserver fdfe:dcba:9876::1\n"
)

MACHINE = """\
set -e
mkdir etc run
cp -a /etc/. etc
mount --bind etc /etc
mount --bind run /run
mkdir -p /run/systemd/resolve /run/nscd /mnt
rm -f /etc/resolv.conf
printf 'nameserver 127.0.0.53\\nsearch lab\\noptions edns0\\n' > stub
"""
"""A machine with an F{/etc} and a F{/run} of its own."""


class NameCase(RunCase):
    """What all tests need."""

    def onMachine(self, script: str, command: str, *options: str) -> Done:
        """
        Run a command on a machine of its own.

        @param script: prepares the machine, in its mount namespace.
        """
        call = shlex.join(self.argv(["sh", "-c", command], NOWHERE, *options))
        whole = f"{MACHINE}{script}\n{call}\n"
        return self.launch(["unshare", "--mount", "sh", "-c", whole]).done()


class ResolvConfChecks(NameCase):
    """F{/etc/resolv.conf}."""

    def test_file(self) -> None:
        """A plain file is replaced for the command; its search list and options are kept."""
        done = self.onMachine("cp stub /etc/resolv.conf", "cat /etc/resolv.conf")
        self.assertEqual(done, Done(0, f"{RESOLV}search lab\noptions edns0\n", ""))

    def test_resolved(self) -> None:
        """systemd-resolved's link is followed, and its sockets are out of reach."""
        done = self.onMachine(
            "cp stub /run/systemd/resolve/stub-resolv.conf; "
            "touch /run/systemd/resolve/io.systemd.Resolve\n"
            "ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
            "cat /etc/resolv.conf; ls /run/systemd/resolve",
        )
        self.assertEqual(
            done, Done(0, f"{RESOLV}search lab\noptions edns0\nstub-resolv.conf\n", "")
        )

    def test_missing(self) -> None:
        """If there is no such file, a warning says so and the command runs."""
        done = self.onMachine("", "echo ran", "--log-level", "warn")
        self.assertEqual((done.status, done.out), (0, "ran\n"))
        self.assertIn("There is no /etc/resolv.conf to be replaced", done.err)

    def test_replacedLater(self) -> None:
        """If the machine rewrites its file, the command keeps its own."""
        done = self.onMachine(
            "cp stub /etc/resolv.conf; mkfifo -m 666 fifo\n"
            "(read go <fifo; echo nameserver 192.0.2.1 >/etc/new; mv /etc/new /etc/resolv.conf; "
            "cat /etc/resolv.conf; echo -- ) &",
            "echo go >fifo; sleep 2.5; cat /etc/resolv.conf",
        )
        self.assertEqual(done.status, 0, done.err)
        self.assertIn("192.0.2.1", done.out.partition("--\n")[0])
        self.assertEqual(done.out.partition("--\n")[2], f"{RESOLV}search lab\noptions edns0\n")


class OutsideChecks(NameCase):
    """What the machine sees of the command's mounts."""

    def test_nothing(self) -> None:
        """Even with shared mounts, as under systemd, the machine's own files do not change."""
        done = self.onMachine(
            "cp stub /etc/resolv.conf; mount --make-rshared /\n"
            # Other laboratories appear and disappear meanwhile.
            "mounts() { grep -v /run/netns /proc/self/mountinfo; }; before=$(mounts)\n"
            'trap \'cat /etc/resolv.conf; [ "$before" = "$(mounts)" ] && '
            "echo same' EXIT",
            "cat /etc/resolv.conf",
        )
        self.assertEqual(
            done.out,
            f"{RESOLV}search lab\noptions edns0\n"
            "nameserver 127.0.0.53\nsearch lab\noptions edns0\nsame\n",
        )


class LookupChecks(NameCase):
    """Daemons that would look up names past the tunnel."""

    def test_nscd(self) -> None:
        """glibc finds no nscd, which it does ask without the cell."""
        done = self.onMachine(
            "cp stub /etc/resolv.conf\n"
            "socat UNIX-LISTEN:/run/nscd/socket,fork SYSTEM:'echo x >>asked' >/dev/null 2>&1 &\n"
            'trap "kill $!" EXIT\n'
            "while ! [ -S /run/nscd/socket ]; do sleep 0.01; done\n"
            "getent hosts outside.lab || true\n"
            "wc -c <asked",
            # What starts the command may have asked for users.
            "rm -f asked; getent ahosts inside.lab; ls /run/nscd; ls asked",
            *("--dns", IPV4.proxy, "--dns-via", "direct"),
        )
        self.assertGreater(int(done.out), 0, done)
        self.assertIn("asked", done.err)
        self.assertNotEqual(done.status, 0)

    def test_nsswitch(self) -> None:
        """Sources that ask such a daemon are removed, for the command only."""
        done = self.onMachine(
            "cp stub /etc/resolv.conf\n"
            "printf 'passwd: files\\nhosts: files mdns4_minimal [NOTFOUND=return] resolve "
            "[!UNAVAIL=return] dns myhostname\\n' >/etc/nsswitch.conf",
            "cat /etc/nsswitch.conf",
        )
        self.assertEqual(done.out, "passwd: files\nhosts: files dns myhostname\n", done.err)


class EncryptedChecks(RunCase):
    """DNS servers over TLS and HTTPS."""

    def test_throughTheProxy(self) -> None:
        """They are asked through the proxy, by a flag alone, and nothing leaves past it."""
        self.openDirectPath()
        ca = tlsfront.authority(self.directory)
        shown = tlsfront.certificate(self.directory, ca, ("DNS:dns.lab",))
        server = self.nameServer(IPV4.world, shown=shown, plain=False)
        watch = Tcpdump(self.lab.app, self.directory, "up0", "port 53 or port 853 or port 443")
        self.addCleanup(watch.stop)
        proxy = self.dante().url()
        for url in (f"tls://{IPV4.world}#dns.lab", f"https://{IPV4.world}{PATH}#dns.lab"):
            options = ("--dns", url, "--dns-mode", "normal")
            argv = self.argv(["getent", "ahosts", "host.lab"], proxy, *options)
            done = self.launch(["env", f"SSL_CERT_FILE={ca.cert}", *argv]).done()
            self.assertIn("10.1.2.3", done.out, done.err)
            self.assertEqual(done.err, "")
        self.assertEqual({asker for asker, _ in server.queries()}, {IPV4.proxyOutside})
        self.assertEqual(watch.destinations(), {})


callers(globals(), ResolvConfChecks, OutsideChecks, LookupChecks, EncryptedChecks)
del ResolvConfChecks, OutsideChecks, LookupChecks, EncryptedChecks

"""
Runs suites of tests and adds up their results:

    python tools/run_tests.py unit go e2e

unit is tests/unit, tests/contracts and tests/test_imports.py by trial, go is
C{go test -race} in netstack/, e2e is tests/e2e by trial, two modules at a time: they wait
more than they compute, and each has network namespaces of its own.  Anything else is a module
for trial, as tests.e2e.test_run.  At the end come the names of the tests that failed, and in the
last line the sum; the exit status is 0 only if every suite ran at least one test and nothing
failed.  With CI=true a skip is a failure, unless tests/skips.txt has its reason.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from queue import SimpleQueue
from typing import NamedTuple

import golang
import skips

TRIAL = [sys.executable, "-m", "twisted.trial"]

#: Has the directories that trial makes, and removes in the next run.  One for each user.
DIRECTORY = f"_trial.{os.getuid()}"

#: What go test says of one that has ended.
RESULTS = ("pass", "fail", "skip")

#: How many end-to-end modules run at a time.
AT_A_TIME = 2


class Counts(NamedTuple):
    """
    The number of tests by result.

    @ivar names: the tests that failed, as far as they have names.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    names: tuple[str, ...] = ()


def added(counts: Sequence[Counts]) -> Counts:
    """The sum of several runs."""
    return Counts(
        sum(each.passed for each in counts),
        sum(each.failed for each in counts),
        sum(each.skipped for each in counts),
        tuple(chain.from_iterable(each.names for each in counts)),
    )


def trialCounts(output: str) -> Counts:
    """
    Read trial's summary.

    @param output: everything that trial printed.
    @return: one failure if there is no summary, or if no test was run.
    """
    names = tuple(skips.trialFailures(output))
    ran = re.findall(r"^Ran (\d+) tests? in ", output, re.MULTILINE)
    summary = re.findall(r"^(?:PASSED|FAILED) \((.*)\)$", output, re.MULTILINE)
    if not ran or not summary or int(ran[-1]) == 0:
        return Counts(failed=1, names=names)
    found = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", summary[-1])}

    def add(*names: str) -> int:
        return sum(found.get(name, 0) for name in names)

    return Counts(
        passed=add("successes", "expectedFailures"),
        failed=add("failures", "errors", "unexpectedSuccesses"),
        skipped=add("skips"),
        names=names,
    )


def goCounts(events: list[dict[str, str]]) -> Counts:
    """
    Count the results that C{go test -json} reported.

    @return: subtests count; a package that fails outside any test is one
        failure.
    """
    tests = [event["Action"] for event in events if event.get("Test")]
    broken = {event.get("Package") for event in events if event["Action"] == "fail"}
    blamed = {e.get("Package") for e in events if e["Action"] == "fail" and e.get("Test")}
    names = [
        ".".join(filter(None, (event.get("Package"), event.get("Test"))))
        for event in events
        if event["Action"] == "fail" and (event.get("Test") or event.get("Package") not in blamed)
    ]
    counts = Counts(
        tests.count("pass"),
        tests.count("fail") + len(broken - blamed),
        tests.count("skip"),
        tuple(names),
    )
    return counts if any(counts) else Counts(failed=1)


def runTrial(names: list[str]) -> Counts:
    """Run test modules, and show trial's output as it is printed."""
    lines = []
    with subprocess.Popen(
        [*TRIAL, f"--temp-directory={DIRECTORY}/0", *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=golang.ROOT,
    ) as trial:
        assert trial.stdout is not None
        for line in trial.stdout:
            lines.append(line.decode("utf-8", "replace"))
            sys.stdout.write(lines[-1])
            sys.stdout.flush()
    return verdict("".join(lines), trial.returncode)


def verdict(output: str, status: int) -> Counts:
    """The counts of one run of trial, which is a failure also if only its status says so."""
    counts = trialCounts(output)
    if status and not counts.failed:
        # It failed after its summary, or was killed.
        return counts._replace(failed=1)
    return judged(counts, skips.trialSkips(output))


def judged(counts: Counts, skipped: Iterator[skips.Skip]) -> Counts:
    """
    Under CI, count skips for a reason that is not listed as failures, and print them.

    @param skipped: the skips that C{counts} has.
    """
    if not os.environ.get("CI") or not counts.skipped:
        return counts
    found = list(skipped)
    accepted = skips.reasons(skips.LIST.read_text(), skips.codename())
    wrong = skips.unlisted(iter(found), accepted)
    for skip in wrong:
        print(f"Under CI this may not be skipped: {skip.name}: {skip.reason}", flush=True)
    # One that nobody can read the reason of is none that is listed.
    bad = len(wrong) + counts.skipped - len(found)
    return counts._replace(
        failed=counts.failed + bad,
        skipped=counts.skipped - bad,
        names=(*counts.names, *(skip.name for skip in wrong)),
    )


def runModule(name: str, directories: SimpleQueue[str]) -> Counts:
    """
    Run one test module beside others, and show trial's output when it has ended.

    @param directories: trial's directories that no other module uses now.
    """
    directory = directories.get()
    done = subprocess.run(
        [*TRIAL, f"--temp-directory={directory}", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=golang.ROOT,
        check=False,
    )
    directories.put(directory)
    output = done.stdout.decode("utf-8", "replace")
    sys.stdout.write(output)
    sys.stdout.flush()
    return named(verdict(output, done.returncode), name)


def named(counts: Counts, name: str) -> Counts:
    """The same, with C{name} for failures without one."""
    return counts._replace(names=counts.names or (name,)) if counts.failed else counts


def runUnit() -> Counts:
    """Run everything but tests/e2e."""
    return runTrial(["tests.test_imports", "tests.contracts", "tests.unit"])


def runE2E() -> Counts:
    """Run tests/e2e; large modules first, so that none is left alone at the end."""
    files = sorted(
        (golang.ROOT / "tests" / "e2e").glob("test_*.py"), key=lambda f: -f.stat().st_size
    )
    directories: SimpleQueue[str] = SimpleQueue()
    for number in range(AT_A_TIME):
        # Short, as the path of a unix socket may have no more than 107 characters.
        directories.put(f"{DIRECTORY}/{number}")
    with ThreadPoolExecutor(AT_A_TIME) as workers:
        names = (f"tests.e2e.{file.stem}" for file in files)
        results = list(workers.map(runModule, names, repeat(directories)))
    return added(results) if results else Counts(failed=1)


def runGo() -> Counts:
    """Run the Go tests, and show the output of those that fail."""
    go = golang.findGo()
    if go is None:
        print("go test: there is no Go toolchain; 'make build' brings one.")
        return Counts(failed=1)
    environment = {**os.environ, "CGO_ENABLED": "1", "GOTOOLCHAIN": "local"}
    done = subprocess.run(
        # Go's own limit, ten minutes for a package, is too short on a busy machine.
        [go, "test", "-race", "-timeout", "30m", "-json", "./..."],
        cwd=golang.ROOT / "netstack",
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    events = []
    for line in done.stdout.splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            print(line)
    showGo(events)
    counts = goCounts(events)
    if done.returncode and not counts.failed:
        return counts._replace(failed=1)
    return judged(counts, skips.goSkips(events))


def showGo(events: list[dict[str, str]]) -> None:
    """
    Print one line for each package, and the whole output of tests that failed, or that ran when
    their package ended.
    """
    failed = {(e.get("Package"), e.get("Test")) for e in events if e["Action"] == "fail"}
    ended = {(e.get("Package"), e.get("Test")) for e in events if e["Action"] in RESULTS}
    begun = {(e.get("Package"), e.get("Test")) for e in events if e["Action"] == "run"}
    failed |= begun - ended
    for event in events:
        key = (event.get("Package"), event.get("Test"))
        if event["Action"] in ("output", "build-output"):
            if key in failed or event["Action"] == "build-output":
                sys.stdout.write(event.get("Output", ""))
        elif event["Action"] in RESULTS and not event.get("Test"):
            print(f"{event['Action']:<4} {event.get('Package')} {event.get('Elapsed', 0)}s")


def makeDirectory() -> None:
    """Make the directory of trial's directories, which others may enter."""
    directory = golang.ROOT / DIRECTORY
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)


SUITES = {"unit": runUnit, "go": runGo, "e2e": runE2E}


def main(names: list[str]) -> int:
    """Run the suites called C{names}."""
    if not names or not all(name in SUITES or name.startswith("tests.") for name in names):
        print(__doc__, file=sys.stderr)
        return 2
    # Tests, and the servers that they start, become other users and read what others have made.
    os.umask(0o022)
    makeDirectory()
    results = {}
    for name in names:
        print(f"--- {name}", flush=True)
        counts = SUITES[name]() if name in SUITES else runTrial([name])
        # One that was killed has said nothing of its tests.
        results[name] = named(counts, name)
    print()
    for name, counts in results.items():
        print(f"{name}: {counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped")
    total = added(list(results.values()))
    for failed in total.names:
        print(f"failed: {failed}")
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

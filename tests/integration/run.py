#!/usr/bin/env python3
"""Runs the integration tests, each in a process of its own and against every QEMU.

Two run at a time, but those whose case says `alone` (they measure, or use what there is only one of).
Each test gets its own process, mount and network namespaces with a /dev/shm of its own: ports,
bridges and RAM files are private, and nothing that a test started can outlive it.
"""

import argparse
import concurrent.futures
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest
import xml.sax.saxutils

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from rig import isolate, paths, process  # noqa: E402

PASSED, FAILED, SKIPPED = 0, 1, 77
REASON_LINES = 12  # of what a failed test said, in the summary
GRACE_S = 20  # a test that passed its limit has this long to clean up


def all_tests(pattern="test_*.py"):
    """Every test case in this folder, by id."""
    def flatten(suite):
        for item in suite:
            if isinstance(item, unittest.TestSuite):
                yield from flatten(item)
            else:
                yield item
    suite = unittest.TestLoader().discover(str(HERE), pattern, str(HERE))
    return {case.id(): case for case in flatten(suite)}


# --- inside the namespaces: one test

class Result(unittest.TestResult):
    """Shows the state of the VMs at the moment of a failure, before they are cleaned up."""

    def addError(self, test, err):
        super().addError(test, err)
        self._show(test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._show(test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self._show(test)

    @staticmethod
    def _show(test):
        if hasattr(test, "commands"):
            print(test.describe(), flush=True)


def run_inside(test_id):
    """Runs one test in this process; its verdict is the exit status."""
    module = test_id.split(".")[0]
    case = all_tests(f"{module}.py")[test_id]
    limit_s = getattr(case, "timeout_s", 120)

    def too_long(*_):
        raise AssertionError(f"the test's limit of {limit_s} s has passed")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(limit_s)
    result = Result()
    case.run(result)
    signal.alarm(0)
    for _, text in result.errors + result.failures:
        print(text)
    if process.sanitizer_reports:
        print("\n\n".join(["a sanitizer's report", *process.sanitizer_reports]))
        return FAILED
    if result.skipped:
        print(f"skipped: {result.skipped[0][1]}")
        return SKIPPED
    return PASSED if result.wasSuccessful() else FAILED


# --- outside: all tests

class Outcome:
    def __init__(self, name, status, seconds, output):
        self.name = name
        self.status = status
        self.seconds = seconds
        self.output = output


def isolation():
    """The command that gives a test its namespaces; [] with a loud word where that is forbidden."""
    words = isolate.prefix()
    if words is None:
        print("run.py: no namespaces here (not root?): tests run bare, network tests will fail")
    return words or []


def run_one(job):
    test_id, qemu, limit_s, prefix = job
    label = f"{test_id}[{pathlib.Path(qemu).parent.name if 'qemu10' in qemu else 'qemu7.2'}]"
    begin = time.monotonic()
    child = subprocess.Popen(
        [*prefix, sys.executable, __file__, "--inside", test_id], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace",
        env={**os.environ, "FAULTLINE_QEMU": qemu, "PYTHONUNBUFFERED": "1"})
    try:
        output, _ = child.communicate(timeout=limit_s + GRACE_S)
        status = child.returncode
    except subprocess.TimeoutExpired:
        child.kill()
        output, _ = child.communicate()
        output += f"\nkilled after {limit_s + GRACE_S} s"
        status = FAILED
    if status not in (PASSED, SKIPPED):
        status = FAILED
    return Outcome(label, status, time.monotonic() - begin, output)


def jobs_for(options):
    prefix = isolation()
    for test_id, case in sorted(all_tests().items()):
        method = getattr(case, getattr(case, "_testMethodName"))
        if isinstance(case, unittest.loader._FailedTest):
            yield test_id, paths.SYSTEM_QEMU, 30, prefix
            continue
        if getattr(method, "full", False) and not options.full:
            continue
        if options.sanitized and (getattr(method, "plain", False) or getattr(case, "plain", False)):
            continue
        qemus = paths.qemus() if getattr(case, "every_qemu", False) else paths.qemus()[:1]
        for qemu in qemus:
            if not options.filter or options.filter in f"{test_id}[{qemu}]":
                yield test_id, qemu, case.timeout_s, prefix


def run_all(jobs, at_a_time):
    """Outcomes as they come: first those that bear company, then the others one by one."""
    cases = all_tests()
    alone = [job for job in jobs if getattr(cases[job[0]], "alone", False)]
    with concurrent.futures.ThreadPoolExecutor(at_a_time) as pool:
        yield from pool.map(run_one, [job for job in jobs if job not in alone])
    yield from map(run_one, alone)


def show(outcome, everything=False):
    word = {PASSED: "ok  ", SKIPPED: "skip"}.get(outcome.status, "FAIL")
    print(f"{word} {outcome.name} {outcome.seconds:.1f} s", flush=True)
    if outcome.status == SKIPPED:
        print("     " + outcome.output.strip().splitlines()[-1])
    elif everything or outcome.status != PASSED:
        print("\n".join("     " + line for line in outcome.output.splitlines()), flush=True)


def reason(output):
    """The last exception that a failed test printed, without its call stack, cut short."""
    stack = output.rfind("Traceback (most recent call last)")
    lines = output[max(stack, 0):].strip().splitlines()
    raised = next((number for number, line in enumerate(lines) if number and line[:1].strip()), -1)
    return "\n".join(lines[raised:][:REASON_LINES] if lines else ["it printed nothing"])


def write_junit(path, outcomes):
    text = io.StringIO()
    text.write("<testsuites><testsuite name='integration'>\n")
    for outcome in outcomes:
        name = xml.sax.saxutils.quoteattr(outcome.name)
        text.write(f"<testcase name={name} time='{outcome.seconds:.3f}'>")
        if outcome.status == SKIPPED:
            text.write("<skipped/>")
        elif outcome.status != PASSED:
            text.write(f"<failure>{xml.sax.saxutils.escape(outcome.output)}</failure>")
        text.write("</testcase>\n")
    text.write("</testsuite></testsuites>\n")
    pathlib.Path(path).write_text(text.getvalue())


def use_sanitized(tree):
    """Makes this run one of that tree's command. A report in anything that a command said fails the
    test. Leaks are not looked for: that needs rights which the command gives up. Some tests load a
    library ahead of all others, the sanitizer's too. What a command that gave its rights up reports
    has no symbols: llvm-symbolizer --obj=TREE/faultline ADDRESS."""
    os.environ.update({"FAULTLINE_SANITIZED": "1",
                       "FAULTLINE_BINARY": str(pathlib.Path(tree, "faultline").resolve()),
                       "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0",
                       "UBSAN_OPTIONS": "print_stacktrace=1"})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the long tests too")
    parser.add_argument("--filter", help="only tests whose id[qemu path] holds this text")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time")
    parser.add_argument("--show", action="store_true", help="what tests print that pass, too")
    parser.add_argument("--junit", help="file for the results, JUnit XML")
    parser.add_argument("--results", help="file for the totals, JSON")
    parser.add_argument("--sanitized", metavar="TREE", help="a build tree with sanitizers in it, "
                        "whose command is tested; without tests that measure or build")
    parser.add_argument("--list", action="store_true", help="names the tests and ends")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return isolate.reap(lambda: run_inside(options.inside))
    if options.sanitized:
        use_sanitized(options.sanitized)
    jobs = list(jobs_for(options))
    if options.list:
        print("\n".join(f"{test_id} {qemu}" for test_id, qemu, _, _ in jobs))
        return 0
    outcomes = []
    for outcome in run_all(jobs, options.jobs):
        show(outcome, options.show)
        outcomes.append(outcome)
    failed = sum(outcome.status == FAILED for outcome in outcomes)
    skipped = sum(outcome.status == SKIPPED for outcome in outcomes)
    totals = {"passed": len(outcomes) - failed - skipped, "failed": failed, "skipped": skipped,
              "failures": {outcome.name: reason(outcome.output) for outcome in outcomes
                           if outcome.status == FAILED}}
    if options.results:
        pathlib.Path(options.results).write_text(json.dumps(totals))
    if options.junit:
        write_junit(options.junit, outcomes)
    print(f"integration: {totals['passed']} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Runs suites on Debian's stock kernel with soft-RoCE devices, in a QEMU without KVM, or two of them.

The build machine has no RDMA device, and its own kernel may be newer than those the product meets:
this guest has real verbs over rdma_rxe, and the 6.1 kernel's userfaultfd.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import xml.sax.saxutils

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import guest  # noqa: E402
import image  # noqa: E402
from cases import CASES  # noqa: E402

BOOT_S = 60  # at most, without the cases
REASON_LINES = 12  # of what a failed case printed, in the summary


class Verdict:
    def __init__(self, name, passed, failed, skipped, text, seconds=0.0):
        self.name = name
        self.passed = passed
        self.failed = failed
        self.skipped = skipped
        self.text = text
        self.seconds = seconds


def gtest_counts(text):
    """(ran, passed, skipped) of GoogleTest's last lines; None where there are none."""
    ran = re.search(r"^\[==========\] (\d+) tests? .*ran\.", text, re.M)
    passed = re.search(r"^\[  PASSED  \] (\d+) test", text, re.M)
    skipped = re.search(r"^\[  SKIPPED \] (\d+) test", text, re.M)
    if not ran or not passed:
        return None
    return int(ran[1]), int(passed[1]), int(skipped[1]) if skipped else 0


def judge(case, ended):
    """One case's verdict: its exit status, and what must stand in what it printed."""
    if ended is None:
        return Verdict(case.name, 0, 1, 0, "the guest never came to it")
    text = ended.output
    fault = None
    if ended.status != 0:
        fault = {None: "the guest ended in the middle of it",
                 124: f"its limit of {case.limit_s} s has passed"}.get(
                     ended.status, f"it ended with status {ended.status}")
    fault = fault or next((f"there is no line '{pattern}'" for pattern in case.must_print
                           if not re.search(pattern, text, re.M)), None)
    fault = fault or case.check(text)
    if not case.is_gtest:
        return Verdict(case.name, int(fault is None), int(fault is not None), 0,
                       f"{text}\n{fault or ''}", ended.seconds)
    counts = gtest_counts(text)
    if counts is None:
        return Verdict(case.name, 0, 1, 0, f"{text}\n{fault or 'it printed no result'}")
    ran, passed, skipped = counts
    failed = ran - passed - skipped
    return Verdict(case.name, passed, max(failed, int(fault is not None)), skipped,
                   f"{text}\n{fault or ''}", ended.seconds)


def entry(case, command):
    return f"{case.name} {case.limit_s} {command}\n"


def write_junit(path, verdicts):
    with open(path, "w", encoding="utf-8") as out:
        out.write("<testsuites><testsuite name='rdma'>\n")
        for verdict in verdicts:
            name = xml.sax.saxutils.quoteattr(verdict.name)
            text = xml.sax.saxutils.escape(re.sub(r"[^\n\t -~]", "?", verdict.text))
            out.write(f"<testcase name={name}>")
            out.write(f"<failure>{text}</failure>" if verdict.failed else "")
            out.write("</testcase>\n")
        out.write("</testsuite></testsuites>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default=str(ROOT / "build"), help="the build tree")
    parser.add_argument("--filter", help="only cases whose name holds this text")
    parser.add_argument("--show", action="store_true", help="what cases print that pass, too")
    parser.add_argument("--junit", help="file for the results, JUnit XML")
    parser.add_argument("--results", help="file for the totals, JSON")
    parser.add_argument("--list", action="store_true", help="names the cases and ends")
    options = parser.parse_args()
    cases = [case for case in CASES if not options.filter or options.filter in case.name]
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    build = pathlib.Path(options.build).resolve()
    out = build / "rdma"
    programs = {str(build / program) if "/" in program else str(image.find_tool(program))
                for case in cases for program in case.programs}
    targets = sorted({program for case in cases for program in case.programs if "/" in program})
    if targets:
        subprocess.run(["ninja", "-C", str(build), *targets], check=True, stdout=subprocess.DEVNULL)
    alone = [case for case in cases if case.destination is None]
    pairs = [case for case in cases if case.destination is not None]
    image.build(out, sorted(programs), {
        "": [entry(case, case.command) for case in alone],
        "source": [entry(case, case.command) for case in pairs],
        "destination": [entry(case, case.destination) for case in pairs]})
    by_name, console, seconds = {}, "", []
    for some, boot in ((alone, guest.boot), (pairs, guest.boot_pair)):
        if some:
            ended, text, took = boot(out, BOOT_S + sum(case.limit_s for case in some))
            by_name.update((one.name, one) for one in ended)
            console += text
            seconds.append(took)
    verdicts = [judge(case, by_name.get(case.name)) for case in cases]
    for verdict in verdicts:
        print(f"{'FAIL' if verdict.failed else 'ok  '} rdma {verdict.name}: {verdict.passed} passed"
              + (f", {verdict.failed} failed" if verdict.failed else "")
              + (f", {verdict.skipped} skipped" if verdict.skipped else "")
              + f" ({verdict.seconds:.1f} s)", flush=True)
        if verdict.failed or options.show:
            print("\n".join("     " + line for line in verdict.text.splitlines()), flush=True)
    if any(verdict.failed for verdict in verdicts):
        print("     the guest's console ended so:")
        print("\n".join("     " + line for line in console.splitlines()[-20:]))
    totals = {word: sum(getattr(verdict, word) for verdict in verdicts)
              for word in ("passed", "failed", "skipped")}
    print(f"rdma: {' and '.join(f'{took:.1f}' for took in seconds)} s in the guests, {totals}")
    totals["failures"] = {verdict.name: "\n".join(verdict.text.strip().splitlines()[-REASON_LINES:])
                          for verdict in verdicts if verdict.failed}
    if options.results:
        pathlib.Path(options.results).write_text(json.dumps(totals))
    if options.junit:
        write_junit(options.junit, verdicts)
    return 1 if totals["failed"] or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main())

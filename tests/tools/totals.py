#!/usr/bin/env python3
"""Adds up the results of all test stages: what failed and why, then
`N passed, N failed[, N skipped]`."""

import argparse
import json
import pathlib
import sys
import xml.etree.ElementTree

LINES_MAX = 12  # of what a failed test printed


def junit_counts(path):
    """(passed, failed, skipped) of one meson test run; a run that left nothing counts as failed."""
    if not pathlib.Path(path).exists():
        return 0, 1, 0
    passed = failed = skipped = 0
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None or case.get("status") == "notrun":
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def junit_failures(path):
    """{test: what it printed last} of a meson test run."""
    if not pathlib.Path(path).exists():
        return {path: "it was not written"}
    said = {}
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        found = [case.find(word) for word in ("failure", "error", "system-out", "system-err")]
        if found[0] is not None or found[1] is not None:
            text = "\n".join(one.text for one in found if one is not None and one.text)
            said[case.get("name")] = "\n".join(text.strip().splitlines()[-LINES_MAX:])
    return said


def json_failures(path):
    if not pathlib.Path(path).exists():
        return {path: "it was not written"}
    return json.loads(pathlib.Path(path).read_text()).get("failures", {})


def json_counts(path):
    if not pathlib.Path(path).exists():
        return 0, 1, 0
    counts = json.loads(pathlib.Path(path).read_text())
    return counts["passed"], counts["failed"], counts["skipped"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--failed-stages", type=int, default=0)
    parser.add_argument("--junit", nargs="*", default=[])
    parser.add_argument("--results", nargs="*", default=[])
    options = parser.parse_args()
    rows = [junit_counts(path) for path in options.junit]
    rows += [json_counts(path) for path in options.results]
    passed, failed, skipped = (sum(column) for column in zip(*rows))
    for failures in (*map(junit_failures, options.junit), *map(json_failures, options.results)):
        for name, text in failures.items():
            print(f"failed: {name}\n" + "\n".join(f"     {line}" for line in text.splitlines()))
    failed = max(failed, options.failed_stages)  # a stage that broke before it could count
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

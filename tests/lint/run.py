#!/usr/bin/env python3
"""Runs every check in this folder: each check_*.py has CHECKS, functions that return the faults.

Prints the scorecard too. check_checks.py holds a broken sample for every rule.
"""

import argparse
import importlib
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import scorecard  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", help="file for the totals, JSON")
    options = parser.parse_args()
    passed, failures = 0, {}
    for path in sorted(HERE.glob("check_*.py")):
        for check in importlib.import_module(path.stem).CHECKS:
            faults = list(check(HERE.parent.parent))
            print(f"{'FAIL' if faults else 'ok  '} lint {check.__name__}")
            for fault in faults:
                print(f"     {fault}")
            passed += not faults
            if faults:
                failures[f"lint {check.__name__}"] = "\n".join(faults)
    scorecard.show(HERE.parent.parent)
    if options.results:
        totals = {"passed": passed, "failed": len(failures), "skipped": 0, "failures": failures}
        pathlib.Path(options.results).write_text(json.dumps(totals))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

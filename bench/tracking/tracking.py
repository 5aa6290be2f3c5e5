#!/usr/bin/env python3
"""Runs build/bench/tracking/faultline-tracking, and keeps what it says as JSON.

Prints each case in a line of its own, and writes all of them, with the machine, to --out.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build" / "bench" / "tracking" / "faultline-tracking"
CASES = ("times", "first_write", "speed")


def measure(cases=CASES, mib=1024, seconds=1.0):
    """What the program says of each case, as dicts with "case"."""
    found = []
    for case in cases:
        words = [PROGRAM, "--case", case, "--mib", mib, "--seconds", seconds]
        text = subprocess.run([str(word) for word in words], check=True, capture_output=True,
                              text=True, timeout=600).stdout
        found += [json.loads(line) for line in text.splitlines()]
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="default: all of them")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each guest that is measured")
    parser.add_argument("--out", type=pathlib.Path,
                        default=ROOT / "build" / "bench" / "tracking" / "results.json")
    options = parser.parse_args()
    found = measure(options.case or CASES, options.mib, options.seconds)
    for one in found:
        print(", ".join(f"{name} {value}" for name, value in one.items()))
    about = {"cpus": os.cpu_count(), "kernel": platform.release()}
    options.out.write_text(json.dumps({"machine": about, "cases": found}, indent=1))
    print(f"In {options.out}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

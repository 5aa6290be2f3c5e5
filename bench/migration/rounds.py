#!/usr/bin/env python3
"""Rounds before the switch: hybrid and precopy beside our post-copy and beside QEMU's own movers.

Four guests at 1 Gbit/s, each moved in turn by QEMU's post-copy, its pre-copy (cancelled where it has
not converged within --precopy-limit-s), its switch from pre-copy to post-copy (after one pass, or
--switch-after), and by our post-copy, hybrid and precopy; and once not moved at all while its memory
is copied over the same link, untracked. Prints a table for each guest as
`./dev bench migration` does, whose options these are, and in the end one of the bars: what has to be
reached, what was found, and which bar is missed. All of it is in --out/results.json, too.

That takes about 40 minutes. In pieces, each of which adds to the ones before:

    ./dev bench rounds --rounds 1 --add --scenario zipf-1gbit

Other push orders after the switch: --only hybrid,hybrid-around,hybrid-plain.
"""

import subprocess
import sys

import run

import bars
import report
import scenarios
from rig import isolate

sys.path.insert(0, str(run.ROOT / "bench" / "tracking"))

import tracking  # noqa: E402


def main():
    parser = run.make_parser(__doc__)
    parser.set_defaults(scenario=",".join(bars.SCENARIOS), only=",".join(bars.MOVERS),
                        out=run.ROOT / "build" / "bench" / "rounds")
    options = run.parse(parser)
    if options.list:
        print("\n".join(scenarios.names()))
        return 0
    report.announce(options)
    options.out.mkdir(parents=True, exist_ok=True)
    found = tracking.measure(["first_write"])
    results = run.run(options)
    summaries = {name: report.medians(result["rounds"]) for name, result in results.items()}
    verdicts = bars.judge(summaries, found[0])
    print("\n" + report.aligned(bars.table(verdicts)))
    run.save(options, results, bars=verdicts, tracking=found)
    print(f"\nIn {options.out}: results.json and the plots.")
    return 0


if __name__ == "__main__":
    sys.exit(isolate.run_isolated(main))

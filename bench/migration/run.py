#!/usr/bin/env python3
"""The same guest moved by stock QEMU's post-copy (postcopy-ram, postcopy-preempt) and by Faultline.

--only chooses other movers: QEMU's pre-copy (stock-precopy) and its switch from pre-copy to post-copy
(stock-switch), our modes (hybrid, precopy), hybrid with other push orders (hybrid-around,
hybrid-plain), and no migration at all but a plain copy of the memory (copy).

In turn on one machine, with the same RAM backends, the destination in a network namespace of its
own behind a link that is unshaped or shaped. A scenario is a guest program and a link:
uniform-unshaped, zipf-1gbit, sqlite-10gbit (--list names them all; patterns such as '*-1gbit' pick
several). sparse-LINK compares a guest of 16 GiB that has touched 64 MiB with one of 1 GiB that has.

Results: a table for each scenario, and in --out a JSON file and an SVG for each scenario with the
guest's speed over time. --variant adds Faultline once more with other options or from another
build, to compare both in turn: --variant 'slow;--bandwidth 24M' --variant 'old;;;../before/build'. Connections
are plain (--insecure) unless a variant chooses secrets: 'tls;--tls-psk KEYS;--tls-psk KEYS'.
"""

import argparse
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests" / "integration")]

import movers  # noqa: E402
import plot  # noqa: E402
import report  # noqa: E402
import scenarios  # noqa: E402
import sparse  # noqa: E402
from link import Link  # noqa: E402
from measure import measure  # noqa: E402
from rig import isolate, paths  # noqa: E402


def make_parser(about=__doc__):
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="uniform-unshaped,uniform-1gbit",
                        help="names or patterns, by comma; default: %(default)s")
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument("--rounds", type=int, default=5, help="of each mover, in turn: A B A B")
    parser.add_argument("--quick", action="store_true", help="one round, short settling")
    parser.add_argument("--only", help="movers, by comma; default: stock,faultline and the variants")
    parser.add_argument("--build", default="", help="folder with the Faultline that moves")
    parser.add_argument("--switch-after", default="1", metavar="PASSES|SECONDSs",
                        help="stock-switch: post-copy from then on; default: %(default)s pass")
    parser.add_argument("--precopy-limit-s", type=float, default=30.0,
                        help="stock-precopy is cancelled then; default: %(default)s")
    parser.add_argument("--add", action="store_true",
                        help="to the rounds that --out has already: many runs make one result")
    parser.add_argument("--variant", action="append", default=[],
                        help="'NAME;MIGRATE WORDS;RECEIVE WORDS;BUILD FOLDER', an empty part "
                        "leaves it as it is")
    parser.add_argument("--crowded", action="append", default=[],
                        help="as --variant, with 1,000 strangers and 1,000 malformed handshakes at the "
                        "port during each move")
    parser.add_argument("--mib", type=int, default=1024, help="guest RAM")
    parser.add_argument("--touched", type=int, default=512, help="MiB that the guest works on")
    parser.add_argument("--cpus", type=int, help="vCPUs, instead of the program's own number")
    parser.add_argument("--settle-s", type=float, default=5.0, help="work before the move")
    parser.add_argument("--qemu", default=paths.qemu())
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "bench" / "migration")
    return parser


def parse(parser):
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.settle_s = 1, 3.0
    return options


def compare(name, options):
    """All rounds: {"rounds": {mover: [figures]}, "speeds": {mover: [[[time, share]]]}}."""
    scenario = scenarios.make(name, options.mib, options.touched, options.cpus)
    result = {"rounds": {}, "speeds": {}}
    link = Link(scenario.rate)
    try:
        for number in range(options.rounds):
            for mover in movers.make(options):
                figures, speeds = measure(scenario, mover, link, options)
                result["rounds"].setdefault(mover.name, []).append(figures)
                result["speeds"].setdefault(mover.name, []).append(speeds)
                print(f"  round {number + 1} {mover.name}: {report.line(figures)}", flush=True)
    finally:
        link.close()
    return result


def run(options):
    """Every scenario that the options pick, tables on the way; {scenario: result}."""
    results = report.load(options.out / "results.json") if options.add else {}
    for name in scenarios.pick(options.scenario):
        print(f"\n{name}:", flush=True)
        compare_one = sparse.compare if name.startswith("sparse-") else compare
        results[name] = report.joined(results.get(name), compare_one(name, options))
        print(report.table(results[name]["rounds"]), flush=True)
        if results[name]["speeds"]:
            plot.save(options.out / f"{name}.svg", name, results[name])
        save(options, results)
    return results


def save(options, results, **more):
    report.save(options.out / "results.json", report.machine(options.qemu),
                {**vars(options), "out": str(options.out)}, results, **more)


def main():
    options = parse(make_parser())
    if options.list:
        print("\n".join(scenarios.names()))
        return 0
    report.announce(options)
    options.out.mkdir(parents=True, exist_ok=True)
    run(options)
    print(f"\nIn {options.out}: results.json and the plots.")
    return 0


if __name__ == "__main__":
    sys.exit(isolate.run_isolated(main))

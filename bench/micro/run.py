#!/usr/bin/env python3
"""The engine against hand-written floors, in one run on one machine.

Every case moves a region between two processes over TCP and checks every page. Cases run in turn,
round after round; figures are medians over the rounds.

  floor 1      one thread: poll and read the userfaultfd, one blocking round trip, UFFDIO_COPY
  floor 1b     the same, polling both the userfaultfd and the sockets (yielding to other threads)
  floor 2      one connection: receive a chunk, UFFDIO_COPY it; the source sends from its mapping
  floor 3      the same, the source uses sendfile
  floor 2c     the same, the source reads the file: what it costs to get at another process's memory
  floor 4      floors 1 and 2 at once: two threads a side, two connections, chunks of 64 KiB
  engine idle  whole sessions; every page is touched and nothing is pushed
  engine bulk  whole sessions; all is pushed and nothing touched
  engine push  whole sessions; touched at random while all is pushed

"lanes": so many parts of the region, each with threads, connections and a userfaultfd of its own.
"think": a toucher computes for 30 us between two touches; "x2": two touchers.
"""

import argparse
import json
import os
import pathlib
import platform
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from pair import Place, run_pair  # noqa: E402
from rig import isolate, paths  # noqa: E402
from rig.net import HOSTS, Lan  # noqa: E402
import tables  # noqa: E402

THINK_US = 30
# Little enough that a fault seldom waits behind a chunk's copy.
PUSH_CHUNK_KIB = 64


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true",
                        help="smaller regions and fewer rounds: about a minute")
    parser.add_argument("--rounds", type=int, help="default 5, quick 2")
    parser.add_argument("--fault-pages", type=int, help="pages to touch in each idle case; default "
                        "16384, quick 8192")
    parser.add_argument("--bulk-mib", type=int, help="MiB to push; default 1024, quick 512")
    parser.add_argument("--chunks", type=lambda text: [int(word) for word in text.split(",")],
                        help="KiB, floors 2 and 3; default 256,512,1024,2048, quick 256,1024")
    parser.add_argument("--only", help="cases whose names contain one of these words: idle,bulk")
    parser.add_argument("--engine-poll-us", type=int, default=200,
                        help="also measure the engine's polling option (0: not)")
    parser.add_argument("--netns", action="store_true",
                        help="each side in a network namespace of its own (veth, a bridge)")
    parser.add_argument("--rate", help="link rate as tc says it (1gbit); implies --netns")
    parser.add_argument("--program", type=pathlib.Path,
                        default=paths.BUILD / "bench" / "micro" / "faultline-micro")
    parser.add_argument("--json", type=pathlib.Path, help="file for all figures and the machine")
    options = parser.parse_args()
    for name, full, quick in (("rounds", 5, 2), ("fault_pages", 16384, 8192),
                              ("bulk_mib", 1024, 512),
                              ("chunks", [256, 512, 1024, 2048], [256, 1024])):
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    return options


def cases(options):
    """Name -> arguments of faultline-micro, in the order in which they run."""
    faults = ("--measure", "faults", "--pages", options.fault_pages)
    pages = options.bulk_mib * 256
    bulk = ("--measure", "bulk", "--pages", pages)
    floor, engine = ("--mover", "floor"), ("--mover", "engine")
    think = ("--think-us", THINK_US)
    found = {"floor 1": (*floor, *faults),
             "engine idle": (*engine, *faults),
             "floor 1 think": (*floor, *faults, *think),
             "engine idle think": (*engine, *faults, *think),
             "floor 1b": (*floor, *faults, "--poll-us", 1),
             "floor 1b think": (*floor, *faults, *think, "--poll-us", 1)}
    if options.engine_poll_us:
        polling = ("--poll-us", options.engine_poll_us)
        found["engine idle polling"] = (*engine, *faults, *polling)
        found["engine idle think polling"] = (*engine, *faults, *think, *polling)
    checked = ("--integrity",)
    found["engine idle checked"] = (*engine, *faults, *checked)
    push = ("--measure", "push", "--pages", pages)
    lean = (*floor, *push, "--chunk-kib", PUSH_CHUNK_KIB)
    found["floor 4 push"] = lean
    found["engine push"] = (*engine, *push)
    found["engine push checked"] = (*engine, *push, *checked)
    found["floor 4 push think"] = (*lean, *think)
    found["engine push think"] = (*engine, *push, *think)
    found["engine push, page alone"] = (*engine, *push, "--page-alone")
    found["engine push think, page alone"] = (*engine, *push, *think, "--page-alone")
    found["engine idle sequential"] = (*engine, *faults, "--sequential")
    for touchers in (2, 4):
        found[f"floor 1 x{touchers}"] = (*floor, *faults, "--touchers", touchers)
        found[f"engine idle x{touchers}"] = (*engine, *faults, "--touchers", touchers)
    for lanes in (2, 4):
        found[f"floor 1 x4, {lanes} lanes"] = (*floor, *faults, "--touchers", 4, "--lanes", lanes)
        found[f"floor 2 bulk, {lanes} lanes"] = (*floor, *bulk, "--chunk-kib", 256,
                                                 "--lanes", lanes)
    for kib in options.chunks:
        found[f"floor 2 bulk {kib}K"] = (*floor, *bulk, "--chunk-kib", kib)
        found[f"floor 3 bulk {kib}K"] = (*floor, *bulk, "--chunk-kib", kib, "--sends-from", "file")
        found[f"floor 2c bulk {kib}K"] = (*floor, *bulk, "--chunk-kib", kib, "--sends-from", "copy")
    found["engine bulk"] = (*engine, *bulk)
    found["engine bulk checked"] = (*engine, *bulk, *checked)
    if options.only:
        words = options.only.split(",")
        found = {name: case for name, case in found.items() if any(w in name for w in words)}
    return found


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if "model name" in line), "?")
    return {"cpus": os.cpu_count(), "cpu": model, "kernel": platform.release(),
            "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
            "load_before": os.getloadavg()[0]}


def figures_of(ran):
    """A run's figures as numbers by name, so that medians can be taken of each."""
    there, here = ran["destination"], ran["source"]
    gib = there["bytes"] / 2**30
    figures = {"bytes_per_second": there["bytes"] / there["transfer_seconds"],
               "source_cpu_s_per_gib": here["cpu_seconds"] / gib,
               "destination_cpu_s_per_gib": there["cpu_seconds"] / gib}
    if "touch" in there:
        figures["faults_per_second"] = there["faults_per_second"]
        figures |= {f"touch_{name}": value for name, value in there["touch"].items()}
        for stage, values in there["stages"].items():
            figures |= {f"{stage}_{name}": value for name, value in values.items()}
    return figures


def main():
    options = parse()
    lan = Lan(options.rate) if options.netns or options.rate else None
    place = Place(lan, HOSTS)
    about = machine()
    wanted = cases(options)
    rounds = {name: [] for name in wanted}
    print(f"{about['cpus']} x {about['cpu']}, Linux {about['kernel']}, load "
          f"{about['load_before']:.1f}; link {options.rate or ('veth' if lan else 'loopback')}; "
          f"{options.rounds} rounds in turn, medians", flush=True)
    for number in range(options.rounds):
        for name, arguments in wanted.items():
            rounds[name].append(run_pair(options.program, arguments, place))
        print(f"  round {number + 1} of {options.rounds} done", flush=True)
    figures = {name: [figures_of(ran) for ran in runs] for name, runs in rounds.items()}
    ratios = tables.ratios(figures)
    tables.show(figures, ratios)
    if options.json:
        said = {name: str(value) if isinstance(value, pathlib.Path) else value
                for name, value in vars(options).items()}
        options.json.write_text(json.dumps({"machine": about, "options": said, "rounds": rounds,
                                            "medians": tables.medians(figures), "ratios": ratios}, indent=1))
    if lan:
        lan.close()
    return 0


if __name__ == "__main__":
    if "--netns" in sys.argv or any(word.startswith("--rate") for word in sys.argv):
        sys.exit(isolate.run_isolated(main))
    sys.exit(main())

"""A big guest that is mostly untouched against a small one: both have touched the same.

The guest's kernel is told (mem=) that it has one GiB either way, so that its own page array and
free lists are alike; the rest of a bigger one's memory was never touched by anybody. Faultline
alone: QEMU's own post-copy allocates the whole of a shared RAM file on both sides, and few machines
have room for 16 GiB twice; --only stock asks for it.
"""

import scenarios
from link import Link
from measure import measure
from movers import Faultline, Stock
from rig.process import run

TOUCHED_MIB = 64
SIZES_MIB = {"1 GiB": 1024, "16 GiB": 16384}


def compare(name, options):
    """All rounds, as run.compare gives them; the small guest takes the place of the first mover."""
    rate = scenarios.LINKS[name.rsplit("-", 1)[1]]
    mover = Stock() if options.only == "stock" else Faultline("faultline", options.build)
    words = f"mem=1024M fl.mib={TOUCHED_MIB}"
    rounds = {}
    # Ours alone (isolate.py). Both RAM files must fit by their size, though they stay mostly holes.
    run("mount", "-o", f"remount,size={2 * max(SIZES_MIB.values()) + 1024}m", "/dev/shm")
    link = Link(rate)
    try:
        for number in range(options.rounds):
            for label, mib in SIZES_MIB.items():
                scenario = scenarios.Scenario(name, mib, TOUCHED_MIB, words, 1, rate)
                figures, _ = measure(scenario, mover, link, options)
                rounds.setdefault(label, []).append(figures)
                print(f"  round {number + 1} {label}: total ms {figures['total_ms']:.0f}, "
                      f"allocated MiB {figures['allocated_source_mib']:.0f} and "
                      f"{figures['allocated_destination_mib']:.0f}", flush=True)
    finally:
        link.close()
    return {"rounds": rounds, "speeds": {}}

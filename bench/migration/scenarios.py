"""What is measured: guest programs, links, and their products by name (uniform-1gbit)."""

import dataclasses
import fnmatch

LINKS = {"unshaped": None, "100mbit": "100mbit", "1gbit": "1gbit", "10gbit": "10gbit"}  # rates as tc says them


@dataclasses.dataclass(frozen=True)
class Program:
    """What the guest does. words: its kernel command line; cpus: vCPUs."""

    words: str
    cpus: int = 1


# Two vCPUs for four threads: this is made for hosts of two cores, which more vCPUs under TCG would
# only make wait for each other before anything is migrated. There a thread that waits for its turn
# on a vCPU also counts as stalled, before the move as after it.
PROGRAMS = {
    "uniform": Program("fl.pattern=uniform"),
    "zipf": Program("fl.pattern=zipf"),
    "hotset": Program("fl.pattern=hotset fl.hot=32"),
    "scan": Program("fl.pattern=scan"),
    "writeheavy": Program("fl.pattern=writeheavy"),
    "writelight": Program("fl.pattern=zipf fl.writes_permille=10"),
    "readmostly": Program("fl.pattern=uniform fl.writes_permille=1"),
    "threads": Program("fl.pattern=uniform fl.threads=4", cpus=2),
    "sqlite": Program("fl.pattern=sqlite"),
    "compressible": Program("fl.pattern=uniform fl.fill=compressible"),
}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One guest on one link. `rate` is None where the link is unshaped."""

    name: str
    mib: int      # guest RAM
    touched: int  # MiB of it that the program works on
    words: str
    cpus: int
    rate: str


def names():
    """Every scenario's name; "sparse-LINK" is run by sparse.py."""
    return [f"{program}-{link}" for program in (*PROGRAMS, "sparse") for link in LINKS]


def pick(wanted):
    """The names that a list of names and patterns (*-1gbit) stands for, in its order."""
    found = []
    for word in wanted.split(","):
        matching = fnmatch.filter(names(), word)
        if not matching:
            raise SystemExit(f"no scenario {word!r}; there are: {', '.join(names())}")
        found += [name for name in matching if name not in found]
    return found


def make(name, mib, touched, cpus=None):
    """The Scenario of that name; cpus overrides the program's own number."""
    program_name, link = name.rsplit("-", 1)
    program = PROGRAMS[program_name]
    return Scenario(name, mib, touched, f"fl.mib={touched} {program.words}", cpus or program.cpus,
                    LINKS[link])

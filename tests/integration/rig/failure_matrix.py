"""Every event at every phase: whose the VM is in the end, how both commands ended, and what an operator
had to do. docs/failures.md has this table (this file, run, prints it), lint compares the two, and
test_matrix.py makes a test of each cell.

A cell is "OWNER MIGRATE RECEIVE[: STEP, STEP]": exit statuses of the two commands that were under way,
"-" for one that was killed, and the operator's steps in order; "CELL or CELL" where it depends on who
is quicker. OWNER "lost": the VM died with the QEMU or the host that had it, or had what it needs.
"""

PHASES = {
    "P": "preparing (before Accepted)", "F": "frozen (before DeviceStateEnd)",
    "D": "in doubt (before Loaded)", "C": "committed (before Commit)", "M": "post-copy",
    "E": "all has arrived (before Completed)"}

MATRIX = {
    "`migrate` is killed": (
        "source - 1", "source - 1", "source - -: end receive",
        "destination - 0: migrate --resume", "destination - 0: migrate --resume",
        "destination - 0: migrate --resume"),
    "`receive` is killed": (
        "source 1 -", "source 1 -", "source 1 -", "destination 0 -: receive --resume",
        "destination 0 -: receive --resume", "destination 0 -: receive --resume"),
    "both commands are killed": (
        "source - -", "source - -", "source - -",
        "destination - -: migrate --resume, receive --resume",
        "destination - -: migrate --resume, receive --resume",
        "destination - -: migrate --resume, receive --resume"),
    "`migrate`'s guardian is killed": (
        "source 1 1", "source 1 1", "source 1 1", "destination 0 0", "destination 0 0",
        "destination 0 0"),
    "`receive`'s guardian is killed": (
        "destination 0 0", "destination 0 0", "destination 0 0", "destination 0 0",
        "destination 0 0", "destination 0 0"),
    "source's QEMU is killed": (
        "lost 1 1", "destination 0 0", "destination 0 0", "destination 0 0", "destination 0 0",
        "destination 0 0"),
    "destination's QEMU is killed": (
        "source 1 1", "source 1 1", "source 3 3: reclaim", "source 3 3: reclaim",
        "source 3 3: reclaim", "lost 0 0"),
    "source's host reboots": (
        "lost - 1", "lost - 1", "lost - -: end receive", "lost - -: abandon",
        "lost - -: abandon", "destination - 0"),
    "destination's host reboots": (
        "source 1 -", "source 1 -", "source 1 -", "source - -: reclaim", "source - -: reclaim",
        "source - -: reclaim"),
    "connections are reset": (
        "source 1 1", "source 1 1", "source 1 1", "destination 0 0", "destination 0 0",
        "destination 0 0"),
    "link is down for 8 s": (
        "source 1 1", "source 1 1", "source 1 1", "destination 0 0", "destination 0 0",
        "destination 0 0"),
    "link is silent for 7 s": (
        "destination 0 0", "source 1 1", "source 1 1", "destination 0 0", "destination 0 0",
        "destination 0 0"),
    "connections are half-open": (
        "source 1 1", "source 1 1", "source 1 1", "destination 0 0", "destination 0 0",
        "destination 0 0"),
    "source's monitor hangs up": (
        "source 1 1", "destination 0 0", "destination 0 0", "destination 0 0", "destination 0 0",
        "destination 0 0"),
    "destination's monitor hangs up": (
        "source 1 1", "source 1 1 or destination 0 0", "destination 0 0", "destination 0 0",
        "destination 0 0", "destination 0 0"),
    "source's QEMU answers nothing for 3 s": (
        "destination 0 0", "destination 0 0", "destination 0 0", "destination 0 0",
        "destination 0 0", "destination 0 0"),
    "destination's QEMU answers nothing for 3 s": (
        "destination 0 0", "destination 0 0", "destination 0 0", "destination 0 0",
        "destination 0 0", "destination 0 0"),
    "no room for the source's journal": (
        "destination 0 0", "destination 0 0", "destination 0 0", "destination 0 0",
        "destination 0 0", "destination 0 0"),
    "no room for the destination's journal": (
        "destination 0 0", "destination 0 0", "destination 0 0", "destination 0 0",
        "destination 0 0", "destination 0 0"),
    "no memory on the destination for 3 s": (
        "destination 0 0", "destination 0 0", "destination 0 0", "destination 0 0",
        "destination 0 0", "destination 0 0"),
    "both clocks jump a year ahead, then back by two": (
        "destination 0 0", "destination 0 0", "destination 0 0", "destination 0 0",
        "destination 0 0", "destination 0 0"),
}


def cell(event, phase):
    return MATRIX[event][list(PHASES).index(phase)]


def table():
    """The lines of the table in docs/failures.md."""
    yield "| event | " + " | ".join(PHASES) + " |"
    yield "|---" * (len(PHASES) + 1) + "|"
    for event, cells in MATRIX.items():
        yield f"| {event} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print("\n".join(table()))

"""What rounds before the switch have to reach, judged on the medians that were measured.

A bar holds a figure of one mover, itself or as a ratio to another mover's, against a limit, for
each guest that it speaks of. All of it at 1 Gbit/s, where memory takes seconds to travel.
"""

import dataclasses

LINK = "1gbit"
SCENARIOS = [f"{program}-{LINK}" for program in ("zipf", "writelight", "writeheavy", "readmostly")]
MOVERS = ["stock", "stock-precopy", "stock-switch", "faultline", "hybrid", "precopy",
          "copy"]


@dataclasses.dataclass(frozen=True)
class Bar:
    """reference: whose figure it is divided by, or nobody's. at_least: else at most."""

    what: str
    programs: tuple
    figure: str
    mover: str
    limit: float
    reference: str = ""
    at_least: bool = False


BARS = (
    Bar("work lost, to our post-copy", ("zipf", "writelight"), "work_lost_ms", "hybrid", 0.25,
        "faultline"),
    Bar("bytes on the wire, to the memory", ("writeheavy",), "wire_to_memory", "hybrid", 1.5),
    Bar("work lost, to QEMU's switch", ("writeheavy",), "work_lost_ms", "hybrid", 0.5,
        "stock-switch"),
    Bar("guest's speed while tracked, %", ("zipf", "writelight", "writeheavy"),
        "speed_in_rounds_percent", "hybrid", 95, at_least=True),
    Bar("guest's speed while tracked, %", ("readmostly",), "speed_in_rounds_percent", "precopy", 95,
        at_least=True),
    Bar("the same, to that beside a plain copy", ("zipf", "writelight", "writeheavy"),
        "speed_in_rounds_percent", "hybrid", 0.95, "copy", at_least=True),
    Bar("blackout, to our post-copy", ("zipf", "writelight", "writeheavy"), "blackout_ms", "hybrid",
        1.2, "faultline"),
    Bar("blackout, to QEMU's pre-copy", ("readmostly",), "blackout_ms", "precopy", 1.0,
        "stock-precopy"),
    Bar("total, to QEMU's pre-copy", ("readmostly",), "total_ms", "precopy", 0.8, "stock-precopy"),
)
FIRST_WRITE = Bar("first write to a protected page, to a bare loop's", (), "ratio_to_bare", "", 1.25)


def verdict(bar, guest, value, of=None):
    """One row: what was found against what it has to be; no value: nobody could tell."""
    kept = value is not None and (value >= bar.limit if bar.at_least else value <= bar.limit)
    return {"what": bar.what, "guest": guest, "mover": bar.mover, "value": value, "of": of,
            "limit": bar.limit, "at_least": bar.at_least,
            "verdict": "not measured" if value is None else "kept" if kept else "MISSED"}


def _judge(bar, program, summary):
    """summary: {mover: {figure: {"median"}}} of that guest."""
    def figure(mover):
        return summary.get(mover, {}).get(bar.figure, {}).get("median")
    own = figure(bar.mover)
    if not bar.reference or own is None:
        return verdict(bar, program, own)
    other = figure(bar.reference)
    return verdict(bar, program, own / other if other else None, (own, other))


def judge(summaries, first_write=None):
    """Every bar for every guest that was measured. first_write: what bench/tracking said of it."""
    rows = [_judge(bar, program, summaries[f"{program}-{LINK}"])
            for bar in BARS for program in bar.programs if f"{program}-{LINK}" in summaries]
    if first_write:
        rows.append(verdict(FIRST_WRITE, "", first_write[FIRST_WRITE.figure],
                            (first_write["after_ns"], first_write["bare_ns"])))
    return rows


def table(rows):
    """The rows as rows of text, the headings first."""
    shown = [["bar", "guest", "mover", "found", "", "limit", "verdict"]]
    for row in rows:
        found = "" if row["value"] is None else f"{row['value']:.2f}"
        of = "" if row["of"] is None else " : ".join(
            "-" if part is None else f"{part:.4g}" for part in row["of"])
        limit = f"{'>=' if row['at_least'] else '<='} {row['limit']:g}"
        shown.append([row["what"], row["guest"], row["mover"], found, of, limit, row["verdict"]])
    return shown

"""Figures as a table for people and as one JSON file for programs."""

import json
import os
import platform
import statistics
import subprocess

MEASURES = (  # name in the JSON, heading, format; the order of the table
    ("total_ms", "total ms", "{:.0f}"),
    ("attempt_ms", "VM not moved, ended after ms", "{:.0f}"),
    ("attempt_work_lost_ms", "  work lost in that, ms", "{:.0f}"),
    ("attempt_wire_mib", "  MiB on the wire in that", "{:.1f}"),
    ("broken", "failed, or the guest never came back", "{:.0f}"),
    ("blackout_ms", "blackout ms (guest's clock)", "{:.2f}"),
    ("blackout_qmp_ms", "blackout ms (QEMU's events)", "{:.2f}"),
    ("settle_ms", "  naming what is dirty, ms", "{:.2f}"),
    ("work_lost_ms", "work lost, ms of full speed", "{:.0f}"),
    ("speed_in_rounds_percent", "speed before the stop %", "{:.1f}"),
    ("passes", "rounds before the switch", "{:.0f}"),
    ("ops_100ms", "operations / 100 ms, missing", "{:.0f}"),
    ("ops_100ms_before", "operations / 100 ms, before", "{:.0f}"),
    ("worst_stall_ms", "worst stall ms", "{:.2f}"),
    ("worst_stall_before_ms", "worst stall ms, before", "{:.2f}"),
    ("p99_stall_ms", "p99 stall ms", "{:.3f}"),
    ("p50_stall_ms", "p50 stall ms", "{:.3f}"),
    ("stalls", "stalls", "{:.0f}"),
    ("fault_p50_us", "engine's p50 of a fault us", "{:.0f}"),
    ("fault_p99_us", "engine's p99 of a fault us", "{:.0f}"),
    ("to_90_ms", "time to 90% speed ms", "{:.0f}"),
    ("speed_after_percent", "speed after %", "{:.1f}"),
    ("wire_mib", "MiB on the wire", "{:.1f}"),
    ("wire_to_memory", "wire / allocated before", "{:.2f}"),
    ("wire_mib_s", "MiB/s", "{:.0f}"),
    ("line_percent", "line used %", "{:.1f}"),
    ("cpu_source_engine_s", "source CPU s: engine", "{:.3f}"),
    ("cpu_source_qemu_s", "source CPU s: QEMU, no vCPU", "{:.3f}"),
    ("cpu_source_s_gib", "source CPU s / GiB", "{:.3f}"),
    ("cpu_destination_engine_s", "dest. CPU s: engine", "{:.3f}"),
    ("cpu_destination_qemu_s", "dest. CPU s: QEMU, no vCPU", "{:.3f}"),
    ("cpu_destination_vcpu_s", "dest. CPU s: vCPUs", "{:.3f}"),
    ("cpu_destination_s_gib", "dest. CPU s / GiB", "{:.3f}"),
    ("elsewhere_cpu_s", "rest of the machine, CPU s", "{:.2f}"),
    ("allocated_before_mib", "allocated before, MiB", "{:.1f}"),
    ("allocated_source_mib", "allocated source, MiB", "{:.1f}"),
    ("allocated_destination_mib", "allocated destination, MiB", "{:.1f}"),
    ("wrong", "wrong reads and pages", "{:.0f}"),
)


def machine(qemu):
    """What the figures were taken on."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if "model name" in line), "?")
    version = subprocess.run([qemu, "--version"], capture_output=True, text=True).stdout
    return {"cpus": os.cpu_count(), "cpu": model, "kernel": platform.release(),
            "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
            "qemu": version.splitlines()[0]}


def announce(options):
    """Says what the figures that follow were taken on."""
    about = machine(options.qemu)
    print(f"{about['cpus']} x {about['cpu']}, Linux {about['kernel']}, {about['qemu']}; "
          f"rounds: {options.rounds}")


def load(path):
    """The results that `save` left, {} if there are none."""
    if not path.exists():
        return {}
    return {name: {"rounds": result["rounds"], "speeds": result["speeds"]}
            for name, result in json.loads(path.read_text())["scenarios"].items()}


def joined(before, result):
    """The rounds of both, mover by mover. before: None if there are none."""
    if before is None:
        return result
    for kind, by_mover in result.items():
        for mover, found in by_mover.items():
            before[kind][mover] = before[kind].get(mover, []) + found
    return before


def medians(rounds):
    """{mover: {measure: {"median", "min", "max", "count"}}} of {mover: [figures of each round]}."""
    result = {}
    for mover, figures in rounds.items():
        result[mover] = {}
        for name, _, _ in MEASURES:
            values = [one[name] for one in figures if name in one]
            if values:
                result[mover][name] = {"median": statistics.median(values), "min": min(values),
                                       "max": max(values), "count": len(values)}
    return result


def line(figures):
    """One round in a line."""
    shown = ("total_ms", "attempt_ms", "broken", "blackout_ms", "work_lost_ms", "speed_in_rounds_percent",
             "ops_100ms", "worst_stall_ms", "wire_mib", "wrong")
    return ", ".join(f"{heading} {form.format(figures[name])}"
                     for name, heading, form in MEASURES if name in shown and name in figures)


def cell(one, form, rounds):
    """A measure of a mover; says in how many rounds there was any, if not in all of them."""
    if one is None:
        return ""
    some = f" in {one['count']} of {rounds}" if one["count"] < rounds else ""
    return (f"{form.format(one['median'])} ({form.format(one['min'])}.."
            f"{form.format(one['max'])}){some}")


def aligned(rows):
    """Rows of text as columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) if number == 0 else text.rjust(width)
                               for number, (text, width) in enumerate(zip(row, widths)))
                     for row in rows)


def table(rounds):
    """A table: a row for each measure, a column for each mover, ratios to the first one."""
    summary = medians(rounds)
    movers = list(rounds)
    rows = [["median (min..max)", *movers, *(f"{mover}/{movers[0]}" for mover in movers[1:])]]
    for name, heading, form in MEASURES:
        if not any(name in summary[mover] for mover in movers):
            continue
        row = [heading, *(cell(summary[mover].get(name), form, len(rounds[mover]))
                          for mover in movers)]
        first = summary[movers[0]].get(name, {}).get("median")
        for mover in movers[1:]:
            other = summary[mover].get(name, {}).get("median")
            row.append(f"{other / first:.2f}" if first and other is not None else "")
        rows.append(row)
    return aligned(rows)


def save(path, about, options, results, **more):
    """Writes everything: the machine, the options, each scenario's medians, rounds and speeds."""
    scenarios = {name: {"summary": medians(result["rounds"]), **result}
                 for name, result in results.items()}
    path.write_text(json.dumps({"machine": about, "options": options, "scenarios": scenarios,
                                **more}, indent=1))

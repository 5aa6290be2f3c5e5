"""What a run's figures come to: ratios to the floors, and tables for people."""

import statistics

STAGES = ("touched_to_read", "read_to_sent", "sent_to_answered", "answered_to_installed",
          "installed_to_woken")


def _quotients(rounds):
    """(what, engine's case, case it is held against, figure of both, bar)."""
    for think in ("", " think"):
        yield (f"idle fault p50{think}", f"engine idle{think}", f"floor 1{think}", "touch_p50_us",
               1.25)
        yield (f"idle fault p50 polling{think}", f"engine idle{think} polling",
               f"floor 1b{think}", "touch_p50_us", 1.25)
        yield (f"fault p99 under push{think}", f"engine push{think}", f"engine idle{think}",
               "touch_p99_us", 3)
        yield (f"fault p99 under push{think}", f"engine push{think}", f"floor 4 push{think}",
               "touch_p99_us", None)
    for names, bar in ((("floor 2 bulk", "floor 3 bulk"), 0.9), (("floor 2c bulk",), None)):
        floors = [case for case in rounds if case.startswith(names)]
        if floors:
            best = max(floors, key=lambda case: _median(rounds[case], "bytes_per_second"))
            yield "bulk bytes a second", "engine bulk", best, "bytes_per_second", bar
    yield "source CPU s a GiB", "engine bulk", "", "source_cpu_s_per_gib", 0.5
    yield "bulk bytes a second, checked", "engine bulk checked", "engine bulk", "bytes_per_second", 0.97
    yield "idle fault p50, checked", "engine idle checked", "engine idle", "touch_p50_us", 1.03
    for name in ("source_cpu_s_per_gib", "destination_cpu_s_per_gib"):
        yield f"{name}, checked", "engine bulk checked", "engine bulk", name, None


def _median(runs, name):
    return statistics.median(run[name] for run in runs)


def medians(rounds):
    """The median of every figure of every case; rounds: case -> one dict of figures a round."""
    return {case: {name: _median(runs, name) for name in runs[0]} for case, runs in rounds.items()}


def ratios(rounds):
    """What the engine reaches: ratios of medians, and the least and most within one round.

    A bar of throughput is a least, every other one a most; None: for comparison only.
    """
    result = []
    for what, case, against, name, bar in _quotients(rounds):
        if case not in rounds or (against and against not in rounds):
            continue
        values = [run[name] for run in rounds[case]]
        floors = [run[name] for run in rounds[against]] if against else [1] * len(values)
        each = [value / floor for value, floor in zip(values, floors)]
        ratio = statistics.median(values) / statistics.median(floors)
        good = bar is None or (ratio >= bar if "bytes" in what else ratio <= bar)
        result.append({"what": what, "value": statistics.median(values), "against": against,
                       "floor": statistics.median(floors), "ratio": ratio, "least": min(each),
                       "most": max(each), "bar": bar, "reached": good})
    return result


def _row(cells, widths):
    print("".join(f"{cell:>{width}}" if index else f"{cell:{width}}"
                  for index, (cell, width) in enumerate(zip(cells, widths))))


def _show_touches(figures):
    widths = (27, 9, 9, 9, 9, 10, 9, 11)
    _row(("a touch, us", "p50", "p90", "p99", "p99.9", "max", "touches", "faults/s"), widths)
    for case, values in figures.items():
        if "touch_p50_us" not in values:
            continue
        times = [f"{values[f'touch_{name}_us']:.1f}" for name in ("p50", "p90", "p99", "p999",
                                                                   "max")]
        _row((case, *times, f"{values['touch_count']:.0f}", f"{values['faults_per_second']:.0f}"),
             widths)


def _show_stages(figures):
    widths = (27, *[24] * len(STAGES))
    _row(("stages, us: p50 / p99", *(stage.replace("_", " ") for stage in STAGES)), widths)
    for case, values in figures.items():
        if f"{STAGES[0]}_p50_us" not in values:
            continue
        _row((case, *(f"{values[f'{stage}_p50_us']:.1f} / {values[f'{stage}_p99_us']:.1f}"
                      for stage in STAGES)), widths)


def _show_bulk(figures):
    widths = (27, 9, 24, 24)
    _row(("everything", "GB/s", "source CPU s/GiB", "destination CPU s/GiB"), widths)
    for case, values in figures.items():
        if "bulk" in case or "push" in case:
            _row((case, f"{values['bytes_per_second'] / 1e9:.2f}",
                  f"{values['source_cpu_s_per_gib']:.2f}",
                  f"{values['destination_cpu_s_per_gib']:.2f}"), widths)


def show(rounds, reached):
    for table in (_show_touches, _show_stages, _show_bulk):
        print()
        table(medians(rounds))
    print()
    widths = (30, 12, 24, 12, 8, 16, 8, 6)
    _row(("the engine", "value", "against", "its value", "ratio", "in a round", "bar", ""), widths)
    for row in reached:
        _row((row["what"], f"{row['value']:.4g}", row["against"], f"{row['floor']:.4g}",
              f"{row['ratio']:.2f}", f"{row['least']:.2f} - {row['most']:.2f}", row["bar"] or "", "" if row["reached"] else "no"), widths)

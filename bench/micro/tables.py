"""What a run's figures come to: ratios to the floors, and tables for people."""

STAGES = ("touched_to_read", "read_to_sent", "sent_to_answered", "answered_to_installed",
          "installed_to_woken")


def _quotients(medians):
    """(what, case, its figure, value, case it is held against, its value, bar) where both ran."""
    def figure(case, name):
        return medians.get(case, {}).get(name)

    for think in ("", " think"):
        yield (f"idle fault p50{think}", figure(f"engine idle{think}", "touch_p50_us"),
               f"floor 1{think}", figure(f"floor 1{think}", "touch_p50_us"), 1.25)
        yield (f"idle fault p50 polling{think}",
               figure(f"engine idle{think} polling", "touch_p50_us"), f"floor 1b{think}",
               figure(f"floor 1b{think}", "touch_p50_us"), 1.25)
        yield (f"fault p99 under push{think}", figure(f"engine push{think}", "touch_p99_us"),
               f"engine idle{think}", figure(f"engine idle{think}", "touch_p99_us"), 3)
    floors = {case: values["bytes_per_second"] for case, values in medians.items()
              if case.startswith(("floor 2 bulk", "floor 3 bulk"))}
    best = max(floors, key=floors.get) if floors else None
    yield ("bulk bytes a second", figure("engine bulk", "bytes_per_second"), best,
           floors.get(best), 0.9)
    yield ("source CPU s a GiB", figure("engine bulk", "source_cpu_s_per_gib"), "1", 1, 0.5)


def ratios(medians):
    """What the engine reaches; a bar of throughput is a least, every other one a most."""
    result = []
    for what, value, against, floor, bar in _quotients(medians):
        if value is None or floor is None:
            continue
        ratio = value / floor
        good = ratio >= bar if "bytes" in what else ratio <= bar
        result.append({"what": what, "value": value, "against": against, "floor": floor,
                       "ratio": ratio, "bar": bar, "reached": good})
    return result


def _row(cells, widths):
    print("".join(f"{cell:>{width}}" if index else f"{cell:{width}}"
                  for index, (cell, width) in enumerate(zip(cells, widths))))


def _show_touches(medians):
    widths = (27, 9, 9, 9, 9, 10, 9, 11)
    _row(("a touch, us", "p50", "p90", "p99", "p99.9", "max", "touches", "faults/s"), widths)
    for case, values in medians.items():
        if "touch_p50_us" not in values:
            continue
        times = [f"{values[f'touch_{name}_us']:.1f}" for name in ("p50", "p90", "p99", "p999",
                                                                   "max")]
        _row((case, *times, f"{values['touch_count']:.0f}", f"{values['faults_per_second']:.0f}"),
             widths)


def _show_stages(medians):
    widths = (27, *[24] * len(STAGES))
    _row(("stages, us: p50 / p99", *(stage.replace("_", " ") for stage in STAGES)), widths)
    for case, values in medians.items():
        if f"{STAGES[0]}_p50_us" not in values:
            continue
        _row((case, *(f"{values[f'{stage}_p50_us']:.1f} / {values[f'{stage}_p99_us']:.1f}"
                      for stage in STAGES)), widths)


def _show_bulk(medians):
    widths = (27, 9, 24, 24)
    _row(("everything", "GB/s", "source CPU s/GiB", "destination CPU s/GiB"), widths)
    for case, values in medians.items():
        if "bulk" in case or "push" in case:
            _row((case, f"{values['bytes_per_second'] / 1e9:.2f}",
                  f"{values['source_cpu_s_per_gib']:.2f}",
                  f"{values['destination_cpu_s_per_gib']:.2f}"), widths)


def show(medians, reached):
    for table in (_show_touches, _show_stages, _show_bulk):
        print()
        table(medians)
    print()
    widths = (30, 12, 24, 12, 8, 8, 6)
    _row(("the engine", "value", "against", "its value", "ratio", "bar", ""), widths)
    for row in reached:
        _row((row["what"], f"{row['value']:.4g}", row["against"], f"{row['floor']:.4g}",
              f"{row['ratio']:.2f}", row["bar"], "" if row["reached"] else "no"), widths)

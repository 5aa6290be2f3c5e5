#!/usr/bin/env python3
"""Plots of faultline-bench's lines: latency, throughput and the guest's speed, each as an SVG.

    bench/experiments/plot.py destination.jsonl --x threads --series push_order --out plots

FILES hold what destinations printed; lines of other kinds are passed over. --x is the parameter on
the axis, --series the one that makes a line of its own for each of its values; left out, they are
taken from what the sweep varied. Where more than these varied, --where NAME=VALUE picks points. A
value is the median over the repeats, the band goes from the least to the most.
"""

import argparse
import json
import pathlib
import statistics
import sys

COLOURS = ("#1d4ed8", "#c2410c", "#15803d", "#7e22ce", "#b45309", "#0e7490", "#be185d", "#4d7c0f")


def read(paths):
    """The results of destinations in these files, in their order."""
    results = []
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            try:
                value = json.loads(line)
            except ValueError:
                raise SystemExit(f"{path}:{number}: this is no JSON line of faultline-bench")
            if isinstance(value, dict) and value.get("side") == "destination":
                results.append(value)
    if not results:
        raise SystemExit(f"no result of a destination in {', '.join(map(str, paths))}")
    return results


def text_of(value):
    return value if isinstance(value, str) else json.dumps(value)


def varied(results):
    """The parameters that have more than one value, in their order."""
    return [name for name in results[0]["parameters"]
            if len({text_of(result["parameters"][name]) for result in results}) > 1]


def pick(results, conditions):
    """The results whose parameters have these values: {name: text}."""
    for name in conditions:
        if name not in results[0]["parameters"]:
            raise SystemExit(f"--where {name}: there is no such parameter; there are: "
                             f"{', '.join(results[0]['parameters'])}")
    picked = [result for result in results
              if all(text_of(result["parameters"][name]) == value
                     for name, value in conditions.items())]
    if not picked:
        raise SystemExit("--where: no result is left")
    return picked


def axes_for(results, x, series):
    """Which parameters are on the axis and in the lines (the second may be None)."""
    names = varied(results)
    for option, name in (("--x", x), ("--series", series)):
        if name is not None and name not in results[0]["parameters"]:
            raise SystemExit(f"{option} {name}: there is no such parameter; there are: "
                             f"{', '.join(results[0]['parameters'])}")
    free = [name for name in names if name not in (x, series)]
    if x is None:
        x = free.pop(0) if free else "threads"
    if series is None and free:
        series = free.pop(0)
    if free:
        raise SystemExit(f"these vary as well: {', '.join(free)}; choose points with "
                         f"--where NAME=VALUE, or other parameters with --x and --series")
    return x, series


def grouped(results, x, series):
    """{value of series: {value of x: [results]}}, in the order of the results."""
    groups = {}
    for result in results:
        parameters = result["parameters"]
        line = text_of(parameters[series]) if series else ""
        groups.setdefault(line, {}).setdefault(text_of(parameters[x]), []).append(result)
    return groups


def latency_us(quantile):
    """Nothing where no touch waited."""
    return lambda result: (result["touch_waited"][quantile] if result["touch_waited"]["count"]
                           else None)


def moved_mb_per_second(result):
    moved = (result["pages_demand"] + result["pages_pushed"]) * 4096
    return moved / result["total_us"]


def speed(when):
    return lambda result: result[f"guest_operations_per_100_ms_{when}"]


# File: (title, [(figure's name, value of a result)]).
CURVES = {
    "latency": ("touches that waited for their page, us",
                [("p50", latency_us("p50_us")), ("p99", latency_us("p99_us"))]),
    "throughput": ("memory moved, MB/s from the handover to the last page",
                   [("moved", moved_mb_per_second)]),
    "operations": ("guest operations in 100 ms",
                   [("while memory is missing", speed("missing")), ("after", speed("after"))]),
}


def curve(by_x, value_of):
    """[(text of x, median, least, most)]; a point without a value is left out."""
    points = []
    for text, results in by_x.items():
        values = [value for value in map(value_of, results) if value is not None]
        if values:
            points.append((text, statistics.median(values), min(values), max(values)))
    return points


def places(texts):
    """Where the values of x go on the axis: as numbers if all are, else side by side."""
    try:
        return {text: float(text) for text in texts}, False
    except ValueError:
        return {text: place for place, text in enumerate(texts)}, True


def _label(series, line, figure):
    return f"{series} {line}, {figure}" if series else figure


def draw_curves(axes, groups, x, series, title, figures):
    texts = list(dict.fromkeys(text for by_x in groups.values() for text in by_x))
    place, are_names = places(texts)
    for colour, (line, by_x) in zip(COLOURS * len(groups), groups.items()):
        for style, (figure, value_of) in zip(("-", "--"), figures):
            points = sorted((place[text], *rest) for text, *rest in curve(by_x, value_of))
            if not points:
                continue
            at, middle, least, most = zip(*points)
            axes.plot(at, middle, style, marker="o", color=colour,
                      label=_label(series, line, figure))
            axes.fill_between(at, least, most, color=colour, alpha=0.12, linewidth=0)
    if are_names:
        axes.set_xticks(list(place.values()), list(place))
    axes.set_xlabel(x)
    axes.set_title(title)
    if title == CURVES["latency"][0]:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.legend()


def draw_speed(axes, groups, x, series):
    """The repeat of median total time of every point; dotted: its last page."""
    colours = iter(COLOURS * 100)
    for line, by_x in groups.items():
        for text, results in by_x.items():
            colour = next(colours)
            middle = statistics.median_low([result["total_us"] for result in results])
            result = next(result for result in results if result["total_us"] == middle)
            bins = result["guest_operations_per_10_ms"]
            axes.plot([(place + 0.5) / 100 for place in range(len(bins))], bins, color=colour,
                      linewidth=1, label=_label(series, line, f"{x} {text}"))
            axes.axvline(middle / 1e6, color=colour, linestyle=":", linewidth=1)
    axes.set_xlabel("seconds since the guest runs here (dotted: the last page)")
    axes.set_title("guest operations in 10 ms")
    axes.set_ylim(bottom=0)
    axes.legend()


def save_all(groups, x, series, out):
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("matplotlib is missing: apt install python3-matplotlib")
    matplotlib.use("svg")
    from matplotlib import pyplot
    out.mkdir(parents=True, exist_ok=True)
    for name in (*CURVES, "speed"):
        figure, axes = pyplot.subplots(figsize=(9, 5))
        if name == "speed":
            draw_speed(axes, groups, x, series)
        else:
            draw_curves(axes, groups, x, series, *CURVES[name])
        axes.grid(alpha=0.25)
        figure.tight_layout()
        figure.savefig(out / f"{name}.svg")
        pyplot.close(figure)
        print(out / f"{name}.svg")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path, metavar="FILES")
    parser.add_argument("--x", help="parameter on the axis")
    parser.add_argument("--series", help="parameter with a line for each of its values")
    parser.add_argument("--where", action="append", default=[], metavar="NAME=VALUE",
                        help="only points with this value of a parameter")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("plots"))
    options = parser.parse_args()
    for condition in options.where:
        if "=" not in condition:
            parser.error(f"--where {condition}: give NAME=VALUE")
    conditions = dict(condition.split("=", 1) for condition in options.where)
    results = pick(read(options.files), conditions)
    x, series = axes_for(results, options.x, options.series)
    save_all(grouped(results, x, series), x, series, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The guest's speed over time, every mover in one picture (SVG, by matplotlib)."""

import statistics

COLOURS = ("#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#b45309", "#0e7490")


def _median_round(rounds):
    """Which round's total time is the middle one."""
    totals = [figures["total_ms"] for figures in rounds]
    middle = statistics.median_low(totals)
    return totals.index(middle)


def save(path, title, result):
    """Draws the round of median total time boldly, the others faintly; a dot at the last page."""
    try:
        import matplotlib
    except ImportError:
        print(f"no {path.name}: python3-matplotlib is not installed (./dev bench installs it)")
        return
    matplotlib.use("svg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(9, 4.5))
    for colour, (mover, rounds) in zip(COLOURS, result["rounds"].items()):
        bold = _median_round(rounds)
        for number, speeds in enumerate(result["speeds"][mover]):
            axes.plot([time_s for time_s, _ in speeds], [100 * share for _, share in speeds],
                      color=colour, linewidth=1.6 if number == bold else 0.6,
                      alpha=1.0 if number == bold else 0.3, label=mover if number == bold else None)
        axes.axvline(rounds[bold]["total_ms"] / 1000, color=colour, linestyle=":", linewidth=1)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("seconds since the command (dotted: the last page)")
    axes.set_ylabel("guest operations, % of the speed before")
    axes.set_ylim(0, 130)
    axes.set_title(title)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)

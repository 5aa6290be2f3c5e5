"""The guest's speed over time, every mover in one picture (SVG, by matplotlib)."""

import statistics

COLOURS = ("#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#b45309", "#0e7490")


def _total_ms(figures):
    """Until the last page, or until it was cancelled; 0 for what broke."""
    return figures.get("total_ms", figures.get("attempt_ms", 0))


def _median_round(rounds):
    """Which round's total time is the middle one."""
    totals = [_total_ms(figures) for figures in rounds]
    middle = statistics.median_low(totals)
    return totals.index(middle)


def _draw(axes, result):
    for colour, (mover, rounds) in zip(COLOURS, result["rounds"].items()):
        bold = _median_round(rounds)
        for number, speeds in enumerate(result["speeds"][mover]):
            axes.plot([time_s for time_s, _ in speeds], [100 * share for _, share in speeds],
                      color=colour, linewidth=1.6 if number == bold else 0.6,
                      alpha=1.0 if number == bold else 0.3, label=mover if number == bold else None)
        axes.axvline(_total_ms(rounds[bold]) / 1000, color=colour, linestyle=":", linewidth=1)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(alpha=0.25)


def save(path, title, result):
    """Draws the round of median total time boldly, the others faintly; dotted: the last page.

    Above on an even scale, below on a logarithmic one, where little work can be told from none.
    """
    try:
        import matplotlib
    except ImportError:
        print(f"no {path.name}: python3-matplotlib is not installed (./dev bench installs it)")
        return
    matplotlib.use("svg")
    from matplotlib import pyplot
    figure, (even, logarithmic) = pyplot.subplots(2, 1, sharex=True, figsize=(9, 7))
    for axes in (even, logarithmic):
        _draw(axes, result)
    even.set_ylim(0, 130)
    logarithmic.set_yscale("log")
    logarithmic.set_ylim(0.01, 200)
    even.set_title(f"{title}: guest operations, % of the speed before")
    even.legend(loc="lower right")
    logarithmic.set_xlabel("seconds since the command (dotted: the last page)")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)

"""From the guest's own time stamps to figures.

The guest's clock stands still while the VM is stopped, and runs at its own pace otherwise. Its
ticks pair it with the host's: a line can only be late, so the least difference between the two
clocks among many ticks is the true one, and with that the pace is fitted. After that every tick's
own time stamp tells when, in host time, the guest had done how many operations: how late the line
came does not matter, and a window that a stall made longer is known in its full length.
"""

import bisect
import dataclasses
import statistics

from rig.guest import Report

PACE_ERROR_MAX = 0.005
HORIZON_S = 1.0      # work lost is counted until this long after the last page
BEFORE_S = 2.0       # the guest's speed before: the median window of this long a time
WINDOW_S = 0.1
ROUNDS_S_MIN = 0.5   # a shorter time before the switch says nothing of the guest's speed in it
STALL_US_MIN = 20.0  # and at least five usual operations: shorter ones are no stalls


@dataclasses.dataclass
class Sample:
    """What one migration left behind; times are time.monotonic of the host."""

    source: object       # Serial
    destination: object  # Serial
    begin_s: float
    end_s: float
    stopped_s: float     # when QEMU said that it stopped and that it ran again
    resumed_s: float
    threads: int


@dataclasses.dataclass
class Attempt:
    """What a migration left behind that was cancelled, with the VM at work on the source."""

    source: object  # Serial
    begin_s: float
    end_s: float    # cancelled


def _offset_s(ticks, slope):
    """Host time of the guest's time 0: the least that any of these ticks says."""
    return min(tick.host_s - tick.t_us / 1e6 * slope for tick in ticks)


def clocks(*ticks_of_sides):
    """Host seconds per guest second, and the host time of guest time 0 on each side.

    No tick is early. So of all straight lines below every tick, one for each side with the same
    pace, those are right that lie closest to the ticks altogether. How late single ticks are plays
    no part: only what is touched. The sum of the distances is convex in the pace.
    """
    sides = [(ticks, statistics.fmean(tick.host_s for tick in ticks),
              statistics.fmean(tick.t_us / 1e6 for tick in ticks))
             for ticks in ticks_of_sides]

    def distance(slope):
        return sum(host_s - guest_s * slope - _offset_s(ticks, slope)
                   for ticks, host_s, guest_s in sides)
    low, high = 1 - PACE_ERROR_MAX, 1 + PACE_ERROR_MAX
    while high - low > 1e-8:
        third = (high - low) / 3
        if distance(low + third) < distance(high - third):
            high -= third
        else:
            low += third
    slope = (low + high) / 2
    return slope, *(_offset_s(ticks, slope) for ticks in ticks_of_sides)


class Timeline:
    """Operations done over host time, both sides in one."""

    def __init__(self, points):
        self._times = [time_s for time_s, _ in points]
        self._ops = [ops for _, ops in points]

    @property
    def end_s(self):
        return self._times[-1]

    def ops(self, at_s):
        """Operations done until then; straight lines between ticks."""
        after = bisect.bisect_right(self._times, at_s)
        if after == 0:
            return self._ops[0]
        if after == len(self._times):
            return self._ops[-1]
        begin_s, end_s = self._times[after - 1], self._times[after]
        share = (at_s - begin_s) / (end_s - begin_s)
        return self._ops[after - 1] + share * (self._ops[after] - self._ops[after - 1])

    def speed(self, begin_s, end_s):
        """Operations a second."""
        return (self.ops(end_s) - self.ops(begin_s)) / (end_s - begin_s)

    def windows(self, begin_s, end_s, step_s):
        """(begin, operations a second) of whole windows."""
        count = int((end_s - begin_s) / step_s + 1e-9)
        starts = [begin_s + number * step_s for number in range(count)]
        return [(start, self.speed(start, start + step_s)) for start in starts]


def align(sample):
    """The Timeline, and the blackout in seconds."""
    moved, arrived = sample.source.ticks, sample.destination.ticks
    slope, source_offset_s, destination_offset_s = clocks(moved, arrived)
    points = [(tick.t_us / 1e6 * slope + source_offset_s, tick.ops) for tick in moved]
    first = arrived[0]
    first_s = first.t_us / 1e6 * slope + destination_offset_s
    # Nothing is done between stop and start: two corners between the last tick and the first.
    last_s, last_ops = points[-1]
    stop_s = max(sample.stopped_s, last_s + 1e-6)
    start_s = stop_s + destination_offset_s - source_offset_s
    if stop_s < start_s < first_s:
        ran_s = stop_s - last_s + first_s - start_s
        at_stop = last_ops + (first.ops - last_ops) * (stop_s - last_s) / ran_s
        points += [(stop_s, at_stop), (start_s, at_stop)]
    points += [(tick.t_us / 1e6 * slope + destination_offset_s, tick.ops) for tick in arrived]
    return Timeline(points), destination_offset_s - source_offset_s


def whole_reports(sample):
    """The destination's reports from the resumption to just behind the last page.

    The switchover may cut a line in two; the halves are put together.
    """
    reports = [report for report in sample.destination.reports
               if report.host_s <= sample.end_s + 2 * WINDOW_S]
    if sample.destination.lines:
        host_s, rest = sample.destination.lines[0]
        text = sample.source.partial + rest
        if text.startswith("FL report ") and not rest.startswith("FL report "):
            try:
                reports.insert(0, Report.of(host_s, text))
            except (TypeError, ValueError):
                pass  # the two halves are no whole
    return reports


def bucket_us(bucket):
    """Where a stall bucket begins (tests/guest/workers.c)."""
    return (8 + bucket % 8) << (bucket // 8)


def percentile_us(stalls, least_us, share):
    """That percentile of the stalls of least_us and more; 0.0 if there are none."""
    counted = sorted((bucket, count) for bucket, count in stalls.items()
                     if bucket_us(bucket) >= least_us)
    wanted = share * sum(count for _, count in counted)
    for bucket, count in counted:
        if count >= wanted:
            begin_us = bucket_us(bucket)
            return begin_us + (bucket_us(bucket + 1) - begin_us) * wanted / count
        wanted -= count
    return 0.0


def stalls_of(reports, rate, threads):
    """Worst, p99 and number of the stalls in some reports."""
    together = {}
    for report in reports:
        for bucket, count in report.stalls.items():
            together[bucket] = together.get(bucket, 0) + count
    least_us = max(STALL_US_MIN, 5e6 * threads / rate)
    worst_us = max((report.worst_us for report in reports), default=0)
    p99_us = percentile_us(together, least_us, 0.99)
    return {"worst_stall_ms": worst_us / 1000, "p99_stall_ms": min(p99_us, worst_us) / 1000,
            "p50_stall_ms": percentile_us(together, least_us, 0.5) / 1000,
            "stalls": sum(count for bucket, count in together.items()
                          if bucket_us(bucket) >= least_us)}


def to_90_ms(timeline, resumed_s, until_s, rate):
    """From the resumption to the first window at 90% speed that is kept up on average."""
    start_s = resumed_s
    while start_s + WINDOW_S <= until_s:
        if (timeline.speed(start_s, start_s + WINDOW_S) >= 0.9 * rate
                and timeline.speed(start_s, until_s) >= 0.9 * rate):
            return (start_s - resumed_s) * 1000
        start_s += 0.01
    return (until_s - resumed_s) * 1000  # not within the horizon


def worst_stall_before_ms(sample):
    """The longest operation in the time before: what the guest's own scheduling makes of it."""
    return max((report.worst_us for report in sample.source.reports
                if sample.begin_s - BEFORE_S <= report.host_s <= sample.begin_s),
               default=0) / 1000


def _rate_before(timeline, begin_s):
    """The guest's full speed, in operations a second."""
    return statistics.median(
        speed for _, speed in timeline.windows(begin_s - BEFORE_S, begin_s, WINDOW_S))


def _lost_ms(timeline, begin_s, until_s, rate):
    done = timeline.ops(until_s) - timeline.ops(begin_s)
    return (until_s - begin_s - done / rate) * 1000


def _speed_in_rounds(timeline, begin_s, stopped_s, rate):
    """The guest's share of its speed from the command to its stop, if that took a while."""
    if stopped_s - begin_s < ROUNDS_S_MIN:
        return {}
    return {"speed_in_rounds_percent": 100 * timeline.speed(begin_s, stopped_s) / rate}


def _shares(timeline, begin_s, until_s, rate):
    """Its speed over time: [s since the command, share of its full speed]."""
    return [[round(start - begin_s, 4), round(speed / rate, 4)]
            for start, speed in timeline.windows(begin_s - 1, until_s, 0.025)]


def guest_figures(sample):
    """Everything that the guest saw, by name, and its speed over time."""
    timeline, blackout_s = align(sample)
    begin_s, end_s, resumed_s = sample.begin_s, sample.end_s, sample.resumed_s
    rate = _rate_before(timeline, begin_s)
    until_s = min(end_s + HORIZON_S, timeline.end_s)
    half_s = max((end_s - resumed_s) / 2, WINDOW_S)
    missing = [speed * WINDOW_S for _, speed in
               timeline.windows(resumed_s, resumed_s + half_s, WINDOW_S)]
    found = {
        "total_ms": (end_s - begin_s) * 1000, "blackout_ms": blackout_s * 1000,
        "blackout_qmp_ms": (resumed_s - sample.stopped_s) * 1000,
        "resumed_ms": (resumed_s - begin_s) * 1000,
        **_speed_in_rounds(timeline, begin_s, sample.stopped_s, rate),
        **stalls_of(whole_reports(sample), rate, sample.threads),
        "worst_stall_before_ms": worst_stall_before_ms(sample),
        "ops_100ms_before": rate * WINDOW_S,
        "work_lost_ms": _lost_ms(timeline, begin_s, until_s, rate),
        "to_90_ms": to_90_ms(timeline, resumed_s, until_s, rate),
        "speed_after_percent": 100 * timeline.speed(end_s + 0.2, until_s) / rate,
        "horizon_ms": (until_s - end_s) * 1000,
    }
    if end_s - resumed_s >= WINDOW_S:  # else nothing was missing, or not for long
        found["ops_100ms"] = statistics.median(missing)
    return found, _shares(timeline, begin_s, until_s, rate)


def attempt_figures(attempt):
    """The same of a migration that was cancelled. The guest lost what it lost for nothing: these
    figures have names of their own, so that no average takes them for those of a migration."""
    ticks = attempt.source.ticks
    slope, offset_s = clocks(ticks)
    timeline = Timeline([(tick.t_us / 1e6 * slope + offset_s, tick.ops) for tick in ticks])
    begin_s, end_s = attempt.begin_s, attempt.end_s
    rate = _rate_before(timeline, begin_s)
    until_s = min(end_s + HORIZON_S, timeline.end_s)
    return {
        "attempt_ms": (end_s - begin_s) * 1000,
        "attempt_work_lost_ms": _lost_ms(timeline, begin_s, until_s, rate),
        "ops_100ms_before": rate * WINDOW_S,
        **_speed_in_rounds(timeline, begin_s, end_s, rate),
    }, _shares(timeline, begin_s, until_s, rate)

"""The side-by-side benchmark: its figures on a made-up guest whose truth is known, and a run."""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import types
import unittest

from rig import paths
from rig.guest import Report, Tick

BENCH = paths.ROOT / "bench" / "migration"
sys.path.insert(0, str(BENCH))

import figures  # noqa: E402
import scenarios  # noqa: E402

PACE = 1.0003        # host seconds per guest second
BOOTED_S = 1000.0    # host time of guest time 0
BEGIN_S = 1008.0
STOP_S = 1008.05
BLACKOUT_S = 0.0123
END_S = 1010.0
SPEED = 50_000.0     # operations a host second before and after
MISSING = 1_000.0    # and while memory is missing


def done(host_s):
    """Operations that the made-up guest has done by then."""
    resumed_s = STOP_S + BLACKOUT_S
    if host_s <= STOP_S:
        return SPEED * (host_s - BOOTED_S)
    if host_s <= END_S:
        return SPEED * (STOP_S - BOOTED_S) + MISSING * max(0, host_s - resumed_s)
    return done(END_S) + SPEED * (host_s - END_S)


def ticks(begin_s, end_s, offset_s, late):
    """Ticks every 10 ms of host time; lines come late by at least 0.2 ms, most by more."""
    found = []
    at_s = begin_s
    while at_s < end_s:
        guest_us = round((at_s - BOOTED_S - offset_s) / PACE * 1e6)
        found.append(Tick(at_s + 0.0002 + late.expovariate(300), guest_us, round(done(at_s))))
        at_s += 0.01
    return found


def sample():
    late = random.Random(7)
    resumed_s = STOP_S + BLACKOUT_S
    source = types.SimpleNamespace(
        ticks=ticks(1001.0, STOP_S, 0, late), partial="", reports=[])
    destination = types.SimpleNamespace(
        ticks=ticks(resumed_s + 0.001, 1011.3, BLACKOUT_S, late), lines=[], reports=[])
    return figures.Sample(source, destination, BEGIN_S, END_S, STOP_S, resumed_s, threads=1)


class Figures(unittest.TestCase):
    timeout_s = 60

    def test_blackout_from_late_lines_and_a_clock_of_another_pace(self):
        seen, _ = figures.guest_figures(sample())
        self.assertAlmostEqual(BLACKOUT_S * 1000, seen["blackout_ms"], delta=0.3)

    def test_work_lost_and_operations_while_memory_is_missing(self):
        seen, _ = figures.guest_figures(sample())
        lost_ms = (END_S - STOP_S - MISSING * (END_S - STOP_S - BLACKOUT_S) / SPEED) * 1000
        self.assertAlmostEqual(lost_ms, seen["work_lost_ms"], delta=5)
        self.assertAlmostEqual(MISSING / 10, seen["ops_100ms"], delta=3)
        self.assertAlmostEqual((END_S - STOP_S - BLACKOUT_S) * 1000, seen["to_90_ms"], delta=15)
        self.assertAlmostEqual(100, seen["speed_after_percent"], delta=1)

    def test_stall_buckets_and_percentiles(self):
        self.assertEqual([8, 9, 15, 16, 18, 32],
                         [figures.bucket_us(bucket) for bucket in (0, 1, 7, 8, 9, 16)])
        stalls = {0: 10_000, 16: 98, 40: 2}  # 8 us: too short to be a stall
        self.assertGreaterEqual(figures.percentile_us(stalls, 20, 0.99), figures.bucket_us(40))
        self.assertLess(figures.percentile_us(stalls, 20, 0.5), figures.bucket_us(17))
        self.assertEqual(0.0, figures.percentile_us({}, 20, 0.99))

    def test_a_report_that_the_switchover_cut_is_put_together(self):
        line = ("FL report t_us=5 window_us=1 window_ops=1 ops=1 reads=1 wrong=0 worst_us=77 "
                "disk_ops=0 disk_wrong=0 net_bytes=0 churn=0 stalls=3:1,")
        cut = sample()
        cut.source.partial = line[:60]
        cut.destination.lines = [(STOP_S + 0.1, line[60:])]
        cut.destination.reports = [Report.of(STOP_S + 0.2, line)]
        whole = figures.whole_reports(cut)
        self.assertEqual([77, 77], [report.worst_us for report in whole])
        self.assertEqual({3: 1}, whole[0].stalls)

    def test_scenarios_by_pattern(self):
        self.assertIn("sqlite-1gbit", scenarios.pick("*-1gbit"))
        self.assertEqual(["uniform-unshaped", "zipf-10gbit"],
                         scenarios.pick("uniform-unshaped,zipf-10gbit"))
        with self.assertRaises(SystemExit):
            scenarios.pick("nonsense")


class Run(unittest.TestCase):
    timeout_s = 120
    alone = True

    def bench(self, scenario, *words):
        """Runs the benchmark for one round, and returns that scenario's medians by mover."""
        with tempfile.TemporaryDirectory(dir="/tmp") as out:
            subprocess.run([sys.executable, BENCH / "run.py", "--quick", "--scenario", scenario,
                            "--settle-s", "2.5", "--out", out, *words], check=True, timeout=100,
                           env={**os.environ, "FAULTLINE_ISOLATED": ""})
            found = json.loads((pathlib.Path(out) / "results.json").read_text())
        self.assertIn("QEMU", found["machine"]["qemu"])
        return {mover: {name: value["median"] for name, value in measures.items()}
                for mover, measures in found["scenarios"][scenario]["summary"].items()}

    def test_both_movers_side_by_side(self):
        movers = self.bench("sqlite-1gbit", "--mib", "384", "--touched", "96")
        self.assertEqual(["stock", "faultline"], list(movers))
        for name, seen in movers.items():
            with self.subTest(name):
                self.assertEqual(0, seen["wrong"])
                self.assertGreater(seen["total_ms"], 96 * 8.4)  # 96 MiB take that long at 1 Gbit/s
                self.assertGreater(seen["wire_mib"], 96)
                self.assertGreater(seen["work_lost_ms"], seen["blackout_ms"])
                self.assertGreater(seen["blackout_ms"], 0)
                self.assertGreater(seen["stalls"], 0)
                self.assertGreater(seen["cpu_source_s_gib"], 0)
                self.assertLessEqual(seen["line_percent"], 105)

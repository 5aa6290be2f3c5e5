"""What plot.py makes of lines whose figures are known."""

import contextlib
import importlib.util
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import plot

HERE = pathlib.Path(__file__).resolve().parent


def result(threads, order, total_us, p50_us=10.0, waited=5):
    return {"side": "destination", "total_us": total_us, "pages_demand": 100, "pages_pushed": 900,
            "parameters": {"memory_mib": 4, "threads": threads, "push_order": order},
            "touch_waited": {"count": waited, "p50_us": p50_us, "p99_us": p50_us * 3},
            "guest_operations_per_100_ms_missing": 50.0, "guest_operations_per_100_ms_after": 500,
            "guest_operations_per_10_ms": [1, 2, 3]}


RESULTS = [result(threads, order, 1000 * threads + repeat, p50_us=threads + repeat)
           for repeat in range(3) for threads in (1, 2) for order in ("plain", "fault-around")]


def failure(function, *arguments):
    """The sentence with which it ends the program."""
    try:
        function(*arguments)
    except SystemExit as ended:
        return str(ended)
    raise AssertionError("it did not end")


class Choosing(unittest.TestCase):
    def test_what_varies_is_on_the_axis_and_in_the_lines(self):
        self.assertEqual(plot.axes_for(RESULTS, None, None), ("threads", "push_order"))
        self.assertEqual(plot.axes_for(RESULTS, "push_order", None), ("push_order", "threads"))
        self.assertEqual(plot.axes_for(RESULTS[:1], None, None), ("threads", None))

    def test_what_would_be_mixed_is_refused(self):
        more = [dict(r, parameters=dict(r["parameters"], memory_mib=8)) for r in RESULTS]
        self.assertIn("push_order", failure(plot.axes_for, RESULTS + more, None, None))
        picked = plot.pick(RESULTS + more, {"memory_mib": "8"})
        self.assertEqual(picked, more)
        self.assertEqual(plot.axes_for(picked, None, None), ("threads", "push_order"))

    def test_names_that_are_none_are_refused(self):
        self.assertIn("no such parameter", failure(plot.axes_for, RESULTS, "speed", None))
        self.assertIn("no such parameter", failure(plot.pick, RESULTS, {"speed": "1"}))
        self.assertIn("no result is left", failure(plot.pick, RESULTS, {"threads": "3"}))


class Values(unittest.TestCase):
    def test_a_curve_has_medians_and_the_band(self):
        groups = plot.grouped(RESULTS, "threads", "push_order")
        self.assertEqual(list(groups), ["plain", "fault-around"])
        self.assertEqual(plot.curve(groups["plain"], plot.latency_us("p50_us")),
                         [("1", 2, 1, 3), ("2", 3, 2, 4)])

    def test_a_point_where_nothing_waited_is_left_out(self):
        by_x = {"1": [result(1, "plain", 1000, waited=0)], "2": [result(2, "plain", 1000)]}
        self.assertEqual([text for text, *_ in plot.curve(by_x, plot.latency_us("p99_us"))], ["2"])

    def test_throughput_counts_what_travelled(self):
        # 1,000 pages of 4,096 bytes in 2,000 us.
        self.assertEqual(plot.moved_mb_per_second(result(1, "plain", 2000)), 2048)

    def test_numbers_have_their_place_and_names_one_after_the_other(self):
        self.assertEqual(plot.places(["1", "8"]), ({"1": 1.0, "8": 8.0}, False))
        self.assertEqual(plot.places(["zipf", "uniform"]), ({"zipf": 0, "uniform": 1}, True))


class Program(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name) / "lines.jsonl"

    def test_lines_of_other_kinds_are_passed_over(self):
        lines = [{"event": "listening"}, dict(RESULTS[0], side="source"), RESULTS[0]]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.assertEqual(plot.read([self.path]), [RESULTS[0]])
        self.path.write_text(json.dumps(lines[0]) + "\n")
        self.assertIn("no result of a destination", failure(plot.read, [self.path]))
        self.path.write_text("{\n")
        self.assertIn("lines.jsonl:1: this is no JSON", failure(plot.read, [self.path]))

    @unittest.skipUnless(importlib.util.find_spec("matplotlib"), "python3-matplotlib is not there")
    def test_every_plot_is_drawn(self):
        groups = plot.grouped(RESULTS, "threads", "push_order")
        out = pathlib.Path(self.folder.name) / "plots"
        with contextlib.redirect_stdout(io.StringIO()):
            plot.save_all(groups, "threads", "push_order", out)
        self.assertEqual(sorted(path.name for path in out.iterdir()),
                         ["latency.svg", "operations.svg", "speed.svg", "throughput.svg"])
        for path in out.iterdir():
            self.assertIn("<svg", path.read_text())

    def test_a_condition_without_a_value_is_bad_usage(self):
        done = subprocess.run([sys.executable, HERE / "plot.py", "x", "--where", "threads"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("NAME=VALUE", done.stderr)


if __name__ == "__main__":
    unittest.main()

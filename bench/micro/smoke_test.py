"""Every mover and measure of faultline-micro brings every byte; no times are asserted."""

import sys
import unittest

import tables
from pair import run_pair

PROGRAM = None
PAGES = 2048


class Micro(unittest.TestCase):
    def run_case(self, mover, measure, *more):
        ran = run_pair(PROGRAM, ["--mover", mover, "--measure", measure, "--pages", PAGES, *more])
        there = ran["destination"]
        self.assertEqual(there["wrong_pages"], 0)
        self.assertEqual(there["bytes"], PAGES * 4096)
        self.assertEqual(there["pages_demand"] + there["pages_pushed"], PAGES)
        self.assertGreater(there["transfer_seconds"], 0)
        self.assertGreaterEqual(ran["source"]["cpu_seconds"], 0)
        return there

    def check_touches(self, there, faults_min):
        """Each fault was timed, as the toucher and as the stages see it."""
        self.assertGreaterEqual(there["touch"]["count"], faults_min)
        self.assertGreater(there["touch"]["p50_us"], 0)
        self.assertEqual(sorted(there["stages"]), sorted(tables.STAGES))
        for values in there["stages"].values():
            self.assertGreaterEqual(values["count"], faults_min * 0.9)

    def test_floor_faults(self):
        self.check_touches(self.run_case("floor", "faults"), PAGES)

    def test_floor_faults_of_two_touchers_in_order(self):
        self.check_touches(self.run_case("floor", "faults", "--touchers", 2, "--sequential"), PAGES)

    def test_floor_of_four_lanes(self):
        self.check_touches(self.run_case("floor", "faults", "--touchers", 2, "--lanes", 4), PAGES)
        self.run_case("floor", "bulk", "--chunk-kib", 256, "--lanes", 4)
        self.run_case("floor", "push", "--chunk-kib", 64, "--lanes", 2)

    def test_floor_bulk(self):
        self.run_case("floor", "bulk", "--chunk-kib", 256)

    def test_floor_bulk_by_sendfile_with_a_last_chunk_that_is_short(self):
        self.run_case("floor", "bulk", "--chunk-kib", 1000, "--sends-from", "file")

    def test_floor_bulk_by_copies_with_a_last_chunk_that_is_short(self):
        self.run_case("floor", "bulk", "--chunk-kib", 1000, "--sends-from", "copy")

    def test_floor_push_under_touches(self):
        self.run_case("floor", "push", "--chunk-kib", 64)

    def test_engine_faults_while_the_push_is_held(self):
        there = self.run_case("engine", "faults", "--think-us", 5)
        self.assertGreater(there["pages_demand"], PAGES * 0.8)
        self.check_touches(there, PAGES * 0.8)

    def test_engine_faults_of_four_touchers(self):
        self.check_touches(self.run_case("engine", "faults", "--touchers", 4), PAGES * 0.8)

    def test_engine_bulk(self):
        self.assertEqual(self.run_case("engine", "bulk")["pages_pushed"], PAGES)

    def test_engine_that_polls(self):
        self.check_touches(self.run_case("engine", "faults", "--poll-us", 200), PAGES * 0.9)

    def test_engine_push_under_touches(self):
        self.run_case("engine", "push")

    def test_what_makes_no_sense_is_refused(self):
        with self.assertRaises(RuntimeError):
            self.run_case("floor", "push", "--poll-us", 1)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()

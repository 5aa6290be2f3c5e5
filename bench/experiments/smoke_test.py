"""faultline-bench moves its guest over loopback, point after point; no times are asserted."""

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

PROGRAM = None
LIMIT_S = 60
GRACE_S = 5
SMALL = ["--memory-mib", "16", "--before-ms", "30", "--after-ms", "30"]


class Outcome:
    """How both sides of a run ended."""

    def __init__(self, sides):
        self.status = {name: process.returncode for name, (process, _, _) in sides.items()}
        self.errors = {name: errors for name, (_, _, errors) in sides.items()}
        self.lines = {name: [json.loads(line) for line in output.splitlines()]
                      for name, (_, output, _) in sides.items()}

    def results(self, side):
        return [line for line in self.lines[side] if line["event"] == "result"]


def run_pair(arguments, destination_only=(), source_only=(), source_first_s=None):
    """Runs both sides with the same arguments, and some more for one of them."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = {}
    try:
        processes["destination"] = subprocess.Popen(
            [PROGRAM, "destination", "--listen", "127.0.0.1:0", *arguments, *destination_only],
            **pipes)
        first = processes["destination"].stdout.readline()
        if first:
            address = json.loads(first)["address"]
            processes["source"] = subprocess.Popen(
                [PROGRAM, "source", "--to", address, *arguments, *source_only],
                **pipes)
        # The source first: a destination whose source has given up waits for another one.
        sides = {}
        for name in sorted(processes, reverse=True):
            sides[name] = (processes[name], *processes[name].communicate(timeout=LIMIT_S))
            if name == "source" and processes[name].returncode != 0:
                threading.Timer(GRACE_S, processes["destination"].terminate).start()
        return Outcome(sides)
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def refused(*arguments, side="source", address=("--to", "127.0.0.1:1")):
    """What a side says that does not even begin."""
    done = subprocess.run([PROGRAM, side, *address, *arguments], timeout=LIMIT_S, text=True,
                          capture_output=True)
    return done.returncode, done.stderr


class Sweep(unittest.TestCase):
    def run_sweep(self, sweep, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "sweep.json"
            path.write_text(json.dumps(sweep))
            return run_pair([*SMALL, *arguments, "--sweep", str(path)])

    def check(self, outcome, steps):
        self.assertEqual(outcome.status, {"destination": 0, "source": 0}, outcome.errors)
        for side in ("destination", "source"):
            self.assertEqual([line["step"] for line in outcome.results(side)],
                             list(range(1, steps + 1)))
        for there, here in zip(outcome.results("destination"), outcome.results("source")):
            self.assertEqual(there["parameters"], here["parameters"])
            self.assertEqual((there["wrong_reads"], there["wrong_pages"], here["wrong_reads"]),
                             (0, 0, 0))
            self.assertEqual(there["pages_demand"] + there["pages_pushed"] + there["pages_absent"],
                             there["pages_total"])
            self.assertEqual(there["pages_total"], there["parameters"]["memory_mib"] * 256)
            self.assertEqual(there["guest_operations"], sum(there["guest_operations_per_10_ms"]))
            self.assertGreater(there["total_us"], 0)
            self.assertGreater(there["downtime_us"], 0)
            self.assertGreater(there["guest_cpu_seconds"], 0)
            self.assertGreater(here["engine_cpu_seconds"], 0)
            self.assertGreater(there["engine_cpu_seconds"], 0)
            for name in ("host", "kernel", "cpus"):
                self.assertTrue(there["machine"][name])

    def test_patterns_and_threads(self):
        outcome = self.run_sweep({"pattern": ["uniform", "zipf", "hotset", "sequential"],
                                  "threads": [1, 3], "repeats": 2})
        self.check(outcome, 16)
        results = outcome.results("destination")
        self.assertEqual([line["repeat"] for line in results], [1] * 8 + [2] * 8)
        for there, here in zip(results, outcome.results("source")):
            self.assertIsNotNone(there["guest_operations_per_100_ms_after"])
            self.assertEqual(there["guest_operations_per_100_ms_before"],
                             here["guest_operations_per_100_ms_before"])

    def test_policies(self):
        sweep = {"push_order": ["fault-around", "plain"], "read_around": [True, "off"],
                 "bandwidth": "200M", "compression": ["off", "lz4"], "poll_us": 50,
                 "integrity": [True, False], "memory_mib": 4, "before_ms": 0, "word_repeats": 3}
        outcome = self.run_sweep(sweep)
        self.check(outcome, 16)
        for line in outcome.results("destination"):
            self.assertEqual(line["integrity"], line["parameters"]["integrity"])
            self.assertIsNone(line["guest_operations_per_100_ms_before"])
        for line in outcome.results("source"):
            packed = line["parameters"]["compression"] == "lz4"
            self.assertEqual(line["bytes_packed_in"] > 0, packed)

    def test_on_demand_only(self):
        outcome = self.run_sweep({"push": False, "demand_only_ms": 100, "allocated_share": 0.75,
                                  "touched_share": 0.5, "read_around": "off"})
        self.check(outcome, 1)
        there, = outcome.results("destination")
        self.assertEqual(there["pages_absent"], 1024)
        # The pusher may send one run before it is held.
        self.assertGreater(there["pages_demand"], 3072 * 0.8)
        waited = there["touch_waited"]
        self.assertGreater(waited["count"], 0)
        self.assertLessEqual(waited["count"], 1536)
        self.assertLessEqual(waited["p50_us"], waited["p99_us"])
        self.assertGreater(there["total_us"], 100_000)
        self.assertIsNotNone(there["guest_operations_per_100_ms_missing"])


class Differing(unittest.TestCase):
    def test_plans_that_differ_are_refused_by_both_sides(self):
        outcome = run_pair(SMALL, ["--think-us", "3"], ["--think-us", "4"])
        self.assertEqual(outcome.status, {"destination": 1, "source": 1})
        for errors in outcome.errors.values():
            self.assertIn("the plans differ: think_us is 3 here and 4 on the source", errors)
        self.assertEqual(outcome.results("destination"), [])

    def test_sizes_that_differ_are_refused_by_both_sides(self):
        outcome = run_pair([], ["--memory-mib", "16"], ["--memory-mib", "8"])
        self.assertEqual(outcome.status, {"destination": 1, "source": 1})
        for errors in outcome.errors.values():
            self.assertIn("ram", errors)

    def test_a_destination_with_more_points_is_refused(self):
        outcome = run_pair(SMALL, ["--repeats", "2"], ["--repeats", "1"])
        self.assertEqual(outcome.status, {"destination": 1, "source": 1})
        self.assertIn("steps is 2 here and 1 on the source", outcome.errors["destination"])


class Secured(unittest.TestCase):
    def test_both_sides_with_the_same_key(self):
        with tempfile.NamedTemporaryFile("w", suffix=".psk") as key, \
                tempfile.NamedTemporaryFile("w", suffix=".psk") as other:
            key.write(f"bench:{'5a' * 32}\n")
            key.flush()
            other.write(f"bench:{'a5' * 32}\n")
            other.flush()
            right = ["--tls-psk", key.name]
            self.assertEqual(run_pair(SMALL, right, right).status, {"destination": 0, "source": 0})
            # A stranger does not end the destination.
            wrong = run_pair(SMALL, right, ["--tls-psk", other.name, "--wait-s", "0.3"])
            self.assertEqual(wrong.status, {"destination": -signal.SIGTERM, "source": 1})
            self.assertIn(other.name, wrong.errors["source"])


class Refused(unittest.TestCase):
    def test_bad_usage(self):
        for arguments, words in ((["--threads", "0"], "threads: 0 is not possible"),
                                 (["--pattern", "odd"], "uniform|zipf|hotset|sequential"),
                                 (["--memory-mib", "1", "--threads", "512"], "each of its 512"),
                                 (["--sweep", "/nonexistent.json"], "/nonexistent.json"),
                                 (["--repeats", "0"], "repeats"),
                                 (["--no-such-option"], "no-such-option")):
            status, errors = refused(*arguments)
            self.assertEqual(status, 2, arguments)
            self.assertIn(words, errors)

    def test_a_sweep_that_is_none_is_named(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write('{"thread": 1}')
            file.flush()
            status, errors = refused("--sweep", file.name)
        self.assertEqual(status, 2)
        self.assertIn(f"{file.name}: there is no parameter 'thread'", errors)

    def test_plain_connections_beyond_loopback_must_be_wanted(self):
        status, errors = refused(*SMALL, address=("--to", "192.0.2.1:1"))
        self.assertEqual(status, 2)
        self.assertIn("--insecure", errors)

    def test_a_source_that_nobody_waits_for_gives_up(self):
        status, errors = refused(*SMALL, "--wait-s", "0.3")
        self.assertEqual(status, 1)
        self.assertIn("step 1 of 1: connecting to 127.0.0.1:1", errors)

    def test_rdma_where_there_is_none_is_refused_on_both_sides(self):
        for side, address in (("source", ("--to", "127.0.0.1:1")),
                              ("destination", ("--listen", "127.0.0.1:0"))):
            status, errors = refused(*SMALL, "--transport", "rdma", side=side, address=address)
            self.assertEqual(status, 1)
            self.assertIn("no RDMA port that is active", errors)

    def test_a_sweep_with_such_a_transport_does_not_begin(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write('{"transport": ["tcp", "rdma"]}')
            file.flush()
            status, errors = refused(*SMALL, "--sweep", file.name, side="destination",
                                     address=("--listen", "127.0.0.1:0"))
        self.assertEqual(status, 1)
        self.assertIn("no RDMA port that is active", errors)

    def test_an_address_that_is_none_is_refused(self):
        status, errors = refused(*SMALL, address=("--to", "nowhere"))
        self.assertEqual(status, 2)
        self.assertIn("nowhere", errors)


class Lost(unittest.TestCase):
    def test_a_guest_whose_source_dies_fails_the_run(self):
        """The destination ends only when it is told to: its engine waits for the source."""
        arguments = ["--memory-mib", "64", "--push", "off", "--demand-only-ms", "60000",
                     "--think-us", "5000", "--before-ms", "0"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen([PROGRAM, "destination", "--listen", "127.0.0.1:0", *arguments],
                              **pipes) as destination:
            address = json.loads(destination.stdout.readline())["address"]
            with subprocess.Popen([PROGRAM, "source", "--to", address, *arguments],
                                  **pipes) as source:
                with self.assertRaises(subprocess.TimeoutExpired):
                    source.wait(timeout=1)
                source.kill()
            self.assertIn("lost", destination.stderr.readline())
            destination.send_signal(signal.SIGTERM)
            self.assertEqual(destination.wait(timeout=LIMIT_S), -signal.SIGTERM)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()

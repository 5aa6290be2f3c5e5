"""The example VMM moves its guest: between two processes and within one, every page checked."""
import re
import subprocess
import sys
import unittest

EXAMPLE_VMM = None
LIMIT_S = 60
ANY_PORT = "tcp://127.0.0.1:0"


def last_words(output, side):
    """The figures of a side's last line."""
    lines = [line for line in output.splitlines() if re.match(rf"{side} [A-Z_]+ owner=", line)]
    assert len(lines) == 1, f"{side} must end with one result line:\n{output}"
    status, *figures = lines[0].split()[1:]
    return {"status": status, **dict(figure.split("=") for figure in figures)}


class ExampleVmm(unittest.TestCase):
    def start(self, *arguments):
        process = subprocess.Popen([EXAMPLE_VMM, *arguments], stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def start_destination(self, mode="destination"):
        process = self.start(mode, ANY_PORT)
        for line in process.stdout:
            if line.startswith("listening "):
                return process, line.split()[1]
        self.fail("the destination ended before it listened")

    def check_migrated(self, source_output, destination_output):
        source = last_words(source_output, "source")
        destination = last_words(destination_output, "destination")
        for side in (source, destination):
            self.assertEqual((side["status"], side["owner"], side["wrong"]),
                             ("OK", "destination", "0"))
        self.assertGreater(int(source["touched"]), 0)
        self.assertGreater(int(destination["touched"]), 0)
        self.assertEqual(int(destination["checked"]), 16384 + 4096 + 512)

    def move_between_processes(self, mode):
        destination, uri = self.start_destination(mode)
        source = self.start("source", uri)
        source_output, _ = source.communicate(timeout=LIMIT_S)
        destination_output, _ = destination.communicate(timeout=LIMIT_S)
        self.assertEqual((source.returncode, destination.returncode), (0, 0),
                         source_output + destination_output)
        self.check_migrated(source_output, destination_output)
        ended = re.search(r"demand=(\d+) pushed=(\d+) absent=(\d+)", destination_output)
        demand, pushed, absent = map(int, ended.groups())
        self.assertGreater(demand, 0, "no page was waited for: nothing was tested while missing")
        self.assertGreater(pushed, 0)
        self.assertGreaterEqual(absent, 16384 - 12288, "memory never touched must not travel")

    def test_two_processes(self):
        self.move_between_processes("destination")

    def test_own_userfaultfd(self):
        """The program makes the userfaultfd and gives it to the library."""
        self.move_between_processes("destination-uffd")

    def test_one_process(self):
        both = self.start("both", ANY_PORT)
        output, _ = both.communicate(timeout=LIMIT_S)
        self.assertEqual(both.returncode, 0, output)
        self.check_migrated(output, output)

    def test_no_destination(self):
        """Nobody listens: the guest stays on the source, which goes on and is whole."""
        source = self.start("source", "tcp://127.0.0.1:1")
        output, _ = source.communicate(timeout=LIMIT_S)
        self.assertEqual(source.returncode, 1, output)
        words = last_words(output, "source")
        self.assertEqual((words["owner"], words["wrong"]), ("source", "0"))
        self.assertNotEqual(words["status"], "OK")
        self.assertEqual(int(words["checked"]), 16384 + 4096 + 512)

    def test_destination_killed_before_the_handover(self):
        """The destination is gone when the source comes: the guest goes on at the source."""
        destination, uri = self.start_destination()
        destination.kill()
        destination.wait()
        source = self.start("source", uri)
        output, _ = source.communicate(timeout=LIMIT_S)
        self.assertEqual(last_words(output, "source")["owner"], "source", output)


if __name__ == "__main__":
    EXAMPLE_VMM = sys.argv.pop(1)
    unittest.main()

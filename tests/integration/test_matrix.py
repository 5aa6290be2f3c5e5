"""Every event at every phase, as rig/failure_matrix.py has it: the tests are made from that table."""

import os
import re

from rig import failure_matrix
from rig.case import full
from rig.events import cell_of, fill
from rig.recovery import RecoveryCase

# Cells for every run of the tests: what no other test does.
SOME = (("`migrate`'s guardian is killed", "D"), ("source's monitor hangs up", "P"),
        ("destination's monitor hangs up", "D"), ("source's QEMU is killed", "D"),
        ("destination's QEMU is killed", "E"), ("source's host reboots", "C"),
        ("destination's host reboots", "M"), ("no room for the source's journal", "D"),
        ("no room for the destination's journal", "C"),
        ("no memory on the destination for 3 s", "C"),
        ("both clocks jump a year ahead, then back by two", "F"))


class MatrixCase(RecoveryCase):
    timeout_s = 600

    def check(self, event, phase):
        wanted = failure_matrix.cell(event, phase)
        with self.subTest(event=event, phase=phase, wanted=wanted):
            got = cell_of(self, event, phase)
            print(f"{event} | {phase} | {got}", flush=True)
            self.assertIn(got, wanted.split(" or "))
        self.clear()


class Cells(MatrixCase):
    every_qemu = False

    def test_some_cells(self):
        for event, phase in SOME:
            self.check(event, phase)


class FullFromTheStart(RecoveryCase):
    """A file system without room for a journal: nothing begins."""

    every_qemu = False

    def test_no_journal_no_migration(self):
        full = self.tmpfs("size=64k")
        run_words = ("--run-directory", os.path.join(full, "run"))
        os.mkdir(run_words[1], 0o700)
        fill(os.path.join(full, "filler"))
        source, destination = self.working(), self.waiting()
        receive = self.receive(destination, extra=run_words)
        self.assert_failed(receive, receive.wait(20), 1, "source", "No space left", run_words[1])
        migrate = self.send(source, 1, extra=run_words)
        self.assert_failed(migrate, migrate.wait(20), 1, "source", "No space left", run_words[1])
        self.assert_works(source)
        self.assertEqual("inmigrate", destination.status())


class Matrix(MatrixCase):
    """A test for each event, at every phase."""


def _test_of(event):
    @full
    def test(self):
        for phase in failure_matrix.PHASES:
            self.check(event, phase)
    return test


for _event in failure_matrix.MATRIX:
    _name = re.sub(r"\W+", "_", _event.replace("`", "").replace("'s", "")).strip("_")
    setattr(Matrix, f"test_each_phase_{_name}", _test_of(_event))

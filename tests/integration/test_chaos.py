"""Migrations that are disturbed at random, one for each seed: processes and QEMUs that are killed,
links that are cut, silent, half-open, slow or wrong, up to three of them in a row. The VM never runs
twice and is never lost but with the QEMU that had it, and no byte is wrong.

    FAULTLINE_SEEDS=4711,17 python3 tests/integration/run.py --show --filter some_seeds
    FAULTLINE_SEEDS=1000-1299 ...
"""

import os
import time

from rig.case import full
from rig.chaos import Disturbed, Plan
from rig.recovery import RecoveryCase

# Of every kind, and none that takes long.
SOME = "4,6,7,9,11,20,26,33,39,51,52,54"


class ChaosCase(RecoveryCase):
    timeout_s = 1200

    def setUp(self):
        super().setUp()
        self._number = 0

    @property
    def run_directory(self):
        """One for each seed."""
        return ("--run-directory", os.path.join(self.workdir, f"run{self._number}"))

    def run_seeds(self, seeds):
        for seed in seeds:
            self._number += 1
            plan = Plan.of(seed)
            begin_s = time.monotonic()
            with self.subTest(plan=str(plan), replay=f"FAULTLINE_SEEDS={seed} python3 tests/"
                              "integration/run.py --show --filter some_seeds"):
                try:
                    disturbed = Disturbed(self, plan)
                    disturbed.run()
                finally:
                    print(f"{time.monotonic() - begin_s:.1f} s {plan}", flush=True)
                print(f"      {disturbed.aftermath.describe()}", flush=True)
            self.clear()


class Chaos(ChaosCase):
    """150 seeds against each QEMU, in parts that can run side by side."""

    def test_some_seeds(self):
        self.run_seeds(seeds_of(os.environ.get("FAULTLINE_SEEDS", SOME)))

    @full
    def test_many_seeds_1(self):
        self.run_seeds(range(1000, 1050))

    @full
    def test_many_seeds_2(self):
        self.run_seeds(range(1050, 1100))

    @full
    def test_many_seeds_3(self):
        self.run_seeds(range(1100, 1150))


def seeds_of(text):
    """ "3,10-12" is 3, 10, 11, 12."""
    for words in text.split(","):
        first, _, last = words.partition("-")
        yield from range(int(first), int(last or first) + 1)

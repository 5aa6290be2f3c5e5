"""Malformed handshakes in numbers, at both sides, all of them from a seed.

FAULTLINE_SEED=N plays another one.
"""

import os
import random

from rig import malformed, tls, wire
from rig.case import MigrationCase
from rig.small import SmallVmCase

SEED = int(os.environ.get("FAULTLINE_SEED", "4"))


class Handshakes(MigrationCase):
    """A thousand of them at `receive` during one migration, which they must not touch."""

    every_qemu = False  # QEMU has no part in it
    COUNT = 1000
    SLOW_BYTES_S = 1_000_000  # the bulk lane meanwhile: 128 MiB would take two minutes

    def check(self, extra=()):
        source, destination = self.pair(mib=384, kernel="fl.mib=32 fl.idle=128")
        source.wait_ready()
        move = self.begin(source, destination, receive_extra=extra,
                          migrate_extra=(*extra, "--compress", "off"), between=self.between)
        destination.wait_status("running")
        self.assertLess(self.crowd.come, self.COUNT, "they come before and after the handover")
        self.crowd.replays = tuple(self.recorder.beginnings)
        self.assertEqual(3, len(self.crowd.replays), "control, demand, bulk")
        self.assertEqual(self.COUNT, self.crowd.join(100), self.crowd.kinds)
        self.assertGreater(self.crowd.kinds.get("replayed", 0), 10, self.crowd.kinds)
        self.assertTrue(move.migrate.process.alive(), "all of them must fall into the migration")
        self.recorder.rate_bytes_s = None
        self.assert_completed(move.wait())
        self.assert_guest_right(destination)
        notices = [event for event in move.receive.events if event["event"] == "notice"]
        self.assertLessEqual(len(notices), 12, "they must not fill the screen")
        self.assertEqual(0, move.receive.last["reconnects"])

    def between(self, port):
        """Puts the recorder between both sides, and calls the crowd."""
        self.recorder = malformed.Recorder(port, self.SLOW_BYTES_S)
        self.addCleanup(self.recorder.close)
        self.crowd = malformed.Crowd(port, SEED, self.COUNT).start()
        return self.recorder.port

    def test_a_thousand_during_a_plain_migration(self):
        self.check()

    def test_a_thousand_during_a_migration_in_tls(self):
        authority = tls.Authority(os.path.join(self.workdir, "pki"))
        self.check(("--tls-dir", authority.folder("host")))


class Answers(SmallVmCase):
    """A hundred destinations that answer wrongly, at every step before the handover: the VM works on
    at the source, and `migrate` says why it failed."""

    every_qemu = False  # QEMU has no part in it
    COUNT = 100

    def test_a_hundred_wrong_answers(self):
        source = self.working()
        rng = random.Random(SEED)
        for number in range(self.COUNT):
            step = malformed.STEPS[number % len(malformed.STEPS)]
            behave, data = malformed.bad_destination(rng, step)
            with self.subTest(number=number, step=step, data=data[:60].hex()):
                destination = wire.HandMadeDestination(behave)
                migrate = self.send(source, destination.port)
                self.assert_failed(migrate, migrate.wait(30), 1, "source")
                self.assertEqual([], migrate.garbage)
                self.assertGreater(len(migrate.last["error"]), 20)
                self.assertNotIn("\x1b", migrate.last["error"])
                source.wait_status("running", timeout_s=5)
                destination.close()
        self.assert_works(source)
        self.assertEqual(set(), self.capabilities(source))
        self.assertEqual({}, self.guardians())

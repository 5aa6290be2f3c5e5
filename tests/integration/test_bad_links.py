"""Links that are far, slow for a while, or wrong."""

import os
import time

from rig import tls
from rig.clock import Clock
from rig.kill import KillCase
from rig.recovery import BRISK, RecoveryCase

_DELAY_S = 0.05  # each way


class Far(RecoveryCase):
    every_qemu = False  # QEMU has no part in any of this

    def test_far_away(self):
        source, destination, receive, migrate, _ = self.post_copy(pace=BRISK, delay_s=_DELAY_S)
        for command in (migrate, receive):
            self.assertEqual(0, command.wait(90), command.describe())
            self.assertEqual(0, command.last["reconnects"])
        # Device state, Loaded and Commit cross the link, and each page that is asked for.
        self.assertGreater(receive.last["downtime_us"], 3 * _DELAY_S * 1e6)
        self.assertGreater(receive.last["fault_latency_us"]["p50"], 2 * _DELAY_S * 1e6)
        self.assertEqual("postmigrate", source.status())
        self.assert_works(destination)

    def test_far_away_and_cut(self):
        source, destination, receive, migrate, relay = self.post_copy(pace=BRISK, delay_s=_DELAY_S)
        time.sleep(0.5)
        relay.reset()
        self.assert_recovered(source, destination, receive, migrate)


class Slow(KillCase):
    every_qemu = False

    def test_slow_for_some_seconds_in_post_copy(self):
        """A few KiB a second are still a link: nothing is taken for lost."""
        destination = self.waiting()
        receive = self.receive(destination)
        relay = self.relay(receive.port)
        migrate = self.send(self.source, relay.port, extra=BRISK)
        destination.wait_status("running")
        relay.rate_bytes_s = 4096
        begin_bytes = relay.forwarded_bytes
        time.sleep(6)
        self.assertLess(relay.forwarded_bytes - begin_bytes, 4 << 20)
        self.assertTrue(receive.process.alive())
        relay.rate_bytes_s = None
        for command in (migrate, receive):
            self.assertEqual(0, command.wait(60), command.describe())
            self.assertEqual(0, command.last["reconnects"])
        self.assert_works(destination)

    def test_too_slow_for_the_handover(self):
        """A message that takes longer than the silence allowed: the VM does not stand still for it."""
        def case(move):
            move.relay.rate_bytes_s = 1024
            move.relay.release()
            self.assert_failed(move.receive, move.receive.wait(20), 1, "source", "lost the source")
            self.assert_back(move)
            self.assert_gone(move.destination)
        self.at_each(("PackedDeviceState",), case)


class Wrong(RecoveryCase):
    """One bit turns on the way."""

    every_qemu = False

    def setUp(self):
        super().setUp()
        self.secrets = ("--tls-psk", tls.psk_file(os.path.join(self.workdir, "keys.psk")))

    def test_under_tls_each_lane_in_post_copy(self):
        """The record's authentication finds it: a new connection, and no wrong byte."""
        for lane in ("control", "demand", "bulk"):
            with self.subTest(lane=lane):
                source, destination, receive, migrate, relay = self.post_copy(
                    extra=self.secrets, pace=BRISK, opaque=True)
                relay.corrupt(lane, 100)
                self.wait_until(lambda: relay.corrupted, 5, "something passes there")
                self.assert_recovered(source, destination, receive, migrate)
                for vm in (source, destination):
                    vm.kill()

    def test_under_tls_before_the_handover(self):
        for skip_bytes in (5, 700, 20000):  # the handshake, the messages, the device state
            with self.subTest(skip_bytes=skip_bytes):
                source = self.working()
                destination = self.waiting()
                receive = self.receive(destination, extra=self.secrets)
                relay = self.relay(receive.port, opaque=True)
                relay.corrupt("control", skip_bytes)
                migrate = self.send(source, relay.port, extra=self.secrets)
                self.assertEqual(1, migrate.wait(20), migrate.describe())
                self.assertEqual(1, relay.corrupted)
                self.assert_runs_on_source_only(source, destination)
                for thing in (receive, source, destination):
                    thing.kill()


class WrongInPlain(KillCase):
    """Without TLS what makes no sense is found, and no more than that."""

    every_qemu = False

    def test_head_before_the_handover(self):
        def case(move):
            move.relay.corrupt_head()
            move.relay.release()
            self.assertEqual(1, move.migrate.wait(20), move.migrate.describe())
            self.assertEqual(1, move.receive.wait(20), move.receive.describe())
            self.assertIn("reserved", move.migrate.last["error"] + move.receive.last["error"])
            self.assert_back(move)
        self.at_each(("Welcome", "Frozen"), case)

    def test_head_in_post_copy(self):
        destination = self.waiting()
        receive = self.receive(destination)
        relay = self.relay(receive.port)
        migrate = self.send(self.source, relay.port, extra=BRISK)
        destination.wait_status("running")
        relay.corrupt_head()
        for command in (migrate, receive):
            self.assertEqual(0, command.wait(60), command.describe())
            self.assertGreaterEqual(command.last["reconnects"], 1)
        self.assert_works(destination)


class Clocks(RecoveryCase):
    """A clock of the day that is wrong for a while."""

    every_qemu = False

    def test_certificates_seem_to_have_expired(self):
        """What is connected stays so; a new connection is refused until the clock is right again."""
        clock = Clock(self.workdir)
        folder = ("--tls-dir", tls.Authority(os.path.join(self.workdir, "pki")).folder("host"))
        source, destination = self.working(), self.waiting()
        receive = self.receive(destination, extra=folder, wrap=clock.wrap)
        relay = self.relay(receive.port, opaque=True)
        migrate = self.send(source, relay.port, extra=(*folder, *BRISK), wrap=clock.wrap)
        destination.wait_status("running")
        clock.jump(365 * 24 * 3600)
        time.sleep(0.5)
        self.assertEqual(0, migrate.last.get("reconnects", 0))
        relay.reset()
        self.wait_until(lambda: any("expired" in event.get("text", "")
                                    for event in migrate.events), 10, "it says why")
        clock.jump(0)
        self.assert_recovered(source, destination, receive, migrate)

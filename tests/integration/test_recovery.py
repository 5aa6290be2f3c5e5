"""After the handover the link may go: the VM waits for what it misses, both sides connect again by
themselves, and its memory is right in the end."""

import fcntl
import os
import time

from rig import tls
from rig.case import full
from rig.kill import KillCase
from rig.net import HOSTS, Lan
from rig.process import run
from rig.recovery import BRISK, SLOW, RecoveryCase

# The byte of an image file that QEMU locks while it may write there.
_QEMU_WRITES = 101


class Connections(RecoveryCase):
    def test_cut_once(self):
        source, destination, receive, migrate, relay = self.post_copy()
        time.sleep(0.5)
        relay.reset()
        for command in (migrate, receive):
            self.assertIn("runs", command.wait_event("notice")["text"])
        self.assert_recovered(source, destination, receive, migrate)
        # Absent pages apart, each page came once.
        last = receive.last
        self.assertEqual(last["pages_total"] - last["pages_absent"] - last["pages_discarded"],
                         last["pages_demand"] + last["pages_pushed"])

    def test_cut_once_under_tls(self):
        secrets = ("--tls-psk", tls.psk_file(os.path.join(self.workdir, "keys.psk")))
        source, destination, receive, migrate, relay = self.post_copy(
            extra=secrets, pace=BRISK, opaque=True)
        time.sleep(0.5)
        relay.reset()
        self.assert_recovered(source, destination, receive, migrate)

    def test_cut_again_and_again(self):
        source, destination, receive, migrate, relay = self.post_copy()
        for _ in range(6):
            time.sleep(0.4)
            relay.reset()
        self.assert_recovered(source, destination, receive, migrate, at_least=3)

    def test_silent_for_some_seconds(self):
        """Nothing is reset: only the clock tells, and the old connections come alive again."""
        source, destination, receive, migrate, relay = self.post_copy()
        relay.silence()
        time.sleep(9)
        relay.flow()
        self.assert_recovered(source, destination, receive, migrate)

    def test_cut_for_longer_than_the_limit(self):
        source, destination, receive, migrate, relay = self.post_copy(
            extra=("--recovery-timeout", "4s"))
        relay.cut()
        self.assert_failed(migrate, migrate.wait(20), 3, "destination",
                           "could not be reached again within 4.0 s")
        self.assert_failed(receive, receive.wait(20), 3, "destination",
                           "did not connect again within 4.0 s")
        self.assertEqual("postmigrate", source.status())
        self.assertTrue(destination.process.alive())


class Unanswered(RecoveryCase):
    every_qemu = False  # QEMU has no part in it

    def test_new_connections_that_nobody_answers(self):
        """They are made, and then nothing comes: each try has its time."""
        source, destination, receive, migrate, relay = self.post_copy(pace=BRISK)
        relay.silence()
        relay.reset_connections()
        time.sleep(4)
        relay.flow()
        self.assert_recovered(source, destination, receive, migrate)


class LinkDown(RecoveryCase):
    """A real link that goes down under both."""

    timeout_s = 400

    def setUp(self):
        super().setUp()
        self.lan = Lan()
        self.addCleanup(self.lan.close)

    def down_for(self, seconds):
        source = self.working(netns=self.lan.netns("h1"))
        destination = self.waiting(netns=self.lan.netns("h2"))
        receive = self.receive(destination, listen=f"tcp://{HOSTS['h2']}:0", extra=("--insecure",))
        migrate = self.send(source, receive.port, address=HOSTS["h2"],
                            extra=("--insecure", *SLOW))
        destination.wait_status("running")
        self.lan.cut("h2")
        time.sleep(seconds)
        self.lan.join("h2")
        return source, destination, receive, migrate

    def test_link_down_for_a_second(self):
        source, destination, receive, migrate = self.down_for(1)
        for command in (migrate, receive):
            self.assertEqual(0, command.wait(90), command.describe())
        self.assertEqual("postmigrate", source.status())
        self.assert_works(destination)

    def test_link_down_for_longer(self):
        self.assert_recovered(*self.down_for(12))

    @full
    def test_link_down_for_minutes(self):
        """Each try has failed until then, with the longest pauses between two."""
        source, destination, receive, migrate = self.down_for(200)
        self.wait_until(lambda: "post-copy" == [
            event["phase"] for event in receive.events if event["event"] == "phase"][-1], 20,
            "connected again: a pause of 5 s and a try after the link is back")
        self.assert_recovered(source, destination, receive, migrate)


class Refused(RecoveryCase):
    """The destination's QEMU does not run the VM that it was given."""

    def test_qemu_refuses_to_run_it(self):
        """Somebody has the disk's lock. All memory comes all the same, and an operator runs the VM."""
        disk = os.path.join(self.workdir, "disk.raw")
        run("truncate", "-s", "1M", disk)
        words = ("-drive", f"file={disk},format=raw,if=none,id=disk",
                 "-device", "virtio-blk-pci,drive=disk")
        source, destination = self.working(extra=words), self.waiting(extra=words)
        receive = self.receive(destination, extra=self.run_directory)
        relay = self.relay(receive.port)
        relay.hold_at("Commit")
        migrate = self.send(source, relay.port, extra=self.run_directory)
        relay.wait_held()
        with open(disk, "r+b") as other:
            fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _QEMU_WRITES)
            relay.release()
            for command in (migrate, receive):
                self.assert_failed(command, command.wait(60), 3, "destination", "lock")
        self.assertEqual("paused", destination.status())
        self.assertEqual("postmigrate", source.status())
        for side in ("migrate", "receive"):
            again = self.operator(side, "--resume", migrate.last["id"])
            self.assertEqual(2, again.process.wait(20), again.describe())
        source.kill()
        destination.qmp.execute("cont")
        self.assert_works(destination)


class Guest(RecoveryCase):
    """The Linux guest reads every word of its memory afterwards."""

    def test_checking_guest(self):
        source, destination = self.pair(mib=192, kernel="fl.mib=96")
        source.wait_ready()
        receive = self.receive(destination)
        relay = self.relay(receive.port)
        migrate = self.send(source, relay.port, extra=("--bandwidth", "20M", "--compress", "off"))
        destination.wait_status("running")
        for _ in range(3):
            time.sleep(0.7)
            relay.reset()
        for command in (migrate, receive):
            self.assertEqual(0, command.wait(90), command.describe())
        self.assertGreaterEqual(receive.last["reconnects"], 1)
        self.assert_guest_right(destination)


class Words(KillCase):
    """The link is cut at each word that a new connection takes."""

    def test_cut_at_each_word(self):
        for word in ("Welcome", "Commit", "Running", "StillMissingEnd"):
            with self.subTest(before=word):
                destination = self.waiting()
                receive = self.receive(destination)
                relay = self.relay(receive.port)
                migrate = self.send(self.source, relay.port, extra=SLOW)
                destination.wait_status("running")
                relay.hold_at(word)
                relay.reset_connections()
                relay.wait_held()
                relay.reset()
                self.assertEqual(0, migrate.wait(60), migrate.describe())
                self.assertEqual(0, receive.wait(60), receive.describe())
                self.assert_works(destination)
                for thing in (destination, self.source):
                    thing.kill()
                self.source = self.working()

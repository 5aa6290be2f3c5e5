"""Whatever dies before the handover, the VM runs on at the source, and there only.

The control connection goes through a relay that stops at a chosen message, so that a kill falls
between two steps for sure (docs/protocol.md has the sequence).
"""

import os
import pathlib
import random
import signal
import time

from rig.case import full
from rig.kill import ALL_POINTS, KillCase, POINTS
from rig.net import HOSTS, Lan
from rig.process import has_ended

SEED = int(os.environ.get("FAULTLINE_SEED", "1"))


class Kill(KillCase):
    # --- migrate, the guardian's parent: the guardian puts the VM back to work

    def kill_migrate(self, move):
        move.migrate.signal(signal.SIGKILL)
        move.let_die("source")
        self.assert_back(move)
        self.assert_receive_gave_up(move)

    def test_migrate_killed(self):
        self.at_each(POINTS, self.kill_migrate)

    @full
    def test_migrate_killed_everywhere(self):
        self.at_each(ALL_POINTS, self.kill_migrate)

    # --- receive: its own guardian ends the destination's QEMU

    def kill_receive(self, move):
        move.receive.signal(signal.SIGKILL)
        move.let_die("destination")
        self.assert_back(move)
        if move.loaded:
            self.assertEqual("paused", move.destination.status())
        else:
            self.assert_gone(move.destination)
        if not move.tells:
            self.assert_migrate_gave_up(move, "lost the destination")

    def test_receive_killed(self):
        self.at_each(POINTS, self.kill_receive)

    @full
    def test_receive_killed_everywhere(self):
        self.at_each(ALL_POINTS, self.kill_receive)

    def test_both_killed(self):
        def case(move):
            move.migrate.signal(signal.SIGKILL)
            move.receive.signal(signal.SIGKILL)
            move.relay.cut()
            self.assert_back(move)
        self.at_each(("Accepted", "Frozen", "DeviceStateEnd", "Loaded"), case)

    # --- the guardian: without it nobody would put the VM back, so migrate does not go on

    def kill_guardian(self, move):
        guardians = [pid for pid, parent in self.guardians().items()
                     if parent == move.migrate.process.pid]
        self.assertEqual(1, len(guardians))
        os.kill(guardians[0], signal.SIGKILL)
        self.wait_until(lambda: has_ended(guardians[0]), 5, "the guardian's end")
        move.relay.release()
        self.assert_migrate_gave_up(move, "guardian", "migrate again")
        self.assert_back(move)
        self.assert_failed(move.receive, move.receive.wait(15), 1, "source", "guardian")
        self.assert_gone(move.destination)

    def test_guardian_killed(self):
        self.at_each(("Welcome", "Accepted", "Ready"), self.kill_guardian)

    def test_guardian_killed_then_migrate_before_the_freeze(self):
        """Both in the wrong order: the VM has not been stopped yet, so it simply runs on."""
        move = self.stopped_at("Ready")
        for pid, parent in self.guardians().items():
            if parent == move.migrate.process.pid:
                os.kill(pid, signal.SIGKILL)
        move.migrate.signal(signal.SIGKILL)
        move.relay.swallow()
        self.assert_back(move)
        self.assert_receive_gave_up(move)

    # --- the destination's QEMU

    def kill_destination_qemu(self, move):
        move.destination.process.kill()
        move.relay.release()
        self.assert_back(move)
        self.assert_migrate_gave_up(move, "destination")
        self.assert_failed(move.receive, move.receive.wait(15), 1, "source")
        # Its monitor or its memory tells first.
        for command in (move.migrate, move.receive):
            self.assertRegex(command.last["error"], "QEMU|process is gone")

    def test_destination_qemu_killed(self):
        self.at_each(("Welcome", "Accepted", "Ready", "Frozen", "DeviceStateEnd"),
                     self.kill_destination_qemu)

    def test_destination_host_dies_loaded(self):
        """QEMU, command and link at once, after the load: the source alone decides."""
        def case(move):
            move.destination.process.kill()
            move.receive.signal(signal.SIGKILL)
            move.relay.cut()
            self.assert_back(move)
        self.at_each(("Loaded",), case)

    # --- the link

    def cut_link(self, move):
        move.relay.cut()
        self.assert_back(move)
        self.assert_receive_gave_up(move)
        if not move.tells:
            self.assert_migrate_gave_up(move, "lost the destination")

    def test_link_cut(self):
        self.at_each(POINTS, self.cut_link)

    @full
    def test_link_cut_everywhere(self):
        self.at_each(ALL_POINTS, self.cut_link)

    def test_link_silent_while_frozen(self):
        """Nothing is refused and nothing arrives: only the clock tells."""
        def case(move):
            move.relay.silence()
            begin_s = time.monotonic()
            self.assert_back(move)
            self.assertLess(time.monotonic() - begin_s, 4)
        self.at_each(("Frozen", "Loaded"), case)

    def test_link_back_after_the_load(self):
        """The destination, loaded and paused, learns from the source that the VM stays there."""
        def case(move):
            move.relay.reset()
            self.assert_back(move)
            self.assert_migrate_gave_up(move, "lost the destination")
            self.assert_failed(move.receive, move.receive.wait(15), 1, "source", "source")
            self.assert_gone(move.destination)
        self.at_each(("Loaded",), case)

    def test_a_failed_move_can_be_tried_again(self):
        move = self.stopped_at("DeviceStateEnd")
        move.relay.cut()
        self.assert_back(move)
        self.clear(move)
        again = self.waiting()
        receive = self.receive(again)
        migrate = self.send(self.source, receive.port)
        self.assertEqual(0, migrate.wait(30), migrate.describe())
        self.assertEqual(0, receive.wait(30), receive.describe())
        self.assert_works(again)

    # --- Ctrl-C and the like

    def interrupt(self, who, number):
        def case(move):
            getattr(move, who).signal(number)
            self.assert_back(move)
            name = signal.Signals(number).name
            move.relay.release()
            self.assert_failed(move.migrate, move.migrate.wait(15), 1, "source", name)
            self.assert_failed(move.receive, move.receive.wait(15), 1, "source", name)
            self.assert_gone(move.destination)
        return case

    def test_migrate_interrupted(self):
        self.at_each(POINTS, self.interrupt("migrate", signal.SIGINT))

    def test_migrate_terminated(self):
        self.at_each(("Accepted", "Loaded"), self.interrupt("migrate", signal.SIGTERM))

    def test_receive_interrupted(self):
        self.at_each(("Offer", "Ready", "Frozen", "DeviceStateEnd"),
                     self.interrupt("receive", signal.SIGINT))

    def test_receive_terminated(self):
        self.at_each(("Frozen",), self.interrupt("receive", signal.SIGTERM))

    def test_receive_interrupted_while_the_source_decides(self):
        """Loaded is out: it must wait for the source's word, and says so."""
        move = self.stopped_at("Loaded")
        move.receive.signal(signal.SIGINT)
        notice = move.receive.wait_event("notice")
        self.assertIn("source is deciding", notice["text"])
        move.relay.release()
        self.assertEqual(0, move.migrate.wait(30), move.migrate.describe())
        self.assertEqual(0, move.receive.wait(30), move.receive.describe())
        self.assert_works(move.destination)

    def test_interrupted_before_anybody_came(self):
        destination = self.waiting()
        receive = self.receive(destination)
        self.assertGreater(receive.port, 0)
        receive.signal(signal.SIGINT)
        self.assert_failed(receive, receive.wait(10), 1, "source", "SIGINT")

    # --- any moment

    def any_moment(self, count):
        """Kills somebody at a moment of the first 150 ms; the VM may be over by then."""
        chance = random.Random(SEED)
        for number in range(count):
            victim = chance.choice(("migrate", "receive", "destination", "link"))
            delay_s = chance.uniform(0, 0.15)
            with self.subTest(seed=SEED, number=number, victim=victim, delay_s=delay_s):
                if self.one_moment(victim, delay_s):
                    self.source.kill()
                    self.source = self.working()

    @staticmethod
    def committed(migrate):
        """What the source's journal says: the VM's state alone cannot tell a handed-over VM from
        one that nobody has."""
        identity = next((event["id"] for event in migrate.events if event.get("id")), None)
        if identity is None:
            return False
        journal = pathlib.Path(f"/run/faultline/{identity}.source.journal")
        return journal.exists() and "4 committed\n" in journal.read_text()

    def one_moment(self, victim, delay_s):
        """True if the handover was over."""
        destination = self.waiting()
        receive = self.receive(destination)
        relay = self.relay(receive.port)
        migrate = self.send(self.source, relay.port)
        time.sleep(delay_s)
        if victim == "link":
            relay.cut()
        elif victim == "destination":
            destination.process.kill()
        else:
            {"migrate": migrate, "receive": receive}[victim].signal(signal.SIGKILL)
        time.sleep(2.5)
        committed = self.committed(migrate)
        if committed:
            self.assertIn(migrate.process.child.poll(), (None, 0, 3, -signal.SIGKILL),
                          migrate.describe())
            self.assertEqual("postmigrate", self.source.status())
            if victim != "destination":
                self.assertIn(destination.status(), ("running", "paused"))
            time.sleep(1)
            self.assertEqual("postmigrate", self.source.status(), "it must never resume by itself")
        else:
            self.assert_runs_on_source_only(self.source, destination)
            self.assertNotIn(migrate.process.child.poll(), (0, 3), migrate.describe())
        relay.close()
        for thing in (migrate, receive, destination):
            thing.kill()
        return committed

    def test_killed_at_any_moment(self):
        self.any_moment(3)

    @full
    def test_killed_at_very_many_moments(self):
        self.any_moment(40)


class AfterCommit(KillCase):
    """The handover's other side: from COMMIT on the VM is the destination's."""

    def assert_stays_paused(self, move, seconds=2):
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.assertEqual("postmigrate", move.source.status())
            self.assertEqual("paused", move.destination.status())
            time.sleep(0.1)

    def test_commit_lost_for_good(self):
        """Nobody can tell the destination: it stays paused, and the source never resumes."""
        move = self.stopped_at("Commit", extra=("--recovery-timeout", "4s"))
        move.relay.cut()
        self.assert_stays_paused(move)
        self.assert_failed(move.migrate, move.migrate.wait(30), 3, "destination",
                           "could not be reached again", "4.0 s")
        notices = [event["text"] for event in move.migrate.events if event["event"] == "notice"]
        self.assertTrue(any("could not be told" in text for text in notices), notices)
        notice = move.receive.wait_event("notice")
        self.assertIn("only the source can say", notice["text"])
        move.receive.signal(signal.SIGINT)
        self.assertEqual(3, move.receive.wait(10), move.receive.describe())
        self.assertFalse(move.receive.last["vm_owner_known"])
        self.assert_stays_paused(move, 0.5)

    def test_commit_lost(self):
        """The source says it again on a new connection, and its memory follows."""
        move = self.stopped_at("Commit")
        move.relay.reset()
        self.assertEqual(0, move.migrate.wait(30), move.migrate.describe())
        self.assertEqual(0, move.receive.wait(30), move.receive.describe())
        self.assertEqual(1, move.migrate.last["reconnects"])
        self.assertEqual("postmigrate", move.source.status())
        self.assert_works(move.destination)

    def test_migrate_killed_after_commit(self):
        """The journal says committed: the guardian leaves the VM alone."""
        move = self.stopped_at("Commit")
        move.migrate.signal(signal.SIGKILL)
        move.relay.swallow()
        self.assert_stays_paused(move, 3)

    def test_receive_killed_after_commit(self):
        move = self.stopped_at("Running")
        self.wait_until(lambda: move.destination.status() == "running", 5, "it runs there")
        move.receive.signal(signal.SIGKILL)
        move.relay.swallow()
        time.sleep(2)
        self.assertEqual("postmigrate", move.source.status())
        # A crashed receive freezes the VM until a new one takes over; its QEMU must live.
        self.assertTrue(move.destination.process.alive())

    def test_migrate_killed_in_post_copy(self):
        """Memory is still missing there: the source holds it, paused, and never resumes."""
        destination = self.waiting()
        receive = self.receive(destination, extra=("--recovery-timeout", "3s"))
        migrate = self.send(self.source, receive.port,
                            extra=("--bandwidth", "8M", "--compress", "off"))
        destination.wait_status("running")
        migrate.signal(signal.SIGKILL)
        self.assertEqual(3, receive.wait(20), receive.describe())
        self.assertEqual("destination", receive.last["vm_owner"])
        time.sleep(2)
        self.assertEqual("postmigrate", self.source.status())
        self.assertTrue(destination.process.alive())

    def test_interrupted_after_the_handover(self):
        """Neither side stops serving; both say so."""
        destination = self.waiting()
        receive = self.receive(destination)
        migrate = self.send(self.source, receive.port, extra=("--bandwidth", "30M"))
        destination.wait_status("running")
        for command in (migrate, receive):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                command.signal(number)
            self.assertIn("going on", command.wait_event("notice")["text"])
        self.assertEqual(0, migrate.wait(60), migrate.describe())
        self.assertEqual(0, receive.wait(60), receive.describe())
        self.assert_works(destination)


class LinkDown(KillCase):
    """A real link that goes down under both."""

    def setUp(self):
        super(KillCase, self).setUp()
        lan = Lan()
        self.addCleanup(lan.close)
        self.lan = lan

    def test_link_down_while_frozen(self):
        source = self.working(netns=self.lan.netns("h1"))
        destination = self.waiting(netns=self.lan.netns("h2"))
        receive = self.receive(destination, listen=f"tcp://{HOSTS['h2']}:0", extra=("--insecure",))
        relay = self.relay(receive.port, host=HOSTS["h2"], listen="10.77.0.1")
        relay.hold_at("DeviceStateEnd")
        migrate = self.send(source, relay.port, address="10.77.0.1", extra=("--insecure",))
        relay.wait_held()
        self.lan.cut("h1")
        self.lan.cut("h2")
        self.assert_runs_on_source_only(source, destination)
        self.assert_failed(receive, receive.wait(15), 1, "source", "lost the source")
        self.assert_gone(destination)
        self.lan.join("h1")
        self.lan.join("h2")
        self.assert_failed(migrate, migrate.wait(40), 1, "source", "lost the destination")

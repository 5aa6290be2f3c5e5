"""Peers that are no faultline, another version, or broken: nothing is harmed on this side.

One part speaks the protocol by hand (rig/wire.py).
"""

import socket
import struct
import time

from rig import wire
from rig.case import full
from rig.small import MIB, SmallVmCase

LAYOUT = (("ram0", MIB << 20, 4096),)
# What strangers send to a `receive` that waits.
STRANGERS = {
    "text": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 40,
    "much": b"\xff" * 1_000_000,
    "zeros": bytes(4096),
    "half a Hello": wire.hello()[:20],
    "Hello of 4 GiB": wire.message("Hello", b"FTLN", size=0xffffffff),
    "Hello with bad magic": wire.hello(magic=0x46554646),
    "Hello with bad role": wire.hello(role=9),
    "another message first": wire.offer(LAYOUT),
    "lane of no migration": wire.hello(wire.DEMAND, token=b"x" * 16),
}


class StrangersAtReceive(SmallVmCase):
    """What knocks at a port that waits must not disturb the migration that is to come."""

    every_qemu = False  # QEMU has no part in it

    def knock(self, port, data):
        peer = wire.Peer(socket.create_connection(("127.0.0.1", port)))
        self.addCleanup(peer.close)
        return peer.send(data)

    def test_strangers_then_a_migration(self):
        source, destination = self.working(), self.waiting()
        receive = self.receive(destination)
        for data in STRANGERS.values():
            self.knock(receive.port, data)
        silent = [self.knock(receive.port, b"") for _ in range(40)]
        self.assertEqual("inmigrate", destination.status())
        migrate = self.send(source, receive.port)
        self.assertEqual(0, migrate.wait(60), migrate.describe())
        self.assertEqual(0, receive.wait(60), receive.describe())
        self.assert_works(destination)
        for peer in silent:
            peer.close()

    def test_strangers_during_a_migration(self):
        """They get an answer or none, never a place in it; the guest's memory stays right."""
        source, destination = self.working(), self.waiting()
        receive = self.receive(destination)
        migrate = self.send(source, receive.port, extra=("--bandwidth", "24M"))
        destination.wait_status("running")
        for data in STRANGERS.values():
            self.knock(receive.port, data)
        busy = self.knock(receive.port, wire.hello())
        self.assertIn("another migration is under way", busy.expect_error())
        lane = self.knock(receive.port, wire.hello(wire.BULK, token=b"x" * 16))
        self.assertIn("belongs to no migration", lane.expect_error())
        outcome = self.knock(receive.port, wire.hello(wire.OUTCOME, token=b"x" * 16))
        self.assertIn("belongs to no migration", outcome.expect_error())
        self.assertTrue(migrate.process.alive(), "the strangers must fall into the post-copy")
        self.assertEqual(0, migrate.wait(60), migrate.describe())
        self.assertEqual(0, receive.wait(60), receive.describe())
        self.assert_works(destination)

    def test_source_of_another_version(self):
        destination = self.waiting()
        receive = self.receive(destination)
        sentence = self.knock(receive.port, wire.hello(versions=(7, 9))).expect_error()
        for words in ("7 to 9", "1 to 1", "same Faultline on both hosts"):
            self.assertIn(words, sentence)
        self.assertTrue(receive.process.alive(), "it waits for one that it understands")
        self.assertEqual("inmigrate", destination.status())

    def test_migration_after_a_wrong_version(self):
        source, destination = self.working(), self.waiting()
        receive = self.receive(destination)
        self.knock(receive.port, wire.hello(versions=(7, 9))).expect_error()
        migrate = self.send(source, receive.port)
        self.assertEqual(0, migrate.wait(60), migrate.describe())
        self.assert_works(destination)


class BadSourceAtReceive(SmallVmCase):
    """A source that shook hands and then misbehaves: `receive` fails, its QEMU is ended."""

    every_qemu = False  # QEMU has no part in it

    def begin(self):
        destination = self.waiting()
        receive = self.receive(destination)
        source = wire.HandMadeSource(receive.port, LAYOUT)
        self.addCleanup(source.close)
        return destination, receive, source

    def assert_ended(self, destination, receive, *words, timeout_s=15):
        self.assert_failed(receive, receive.wait(timeout_s), 1, "source", *words)
        self.assertEqual([], receive.garbage)
        self.assert_gone(destination)

    def check(self, step, data, *words):
        destination, receive, source = self.begin()
        getattr(source, step)()
        source.control.send(data)
        self.assert_ended(destination, receive, *words)

    def test_layouts_differ(self):
        cases = {
            "count": (LAYOUT + (("ram1", MIB << 20, 4096),), ("1 (", "2 RAM blocks", "same memory")),
            "size": ((("ram0", MIB << 21, 4096),), ("bytes on the source", "same memory size")),
            "page size": ((("ram0", MIB << 20, 2 << 20),), ("pages of", "same page size")),
            "name": ((("pc.ram", MIB << 20, 4096),), ("'pc.ram'", "'ram0'", "same id")),
        }
        for name, (layout, words) in cases.items():
            with self.subTest(name):
                destination, receive, source = self.begin()
                source.layout = layout
                source.greet().control.send(wire.offer(layout))
                sentence = source.control.expect_error()
                for word in words:
                    self.assertIn(word, sentence)
                self.assert_ended(destination, receive, *words)

    def test_layout_changed_at_the_freeze(self):
        self.check("join", wire.frozen((("ram0", MIB << 21, 4096),)), "layout changed", "again")

    def test_garbage_after_the_handshake(self):
        self.check("greet", b"\xff" * 1000, "type", "65535")

    def test_garbage_instead_of_the_freeze(self):
        self.check("join", b"\0" * 1000, "type")

    def test_more_than_a_message_may_hold(self):
        self.check("join", wire.message("DeviceState", size=1 << 30), "payload bytes", "at most")

    def test_message_out_of_place(self):
        self.check("greet", wire.message("Commit", struct.pack("<BQ", 1, 0)), "Commit", "no place")

    def test_commit_before_the_load(self):
        self.check("freeze", wire.message("Commit", struct.pack("<BQ", 1, 0)), "Commit", "no place")

    def test_pages_beyond_the_end(self):
        data = wire.frozen(LAYOUT) + wire.allocated(0, ((0, (MIB << 8) + 1),))
        self.check("join", data, "AllocatedRanges", str((MIB << 8) + 1))

    def test_pages_of_a_region_that_is_none(self):
        data = wire.frozen(LAYOUT) + wire.allocated(3, ((0, 1),))
        self.check("join", data, "AllocatedRanges.region", "3")

    def test_ranges_out_of_order(self):
        data = wire.frozen(LAYOUT) + wire.allocated(0, ((5, 9), (3, 4)))
        self.check("join", data, "ranges")

    def test_map_does_not_add_up(self):
        data = wire.frozen(LAYOUT) + wire.allocated(0, ((0, 4),)) + wire.map_end(5)
        self.check("join", data, "AllocationMapEnd.data_pages", "5", "4")

    def test_device_state_does_not_add_up(self):
        data = wire.message("DeviceState", b"x" * 100) + wire.device_state_end(99)
        self.check("freeze", data, "DeviceStateEnd.bytes_total", "99", "100")

    def test_device_state_is_garbage(self):
        data = wire.message("DeviceState", b"no QEMU wrote this " * 100)
        self.check("freeze", data + wire.device_state_end(1900), "load", "QEMU")

    def test_source_goes_away(self):
        for step in ("greet", "offer", "join", "freeze"):
            with self.subTest(step):
                destination, receive, source = self.begin()
                getattr(source, step)().close()
                self.assert_ended(destination, receive, "lost the source")

    def test_source_falls_silent_while_frozen(self):
        destination, receive, source = self.begin()
        source.freeze()
        self.assert_ended(destination, receive, "lost the source", "no word", timeout_s=5)

    def test_source_falls_silent_while_it_saves(self):
        """Device state may come before the word that the VM stands still."""
        destination, receive, source = self.begin()
        source.join().control.send(wire.message("DeviceState", b"QEVM\0\0\0\3"))
        self.assert_ended(destination, receive, "lost the source", "no word", timeout_s=5)

    @full
    def test_source_falls_silent_in_the_preparation(self):
        destination, receive, source = self.begin()
        source.greet()
        self.assert_ended(destination, receive, "lost the source", "no word", timeout_s=15)

    @full
    def test_lanes_never_come(self):
        destination, receive, source = self.begin()
        source.offer()
        end_s = time.monotonic() + 14
        while receive.process.alive() and time.monotonic() < end_s:
            source.control.send(wire.message("Heartbeat"))
            time.sleep(0.2)
        self.assert_ended(destination, receive, "lanes", "did not come")

    def test_source_refuses(self):
        """Its sentence is passed on; control characters in it are not."""
        self.check("offer", wire.peer_error(5, "no\x1b[31m reason"), "gave up", "no?[31m reason")


class BadDestinationAtMigrate(SmallVmCase):
    """`migrate` to something wrong: it says what, and the VM has not even noticed."""

    every_qemu = False  # QEMU has no part in it

    def setUp(self):
        super().setUp()
        self.source = self.working()

    def migrate_to(self, port, *words, timeout_s=15):
        migrate = self.send(self.source, port)
        self.assert_failed(migrate, migrate.wait(timeout_s), 1, "source", *words)
        self.assertEqual([], migrate.garbage)
        self.assert_works(self.source)
        self.assertEqual(set(), self.capabilities(self.source))
        self.assertEqual({}, self.guardians())

    def check(self, behave, *words, polite=True, **options):
        destination = wire.HandMadeDestination(behave, polite)
        self.addCleanup(destination.close)
        self.migrate_to(destination.port, *words, **options)

    def test_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        self.migrate_to(port, str(port), "faultline receive")

    def test_peer_sends_garbage(self):
        self.check(lambda peer, _: peer.send(b"220 mail.example ESMTP\r\n" * 40), "type",
                   polite=False)

    def test_peer_sends_too_much(self):
        self.check(lambda peer, _: peer.send(b"\xff" * 4_000_000), "type", polite=False)

    def test_welcome_promises_too_much(self):
        self.check(lambda peer, _: peer.send(wire.message("Welcome", size=1 << 30)),
                   "payload bytes", "at most")

    def test_peer_sends_nothing(self):
        self.check(lambda peer, _: peer.read(), "no word", "destination")

    def test_peer_closes_at_once(self):
        self.check(lambda peer, _: peer.close(), "lost the destination")

    def test_peer_of_another_version_refuses(self):
        text = "no common protocol version: the source speaks 1 to 1, the destination 7 to 9"
        self.check(lambda peer, _: peer.send(wire.peer_error(1, text)), text)

    def test_peer_of_another_version_answers(self):
        self.check(lambda peer, _: peer.send(wire.welcome(version=9)), "version", "9", "1 to 1")

    def test_peer_is_busy(self):
        text = "another migration is under way to this destination"
        self.check(lambda peer, _: peer.send(wire.peer_error(2, text)), text)

    def test_message_out_of_place(self):
        def behave(peer, _):
            peer.send(wire.welcome()).expect("Offer")
            peer.send(wire.message("Loaded"))
            peer.read()
        self.check(behave, "Loaded", "no place")

    def test_lanes_are_refused(self):
        def behave(peer, role):
            if role != wire.CONTROL:
                peer.send(wire.peer_error(3, "this connection belongs to no migration"))
                return
            peer.send(wire.welcome()).expect("Offer")
            peer.send(wire.accepted()).read()
        self.check(behave, "lane", "belongs to no migration")

    def test_garbage_while_frozen(self):
        def then(peer):
            peer.skip_to("Frozen")
            peer.send(b"\xff" * 4096).expect_end()
        self.check(wire.ready_destination(then), "type")

    def test_refused_while_frozen(self):
        def then(peer):
            peer.skip_to("Frozen")
            peer.send(wire.peer_error(6, "the device is missing here")).expect_end()
        self.check(wire.ready_destination(then), "gave up", "the device is missing here")

    def test_silent_while_frozen(self):
        """The VM stands still for about a second and a half, no longer."""
        def then(peer):
            peer.skip_to("Frozen")
            peer.expect_end()
        self.check(wire.ready_destination(then), "lost the destination", "no word", timeout_s=10)
        stopped = self.source.qmp.wait_event("STOP")["host_s"]
        resumed = self.source.qmp.wait_event("RESUME", where=lambda _: True)["host_s"]
        self.assertLess(resumed - stopped, 3)

    @full
    def test_never_loads(self):
        """A sign of life now and then, but no Loaded: there is a limit to that too."""
        def then(peer):
            for _ in range(100):
                peer.send(wire.message("Heartbeat"))
                time.sleep(0.2)
        self.check(wire.ready_destination(then), "did not load the VM", timeout_s=25)

    def test_strange_addresses(self):
        for uri, words in (("tcp://no-such-host.invalid:1", "no-such-host.invalid"),
                           ("tcp://127.0.0.1:1", "127.0.0.1:1")):
            with self.subTest(uri):
                migrate = self.send(self.source, uri.rsplit(":", 1)[1],
                                    address=uri.split("//")[1].rsplit(":", 1)[0],
                                    extra=("--insecure",))
                self.assert_failed(migrate, migrate.wait(20), 1, "source", words)
        self.assert_works(self.source)

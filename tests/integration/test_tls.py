"""Migrations in TLS between two hosts, who is refused, and strangers in numbers."""

import os

from rig import tls
from rig.case import MigrationCase
from rig.net import HOSTS, Lan
from rig.small import SmallVmCase
from rig.strangers import Crowd


class BetweenHosts(MigrationCase):
    """Each host in a network namespace of its own, and no --insecure anywhere."""

    def setUp(self):
        super().setUp()
        lan = Lan()
        self.addCleanup(lan.close)
        self.source, self.destination = self.pair(
            mib=384, kernel="fl.mib=128", source_options={"netns": lan.netns("h1")},
            destination_options={"netns": lan.netns("h2")})
        self.source.wait_ready()

    def move(self, migrate_extra, receive_extra):
        move = self.migrate(self.source, self.destination, address=HOSTS["h2"],
                            migrate_extra=migrate_extra, receive_extra=receive_extra)
        for command in (move.migrate, move.receive):
            self.assertEqual("tcp+tls", command.last["transport"])
        self.assert_guest_right(self.destination)

    def test_certificates(self):
        authority = tls.Authority(os.path.join(self.workdir, "pki"))
        here = authority.folder("h1", hosts=f"IP:{HOSTS['h1']}", sides=("client",))
        there = authority.folder("h2", hosts=f"IP:{HOSTS['h2']}", sides=("server",))
        self.move(("--tls-dir", here), ("--tls-dir", there))

    def test_pre_shared_key(self):
        words = ("--tls-psk", tls.psk_file(os.path.join(self.workdir, "keys.psk")))
        self.move(words, words)


class Refused(SmallVmCase):
    """Whatever does not fit: exit status 1 with the reason, and the VM has not even noticed."""

    every_qemu = False  # QEMU has no part in it

    def setUp(self):
        super().setUp()
        self.authority = tls.Authority(os.path.join(self.workdir, "pki"))
        self.fitting = ("--tls-dir", self.authority.folder("fitting"))
        self.source, self.destination = self.working(), self.waiting()

    def refuse(self, migrate_extra, receive_extra, *words, notice=()):
        """`migrate` is turned away; `receive` says why, waits on, and takes one who fits."""
        receive = self.receive(self.destination, extra=receive_extra)
        migrate = self.send(self.source, receive.port, extra=migrate_extra)
        self.assert_failed(migrate, migrate.wait(20), 1, "source", *words)
        self.assertEqual([], migrate.garbage)
        self.assert_works(self.source)
        self.assertEqual({receive.process.pid}, set(self.guardians().values()))
        if notice:
            text = receive.wait_event("notice", 5)["text"]
            for word in notice:
                self.assertIn(word, text)
        self.assertTrue(receive.process.alive(), receive.describe())
        return receive

    def complete(self, receive, migrate_extra):
        migrate = self.send(self.source, receive.port, extra=migrate_extra)
        self.assertEqual(0, migrate.wait(60), migrate.describe())
        self.assertEqual(0, receive.wait(60), receive.describe())
        self.assert_works(self.destination)

    def test_plain_source_then_one_that_fits(self):
        receive = self.refuse((), self.fitting, "speaks TLS only", "--tls-dir", "--insecure",
                              notice=("came without TLS", "--tls-dir"))
        self.complete(receive, self.fitting)

    def test_plain_destination(self):
        receive = self.refuse(self.fitting, (), "answers without TLS", "--tls-dir", "--insecure",
                              notice=("wants TLS", "--tls-dir"))
        self.complete(receive, ())

    def test_source_of_another_authority(self):
        other = tls.Authority(os.path.join(self.workdir, "other"), "somebody else")
        self.refuse(("--tls-dir", other.folder("theirs")), self.fitting, "is refused",
                    "no authority", "ca-cert.pem", notice=("refuses", "server-cert.pem"))

    def test_destination_of_another_name(self):
        elsewhere = ("--tls-dir", self.authority.folder("elsewhere", hosts="DNS:h9.example"))
        receive = self.refuse(self.fitting, elsewhere, "is not for '127.0.0.1'", "--tls-hostname",
                              notice=("refuses", "server-cert.pem"))
        self.complete(receive, (*self.fitting, "--tls-hostname", "h9.example"))

    def test_another_key(self):
        keys = [tls.psk_file(os.path.join(self.workdir, f"keys{n}.psk")) for n in range(2)]
        receive = self.refuse(("--tls-psk", keys[0]), ("--tls-psk", keys[1]),
                              "another key of that name", notice=("another key",))
        self.complete(receive, ("--tls-psk", keys[1]))

    def test_key_that_others_may_read(self):
        """Found at home, before anybody is called."""
        key = os.path.join(self.fitting[1], "client-key.pem")
        os.chmod(key, 0o644)
        migrate = self.send(self.source, 1, extra=self.fitting)
        self.assert_failed(migrate, migrate.wait(10), 1, "source", key, "chmod 0600")
        keys = tls.psk_file(os.path.join(self.workdir, "keys.psk"))
        os.chmod(keys, 0o604)
        receive = self.receive(self.destination, extra=("--tls-psk", keys))
        self.assert_failed(receive, receive.wait(10), 1, "source", keys, "chmod 0600")
        self.assert_works(self.source)
        self.assertEqual("inmigrate", self.destination.status())


class Strangers(MigrationCase):
    """A thousand of them during one migration."""

    every_qemu = False  # QEMU has no part in it
    COUNT = 1000

    def test_a_thousand_during_a_migration(self):
        folder = ("--tls-dir", tls.Authority(os.path.join(self.workdir, "pki")).folder("host"))
        source, destination = self.pair(mib=384, kernel="fl.mib=32 fl.idle=128")
        source.wait_ready()
        move = self.begin(source, destination, receive_extra=folder,
                          migrate_extra=(*folder, "--bandwidth", "24M", "--compress", "off"))
        crowd = Crowd(move.receive.port, self.COUNT)
        destination.wait_status("running")
        self.assertLess(crowd.knocks, self.COUNT, "they must come before and after the handover")
        crowd.wait()
        self.assertEqual(self.COUNT, crowd.knocks)
        self.assertTrue(move.migrate.process.alive(), "128 MiB at 24 MB/s take over 5 s")
        self.assert_completed(move.wait())
        self.assert_guest_right(destination)
        notices = [event for event in move.receive.events if event["event"] == "notice"]
        self.assertLessEqual(len(notices), 9, "they must not fill the screen")

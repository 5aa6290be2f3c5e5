"""Something on the way changes one bit of a page: it is found out, nothing of it gets into the guest,
and the page comes again."""

import time

from rig.recovery import RecoveryCase


class OnItsWay(RecoveryCase):
    def assert_found_out(self, lane):
        source, destination, receive, migrate, relay = self.post_copy()
        relay.flip_once(lane)
        relay.wait_flipped()
        self.assert_recovered(source, destination, receive, migrate)
        for command in (migrate, receive):
            self.assertTrue(command.last["integrity"])
            self.assertEqual(1, command.last["integrity_mismatches"], command.describe())
            self.assertTrue([event for event in command.events if event["event"] == "notice"
                             and "changed between the source's memory and here" in event["text"]],
                            command.describe())

    def test_pushed_page(self):
        self.assert_found_out("bulk")

    def test_demanded_page(self):
        self.assert_found_out("demand")


class Agreement(RecoveryCase):
    def moved(self, receive_extra=(), migrate_extra=()):
        """What both commands say at the end about whether pages were checked."""
        source = self.working()
        destination = self.waiting()
        receive = self.receive(destination, extra=receive_extra)
        migrate = self.send(source, receive.port, extra=migrate_extra)
        for command in (migrate, receive):
            self.assertEqual(0, command.wait(60), command.describe())
        self.assert_works(destination)
        self.assertEqual(migrate.last["integrity"], receive.last["integrity"])
        return migrate.last["integrity"]

    def test_off_unless_the_other_side_asks(self):
        self.assertFalse(self.moved(migrate_extra=("--integrity", "off")))
        self.assertTrue(self.moved(receive_extra=("--integrity", "on"),
                                   migrate_extra=("--integrity", "off")))

    def test_kept_for_commands_that_are_started_again(self):
        source, destination, receive, migrate, _ = self.post_copy(
            extra=(*self.run_directory, "--integrity", "off"))
        time.sleep(0.5)
        for command in (receive, migrate):
            self.kill_command(command)
        receive, migrate = self.resume("receive"), self.resume("migrate")
        for command in (migrate, receive):
            self.assertEqual(0, command.wait(90), command.describe())
            self.assertFalse(command.last["integrity"])
        self.assert_works(destination)
        self.assertEqual("postmigrate", source.status())

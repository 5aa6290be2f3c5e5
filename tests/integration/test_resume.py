"""A command that is killed after the handover is started again with --resume, and the VM's memory is
right in the end."""

import json
import os
import random
import signal
import time

from rig import paths
from rig.process import run
from rig.recovery import SLOW, RecoveryCase

SEED = int(os.environ.get("FAULTLINE_SEED", "1"))


class Killed(RecoveryCase):
    def begin_post_copy(self):
        source, destination, receive, migrate, _ = self.post_copy(extra=self.run_directory)
        time.sleep(0.5)
        return source, destination, receive, migrate

    def assert_ended_well(self, source, destination, *commands):
        for command in commands:
            self.assertEqual(0, command.wait(90), command.describe())
            self.assertEqual("destination", command.last["vm_owner"])
        self.assertEqual("postmigrate", source.status())
        self.assert_works(destination)

    def test_receive_killed(self):
        source, destination, receive, migrate = self.begin_post_copy()
        self.kill_command(receive)
        time.sleep(1)
        self.assertTrue(destination.process.alive())
        again = self.resume("receive")
        self.assertEqual("listening", again.wait_event("listening")["event"])
        self.assert_ended_well(source, destination, migrate, again)
        self.assertGreaterEqual(migrate.last["reconnects"], 1)
        # What had arrived before is not fetched again.
        last = again.last
        self.assertLess(last["pages_demand"] + last["pages_pushed"],
                        last["pages_total"] - last["pages_absent"])

    def test_migrate_killed(self):
        source, destination, receive, migrate = self.begin_post_copy()
        self.kill_command(migrate)
        time.sleep(1)
        again = self.resume("migrate")
        self.assert_ended_well(source, destination, receive, again)
        self.assertEqual(receive.last["id"], again.last["id"])

    def test_both_killed(self):
        for first, second in (("receive", "migrate"), ("migrate", "receive")):
            with self.subTest(first=first):
                source, destination, receive, migrate = self.begin_post_copy()
                self.kill_command(receive)
                self.kill_command(migrate)
                commands = [self.resume(first)]
                time.sleep(1)
                commands.append(self.resume(second))
                self.assert_ended_well(source, destination, *commands)

    def test_killed_again_and_again(self):
        chance = random.Random(SEED)
        source, destination, receive, migrate = self.begin_post_copy()
        commands = {"receive": receive, "migrate": migrate}
        for _ in range(4):
            name = chance.choice(list(commands))
            if commands[name].process.child.poll() is not None:
                break
            self.kill_command(commands[name])
            commands[name] = self.resume(name)
            time.sleep(chance.uniform(0.1, 0.8))
        self.assert_ended_well(source, destination, *commands.values())

    def test_receive_killed_with_all_memory_here(self):
        """Its memory is let go, and the source has not been told: the next one tells it."""
        source, destination, receive, migrate, relay = self.post_copy(extra=self.run_directory)
        relay.hold_at("Completed")
        relay.wait_held()
        self.kill_command(receive)
        relay.reset()
        self.assert_works(destination)
        listed = self.operator("status", migrate.events[0]["id"]).events
        self.assertTrue(any(one["phase"] == "unfinished" and one["whole"] for one in listed), listed)
        again = self.resume("receive")
        self.assert_ended_well(source, destination, migrate, again)
        self.assertEqual(2, self.operator("receive", "--resume").process.child.returncode)

    def test_source_qemu_gone_too(self):
        """Its RAM file is enough."""
        source, destination, receive, migrate = self.begin_post_copy()
        self.kill_command(migrate)
        source.process.kill()
        again = self.resume("migrate")
        for command in (receive, again):
            self.assertEqual(0, command.wait(90), command.describe())
        self.assert_works(destination)

    def test_receive_killed_before_it_heard_commit(self):
        source = self.working()
        destination = self.waiting()
        receive = self.receive(destination, extra=self.run_directory)
        relay = self.relay(receive.port)
        relay.hold_at("Commit")
        migrate = self.send(source, relay.port, extra=(*SLOW, *self.run_directory))
        relay.wait_held()
        self.kill_command(receive)
        relay.reset()
        again = self.resume("receive")
        self.assertIn("only the source can say", again.wait_event("notice")["text"])
        self.assert_ended_well(source, destination, migrate, again)

    def test_checking_guest(self):
        """The Linux guest reads every word of its memory afterwards."""
        source, destination = self.pair(mib=192, kernel="fl.mib=96")
        source.wait_ready()
        receive = self.receive(destination, extra=self.run_directory)
        relay = self.relay(receive.port)
        migrate = self.send(source, relay.port,
                            extra=("--bandwidth", "20M", "--compress", "off", *self.run_directory))
        destination.wait_status("running")
        time.sleep(0.7)
        self.kill_command(receive)
        self.kill_command(migrate)
        commands = (self.resume("receive"), self.resume("migrate"))
        for command in commands:
            self.assertEqual(0, command.wait(90), command.describe())
        self.assert_guest_right(destination)


class WrongUse(RecoveryCase):
    every_qemu = False

    def assert_refused(self, command, exit_status, *words):
        self.assertEqual(exit_status, command.wait(20), command.describe())
        for word in words:
            self.assertIn(word, command.stderr())

    def test_nothing_to_resume(self):
        for name in ("receive", "migrate"):
            self.assert_refused(self.resume(name), 2, "nothing to take up")
        self.assert_refused(self.resume("migrate", extra=("--listen", "x")), 2)

    def test_still_running_then_completed(self):
        source, destination, receive, migrate, _ = self.post_copy(extra=self.run_directory)
        for name in ("receive", "migrate"):
            self.assert_refused(self.resume(name), 2, "is being run by process")
        for command in (migrate, receive):
            self.assertEqual(0, command.wait(60), command.describe())
        self.assert_works(destination)
        for name in ("receive", "migrate"):
            self.assert_refused(self.resume(name), 2, "nothing to take up")

    def test_unfinished_is_listed_and_blocks_a_second_migration(self):
        source, _ = self.killed()
        listed = run(paths.FAULTLINE, "status", "--json", *self.run_directory)
        rows = [json.loads(line) for line in listed.splitlines()]
        self.assertEqual({"source", "destination"}, {row["role"] for row in rows})
        self.assertEqual({"unfinished"}, {row["phase"] for row in rows})
        self.assertIn("migrate --resume", run(paths.FAULTLINE, "status", *self.run_directory))
        again = self.send(source, 1, extra=self.run_directory)
        self.assert_refused(again, 2, "migrate --resume " + rows[0]["id"])

    def killed(self):
        source, destination, receive, migrate, _ = self.post_copy(extra=self.run_directory)
        self.kill_command(receive)
        self.kill_command(migrate)
        return source, destination

    def test_ram_file_replaced_or_gone(self):
        source, _ = self.killed()
        path = source.backends[0].path
        os.rename(path, path + ".kept")
        self.assert_failed_after(self.resume("migrate"), "is gone")
        with open(path, "wb") as file:
            file.truncate(96 << 20)
        self.assert_failed_after(self.resume("migrate"), "is not the one")

    def assert_failed_after(self, command, *words):
        self.assert_failed(command, command.wait(20), 3, "destination", *words)

    def test_vm_started_by_hand_on_the_source(self):
        source, _ = self.killed()
        source.qmp.execute("cont")
        self.assert_failed_after(self.resume("migrate"), "runs here as well")

    def test_destination_qemu_is_another_one(self):
        """The hook of a new QEMU with the same sockets and RAM file has nothing armed."""
        _, destination = self.killed()
        destination.process.kill()
        for path in (destination.hook_socket, destination.rig_qmp, destination.engine_qmp):
            if os.path.exists(path):
                os.unlink(path)
        destination.qmp = None
        destination.start()
        self.assert_failed_after(self.resume("receive"), "not armed")

    def test_destination_qemu_is_gone(self):
        _, destination = self.killed()
        destination.process.kill()
        self.assert_failed_after(self.resume("receive"), "hook")

    def test_a_signal_does_not_end_it(self):
        """As in every command after the handover."""
        self.killed()
        again = self.resume("migrate")
        again.wait_event("phase")
        time.sleep(0.5)
        again.signal(signal.SIGINT)
        self.wait_until(lambda: any("going on" in event.get("text", "") for event in again.events),
                        5, "it says that it goes on")
        self.assertTrue(again.process.alive())

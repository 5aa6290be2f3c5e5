"""A move that is in post-copy for some seconds, for tests that break something then."""

import os
import signal

from . import faultline
from .small import SmallVmCase

# Slow enough that memory is missing for some seconds.
SLOW = ("--bandwidth", "6M", "--compress", "off")
BRISK = ("--bandwidth", "20M", "--compress", "off")


class RecoveryCase(SmallVmCase):
    def clear(self):
        """Nothing of a move is left, before the next one of the same test."""
        for thing in (*self.commands, *self.vms):
            thing.kill()
        self.wait_until(lambda: not self.guardians(), 5, "no guardian is left")
        self.commands.clear()
        self.vms.clear()

    def post_copy(self, extra=(), pace=SLOW, **options):
        """A move whose VM runs on the destination, with a relay in between."""
        source = self.working()
        destination = self.waiting()
        receive = self.receive(destination, extra=extra)
        relay = self.relay(receive.port, **options)
        migrate = self.send(source, relay.port, extra=(*pace, *extra))
        destination.wait_status("running")
        return source, destination, receive, migrate, relay

    def assert_recovered(self, source, destination, receive, migrate, at_least=1):
        """Both commands ended well after new connections, and the guest finds its memory right."""
        for command in (migrate, receive):
            self.assertEqual(0, command.wait(90), command.describe())
            self.assertGreaterEqual(command.last["reconnects"], at_least, command.describe())
            phases = [event["phase"] for event in command.events if event["event"] == "phase"]
            self.assertIn("reconnecting", phases)
            self.assertEqual("post-copy", phases[-1])
        self.assertEqual("postmigrate", source.status())
        self.assert_works(destination)

    # --- commands that die

    @property
    def run_directory(self):
        """Where this test's commands find their own migrations, and no other test's."""
        return ("--run-directory", os.path.join(self.workdir, "run"))

    def kill_command(self, command):
        command.signal(signal.SIGKILL)
        command.process.wait(10)

    def operator(self, *words, run_words=None):
        """Runs what an operator runs from another shell, with --json, and waits for its end."""
        command = faultline.Command([*words, "--json", *(run_words or self.run_directory)],
                                    self._log(words[0]))
        self._own(command)
        command.wait(30)
        return command

    def resume(self, subcommand, extra=(), run_words=None):
        command = faultline.resume(subcommand, self._log(subcommand),
                                   extra=(*(run_words or self.run_directory), *extra))
        self._own(command)
        return command

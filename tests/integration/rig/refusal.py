"""A migration that must be refused: who says what, and that nothing was harmed."""

import os

from .small import SmallVmCase


class RefusalCase(SmallVmCase):
    """The two QEMUs of a test are wrong in one point. The source's guest works before and after."""

    def refused_by_source(self, source, destination, *words):
        """`migrate` refuses before it calls anybody: the destination still waits."""
        receive = self.receive(destination)
        migrate = self.send(source, receive.port)
        self.assert_failed(migrate, migrate.wait(30), 1, "source", *words)
        self.assertTrue(receive.process.alive(), receive.describe())
        self.assertEqual("inmigrate", destination.status())
        self._assert_unharmed(source)
        self.assertEqual([], [event for event in migrate.events
                              if event.get("phase") == "preparing"], "it has called nobody")

    def refused_by_destination(self, destination, *words, source=None):
        """`receive` refuses before it listens."""
        receive = self.receive(destination)
        self.assert_failed(receive, receive.wait(30), 1, "source", *words)
        self.assertNotIn("listening", [event["event"] for event in receive.events])
        if source:
            self._assert_unharmed(source)
        return receive

    def refused_together(self, source, destination, *words):
        """Found out when the two meet: both say the same."""
        receive = self.receive(destination)
        migrate = self.send(source, receive.port)
        self.assert_failed(migrate, migrate.wait(30), 1, "source", *words)
        self.assert_failed(receive, receive.wait(30), 1, "source", *words)
        self.assert_gone(destination)
        self._assert_unharmed(source)

    def _assert_unharmed(self, source):
        self.assert_works(source)
        self.assertEqual({}, {pid: parent for pid, parent in self.guardians().items()
                              if not os.path.exists(f"/proc/{parent}")}, "guardians left alone")

    def completes(self, source, destination):
        """A migration between the two must succeed."""
        receive = self.receive(destination)
        migrate = self.send(source, receive.port)
        self.assertEqual(0, migrate.wait(60), migrate.describe())
        self.assertEqual(0, receive.wait(60), receive.describe())
        self.assert_works(destination)

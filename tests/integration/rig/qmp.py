"""A QEMU monitor client: commands with time limits, events kept for later."""

import json
import socket
import threading
import time


class QmpError(Exception):
    """The monitor answered a command with an error."""


class Qmp:
    """One connection. Commands may be given from several threads; answers are matched by id."""

    def __init__(self, path, timeout_s=10):
        self._socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._socket.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self._changed = threading.Condition()
        self._answers = {}
        self._greeted = False
        self._closed = False
        self._next_id = 0
        self.events = []  # dicts as QEMU sent them, with "host_s" (time.monotonic) added
        threading.Thread(target=self._read, daemon=True).start()
        with self._changed:
            if not self._changed.wait_for(lambda: self._greeted or self._closed, timeout_s):
                raise AssertionError(f"monitor {path} said nothing in {timeout_s} s: is it in use?")
        self.execute("qmp_capabilities")

    def _read(self):
        try:
            for line in self._socket.makefile("rb"):
                message = json.loads(line)
                with self._changed:
                    if "event" in message:
                        message["host_s"] = time.monotonic()
                        self.events.append(message)
                    elif "QMP" in message:
                        self._greeted = True
                    else:
                        self._answers[message.get("id")] = message
                    self._changed.notify_all()
        except (OSError, ValueError):
            pass
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def execute(self, command, timeout_s=30, **arguments):
        """Runs a command and returns its value; underscores in argument names become dashes."""
        with self._changed:
            self._next_id += 1
            number = self._next_id
            request = {"execute": command, "id": number}
            if arguments:
                request["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            if not self._changed.wait_for(
                    lambda: number in self._answers or self._closed, timeout_s):
                raise AssertionError(f"monitor: no answer to {command} in {timeout_s} s")
            if number not in self._answers:
                raise ConnectionError(f"monitor closed before it answered {command}")
            answer = self._answers.pop(number)
        if "error" in answer:
            raise QmpError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def hmp(self, line):
        """Runs a line of the human monitor and returns its text."""
        return self.execute("human-monitor-command", command_line=line)

    def wait_event(self, name, timeout_s=30, where=lambda data: True, after=0):
        """Waits for an event of that name and returns it; past ones count, from number `after` on."""
        def find():
            return next((event for event in self.events[after:]
                         if event["event"] == name and where(event.get("data", {}))), None)
        with self._changed:
            if not self._changed.wait_for(lambda: find() or self._closed, timeout_s) or not find():
                raise AssertionError(f"monitor: no event {name}; had "
                                     f"{[event['event'] for event in self.events]}")
            return find()

    def close(self):
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()

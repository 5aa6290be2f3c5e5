"""A monitor that forwards to a QEMU's own, up to a command that it holds back for good: whoever gave
that command can be killed at that very moment."""

import os
import socket
import threading


class MonitorProxy:
    """Listens at `path` and forwards to the monitor at `target`; a line that names the command
    `hold` goes no further, and neither does anything after it. For one client."""

    def __init__(self, path, target, hold):
        self._target = target
        self._hold = f'"{hold}"'.encode()
        self._held = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        os.chmod(path, 0o600)
        self._listener.listen(1)
        self._sockets = [self._listener]
        threading.Thread(target=self._serve, daemon=True).start()

    def wait_held(self, timeout_s=20):
        """Waits until the command has come."""
        if not self._held.wait(timeout_s):
            raise AssertionError(f"nobody gave the command {self._hold.decode()} in {timeout_s} s")

    def close(self):
        for one in self._sockets:
            one.close()

    def _serve(self):
        try:
            near, _ = self._listener.accept()
        except OSError:
            return
        far = socket.socket(socket.AF_UNIX)
        far.connect(self._target)
        self._sockets += [near, far]
        threading.Thread(target=self._answer, args=(far, near), daemon=True).start()
        for line in near.makefile("rb"):
            if self._hold in line:
                self._held.set()
                return
            far.sendall(line)

    @staticmethod
    def _answer(far, near):
        try:
            while data := far.recv(65536):
                near.sendall(data)
        except OSError:
            pass

"""A crowd at a destination's port that has no business there."""

import os
import socket
import threading
import time

from . import wire

# A ClientHello as its record's head promises, and only its beginning.
_HALF_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(40)
_WORDS = (b"", os.urandom(600), _HALF_HELLO, wire.hello(), wire.hello(wire.BULK, token=b"x" * 16))
_OPEN_MAX = 50


class Crowd:
    """`count` of them come one after the other, pause_s apart, each with some kind of nonsense; 50
    are kept open at a time. `knocks` says how many have been there."""

    def __init__(self, port, count, host="127.0.0.1", pause_s=0.003, time_limit_s=60):
        self.knocks = 0
        self._address = (host, port)
        self._count = count
        self._pause_s = pause_s
        self._end_s = time.monotonic() + time_limit_s
        self._thread = threading.Thread(target=self._knock, daemon=True)
        self._thread.start()

    def _knock(self):
        peers = []
        while self.knocks < self._count and time.monotonic() < self._end_s:
            try:
                peer = socket.create_connection(self._address, 5)
                peers.append(peer)
                peer.sendall(_WORDS[self.knocks % len(_WORDS)])
            except OSError:
                pass  # turned away: nobody owes a stranger more
            if len(peers) > _OPEN_MAX:
                peers.pop(0).close()
            self.knocks += 1
            time.sleep(self._pause_s)
        for peer in peers:
            peer.close()

    def wait(self, timeout_s=90):
        self._thread.join(timeout_s)

"""Just enough of a vhost-user back end for QEMU to start with a network card on it."""

import os
import socket
import struct
import threading

_HEADER = struct.Struct("<III")  # request, flags, payload bytes
_VERSION_REPLY = 1 | 4
# The requests that want an answer, and what to answer with: no features, no protocol features.
_ANSWERS = {1: 0, 15: 0, 17: 1}


class VhostUserBackEnd:
    """Listens at `path` until `close`."""

    def __init__(self, path):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(4)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _serve(connection):
        while True:
            try:
                header, fds, _, _ = socket.recv_fds(connection, _HEADER.size, 8)
                for fd in fds:
                    os.close(fd)
                if len(header) < _HEADER.size:
                    return
                request, _, size = _HEADER.unpack(header)
                if size:
                    connection.recv(size, socket.MSG_WAITALL)
                if request in _ANSWERS:
                    connection.sendall(_HEADER.pack(request, _VERSION_REPLY, 8)
                                       + struct.pack("<Q", _ANSWERS[request]))
            except OSError:
                return

    def close(self):
        self._listener.close()

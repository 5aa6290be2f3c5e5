"""A TCP relay between source and destination that can be slow, far, silent or cut."""

import socket
import threading
import time


class Relay:
    """Forwards every connection to (host, port). Loopback only.

    rate_bytes_s  limit per direction and connection; None: as fast as it goes
    delay_s       held back that long, both ways
    """

    def __init__(self, port, host="127.0.0.1", rate_bytes_s=None, delay_s=0.0):
        self.rate_bytes_s = rate_bytes_s
        self.delay_s = delay_s
        self.forwarded_bytes = 0
        self._target = (host, port)
        self._sockets = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            with self._lock:
                self._sockets += [near, far]
            for one, other in ((near, far), (far, near)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, source, sink):
        try:
            while True:
                rate = self.rate_bytes_s
                data = source.recv(65536 if rate is None else max(512, min(65536, rate // 100)))
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if rate is not None:
                    time.sleep(len(data) / rate)
                if self.delay_s:
                    time.sleep(self.delay_s)
                self._flowing.wait()
                sink.sendall(data)
                self.forwarded_bytes += len(data)
        except OSError:
            pass

    def silence(self):
        """Nothing passes any more, but the connections stay open. `flow` ends it."""
        self._flowing.clear()

    def flow(self):
        self._flowing.set()

    def cut(self):
        """Resets every connection and takes no new one."""
        self._listener.close()
        with self._lock:
            for one in self._sockets:
                try:
                    # Linger of zero: the peers see a reset.
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    one.shutdown(socket.SHUT_RDWR)
                    one.close()
                except OSError:
                    pass
        self._flowing.set()

    close = cut

"""A TCP relay between source and destination that can be slow, far, silent, cut, or stopped at a
chosen message of the control channel (docs/protocol.md)."""

import socket
import struct
import threading
import time

# Wire types: the order of `Message` in src/protocol/messages.h.
TYPES = {name: number for number, name in enumerate(
    ("Hello", "Welcome", "PeerError", "Offer", "Accepted", "Frozen", "AllocatedRanges",
     "AllocationMapEnd", "DeviceState", "DeviceStateEnd", "Loaded", "Commit", "Running",
     "Progress", "Completed", "Goodbye", "Heartbeat", "Ready", "StillMissing",
     "StillMissingEnd", "PackedDeviceState"), 1)}
HEADER = struct.Struct("<HHI")  # type, zero, payload bytes
_ROLE_OFFSET = HEADER.size + 8  # of the role in Hello: after the magic and the two versions
_CONTROL = (1, 5)               # the first one, and one that resumes
_RESET = b"\1\0\0\0\0\0\0\0"    # linger of zero: closing resets the connection


class _Connection:
    """The two sockets of one relayed connection."""

    def __init__(self, near, far):
        self.near = near
        self.far = far
        self.control = False

    def close(self, reset=True):
        for one in (self.near, self.far):
            try:
                if reset:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()


class Relay:
    """Forwards every connection to (host, port).

    listen        address to listen on
    rate_bytes_s  limit per direction and connection; None: as fast as it goes
    delay_s       held back that long, both ways
    """

    def __init__(self, port, host="127.0.0.1", rate_bytes_s=None, delay_s=0.0, listen="127.0.0.1"):
        self.rate_bytes_s = rate_bytes_s
        self.delay_s = delay_s
        self.forwarded_bytes = 0
        self._target = (host, port)
        self._connections = []
        self._changed = threading.Condition()
        self._silent = False
        self._stop_type = None   # the message to stop at
        self._held = False       # ... and it is here
        self._swallows = False
        self._listener = socket.create_server((listen, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    # --- what the test does

    def hold_at(self, message):
        """Stops the control channel before the next message of this type: neither it nor anything
        after it in its direction passes, until `release` or `swallow`."""
        with self._changed:
            self._stop_type = TYPES[message]
            self._held = self._swallows = False

    def wait_held(self, timeout_s=40):
        """Waits until the message has come."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._held, timeout_s):
                raise AssertionError(f"message type {self._stop_type} did not come in "
                                     f"{timeout_s} s")

    def release(self):
        """Lets the held message pass: as if what happened meanwhile had happened just after it."""
        with self._changed:
            self._stop_type = None
            self._held = False
            self._changed.notify_all()

    def swallow(self):
        """Loses the held message and all that follows in its direction, but forwards the end of the
        connection: as if its sender had died just before it."""
        with self._changed:
            self._swallows = True
            self._stop_type = None
            self._held = False
            self._changed.notify_all()

    def silence(self):
        """Nothing passes any more, but the connections stay open. `flow` ends it."""
        with self._changed:
            self._silent = True

    def flow(self):
        with self._changed:
            self._silent = False
            self._changed.notify_all()

    def reset_connections(self):
        """Resets every connection, but takes new ones, and still stops where it was told to."""
        with self._changed:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def reset(self):
        """Resets every connection, but takes new ones; nothing is held back any more."""
        self.reset_connections()
        # Only now, or a message that is held would still get through.
        with self._changed:
            self._stop_type = None
            self._held = False
            self._silent = False
            self._changed.notify_all()

    def cut(self):
        """Resets every connection and takes no new one."""
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self.reset()

    close = cut

    # --- the relay's own threads

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            connection = _Connection(near, far)
            with self._changed:
                self._connections.append(connection)
            for source, sink in ((near, far), (far, near)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(connection, source, sink),
                                 daemon=True).start()

    def _pump(self, connection, source, sink):
        try:
            if source is connection.near:
                hello = read_message(source)
                if len(hello) > _ROLE_OFFSET:
                    connection.control = hello[_ROLE_OFFSET] in _CONTROL
                self._pass(connection, hello, sink)
            while True:
                # The far side speaks only after Hello: the role is known by now.
                data = self._read(connection, source)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                self._pass(connection, data, sink)
        except OSError:
            connection.close()

    def _read(self, connection, source):
        first = source.recv(HEADER.size, socket.MSG_PEEK)
        if first and connection.control:
            return read_message(source)
        rate = self.rate_bytes_s
        return source.recv(65536 if rate is None else max(512, min(65536, rate // 100)))

    def _pass(self, connection, data, sink):
        if connection.control and len(data) >= HEADER.size:
            kind = HEADER.unpack(data[:HEADER.size])[0]
            with self._changed:
                if kind == self._stop_type and not self._held:
                    self._held = True
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: not self._held)
                    if self._swallows:
                        self._swallows = False
                        swallow = True
                    else:
                        swallow = False
                else:
                    swallow = False
            if swallow:
                source = connection.near if sink is connection.far else connection.far
                while source.recv(65536):
                    pass
                raise ConnectionResetError("its sender has died")
        self._send(data, sink)

    def _send(self, data, sink):
        rate = self.rate_bytes_s
        step = len(data) if rate is None else max(512, rate // 100)
        for begin in range(0, len(data), max(step, 1)):
            piece = data[begin:begin + step]
            if rate is not None:
                time.sleep(len(piece) / rate)
            if self.delay_s:
                time.sleep(self.delay_s)
            with self._changed:
                self._changed.wait_for(lambda: not self._silent)
            sink.sendall(piece)
            self.forwarded_bytes += len(piece)


def read_message(source):
    """A whole control message, or what came of it before the end."""
    data = _read_exactly(source, HEADER.size)
    if len(data) < HEADER.size:
        return data
    return data + _read_exactly(source, HEADER.unpack(data)[2])


def _read_exactly(source, count):
    data = b""
    while len(data) < count:
        piece = source.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data

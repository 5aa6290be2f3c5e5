"""A TCP relay between source and destination that can be slow, far, silent, cut, wrong, or stopped
at a chosen message of the control channel (docs/protocol.md)."""

import queue
import random
import socket
import struct
import threading
import time

# Wire types: the order of `Message` in src/protocol/messages.h.
TYPES = {name: number for number, name in enumerate(
    ("Hello", "Welcome", "PeerError", "Offer", "Accepted", "Frozen", "AllocatedRanges",
     "AllocationMapEnd", "DeviceState", "DeviceStateEnd", "Loaded", "Commit", "Running",
     "Progress", "Completed", "Goodbye", "Heartbeat", "Ready", "StillMissing",
     "StillMissingEnd", "PackedDeviceState", "Mismatch"), 1)}
HEADER = struct.Struct("<HHI")  # type, zero, payload bytes
_ZERO_OFFSET = 2                # of the zero in a head
_ROLE_OFFSET = HEADER.size + 8  # of the role in Hello: after the magic and the two versions
# Roles in Hello: the first control connection, or one that resumes; then the lanes.
_LANES = {1: "control", 5: "control", 2: "demand", 3: "bulk"}
_QUEUED_PIECES_MAX = 256        # of a connection that is far away
_FLIPPED_MIN = 2048             # of what a lane brings at once: most of it is a page then
_FLIPPED_OFFSET = 1024          # in it: behind the head of what comes first
_RESET = b"\1\0\0\0\0\0\0\0"    # linger of zero: closing resets the connection


class _Connection:
    """The two sockets of one relayed connection."""

    def __init__(self, near, far):
        self.near = near
        self.far = far
        self.lane = None   # control, demand or bulk, once its Hello has passed
        self.over = False  # one of its directions has ended
        self.half = False  # only the source's end was closed

    def close(self, reset=True):
        for one in (self.near, self.far):
            _close(one, reset)


class _FarSink:
    """Hands on what it gets, each piece delay_s later, however many are on their way."""

    def __init__(self, sink, delay_s):
        self._sink = sink
        self._delay_s = delay_s
        self._pieces = queue.Queue(_QUEUED_PIECES_MAX)
        threading.Thread(target=self._run, daemon=True).start()

    def sendall(self, data):
        self._pieces.put((time.monotonic() + self._delay_s, data))

    def shutdown(self, _):
        self.sendall(b"")

    def _run(self):
        while True:
            due_s, data = self._pieces.get()
            time.sleep(max(0.0, due_s - time.monotonic()))
            try:
                if not data:
                    return self._sink.shutdown(socket.SHUT_WR)
                self._sink.sendall(data)
            except OSError:
                _close(self._sink, reset=True)
                return None


class Relay:
    """Forwards every connection to (host, port).

    listen        address to listen on
    rate_bytes_s  limit per direction and connection; None: as fast as it goes. May be changed.
    delay_s       held back that long, both ways
    opaque        what passes is encrypted: no message can be told from another. Lanes are known by
                  their order: control, demand, bulk, and so again after each loss
    """

    def __init__(self, port, host="127.0.0.1", rate_bytes_s=None, delay_s=0.0, listen="127.0.0.1",
                 opaque=False):
        self.rate_bytes_s = rate_bytes_s
        self.delay_s = delay_s
        self.opaque = opaque
        self.forwarded_bytes = 0
        self.corrupted = 0       # bits that were turned
        self._target = (host, port)
        self._connections = []
        self._changed = threading.Condition()
        self._silent = False
        self._refuses = False
        self._corrupt = None     # (lane or None, bytes to let pass)
        self._corrupt_head = False
        self._chance = random.Random(1)
        self._stop_type = None   # the message to stop at
        self._held = False       # ... and it is here
        self._swallows = False
        self._flip_lane = None   # the lane of which a byte is to change
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

    def hold_at_if_free(self, message):
        """As hold_at, unless that message is held already."""
        with self._changed:
            if self._stop_type == TYPES[message] and self._held:
                return
        self.hold_at(message)

    @property
    def held(self):
        return self._held

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

    def flip_once(self, lane):
        """Changes one bit of what that lane ("demand", "bulk") brings to the destination next, inside
        a page."""
        with self._changed:
            self._flip_lane = lane

    def wait_flipped(self, timeout_s=40):
        with self._changed:
            if not self._changed.wait_for(lambda: self._flip_lane is None, timeout_s):
                raise AssertionError(f"the lane brought no page in {timeout_s} s")

    def silence(self):
        """Nothing passes any more, but the connections stay open. `flow` ends it."""
        with self._changed:
            self._silent = True

    def flow(self):
        with self._changed:
            self._silent = False
            self._changed.notify_all()

    def corrupt(self, lane=None, skip_bytes=0):
        """Turns one bit of what passes on that lane (None: any) from then on, after skip_bytes."""
        with self._changed:
            self._corrupt = (lane, skip_bytes)

    def corrupt_head(self):
        """Turns one bit of the next control message's head: of the field that is always zero."""
        with self._changed:
            self._corrupt_head = True

    def down(self):
        """Resets every connection and takes no new one, until `up`."""
        self._refuses = True
        self.reset()

    def up(self):
        self._refuses = False

    def half_close(self):
        """Resets the source's end of each connection; the destination's stays open, and silent."""
        with self._changed:
            connections = list(self._connections)
        for connection in connections:
            connection.half = True
            connection.over = True
            _close(connection.near, reset=True)

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
            if self._refuses:
                _close(near, reset=True)
                continue
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(near, far)
            with self._changed:
                if self.opaque:
                    alive = sum(not one.over for one in self._connections)
                    connection.lane = ("control", "demand", "bulk")[min(alive, 2)]
                self._connections.append(connection)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(connection, source, sink),
                                 daemon=True).start()

    def _pump(self, connection, source, sink):
        if self.delay_s:
            sink = _FarSink(sink, self.delay_s)
        try:
            if source is connection.near and not self.opaque:
                hello = read_message(source)
                if len(hello) > _ROLE_OFFSET:
                    connection.lane = _LANES.get(hello[_ROLE_OFFSET])
                self._pass(connection, source, hello, sink)
            while True:
                # The far side speaks only after Hello: the role is known by now.
                data = self._read(connection, source)
                if not data:
                    connection.over = True
                    sink.shutdown(socket.SHUT_WR)
                    return
                if source is connection.near:
                    data = self._flip(connection, data)
                self._pass(connection, source, data, sink)
        except OSError:
            connection.over = True
            if not connection.half:
                connection.close()

    def _flip(self, connection, data):
        with self._changed:
            if connection.lane != self._flip_lane or len(data) < _FLIPPED_MIN:
                return data
            self._flip_lane = None
            self._changed.notify_all()
        turned = bytearray(data)
        turned[_FLIPPED_OFFSET] ^= 0x10
        return bytes(turned)

    def _read(self, connection, source):
        first = source.recv(HEADER.size, socket.MSG_PEEK)
        if first and connection.lane == "control" and not self.opaque:
            return read_message(source)
        rate = self.rate_bytes_s
        return source.recv(65536 if rate is None else max(512, min(65536, rate // 100)))

    def _pass(self, connection, source, data, sink):
        if connection.lane == "control" and not self.opaque and len(data) >= HEADER.size:
            self._stop_here(HEADER.unpack(data[:HEADER.size])[0], source)
        self._send(self._corrupted(connection, data), sink)

    def _stop_here(self, kind, source):
        with self._changed:
            if kind != self._stop_type or self._held:
                return
            self._held = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._held)
            swallow, self._swallows = self._swallows, False
        if swallow:
            while source.recv(65536):
                pass
            raise ConnectionResetError("its sender has died")

    def _corrupted(self, connection, data):
        with self._changed:
            is_message = connection.lane == "control" and not self.opaque
            if self._corrupt_head and is_message and len(data) >= HEADER.size:
                self._corrupt_head = False
                return self._turned(data, _ZERO_OFFSET)
            if self._corrupt is None or self._corrupt[0] not in (None, connection.lane):
                return data
            lane, skip_bytes = self._corrupt
            if skip_bytes >= len(data):
                self._corrupt = (lane, skip_bytes - len(data))
                return data
            self._corrupt = None
            return self._turned(data, skip_bytes)

    def _turned(self, data, offset):
        self.corrupted += 1
        turned = bytearray(data)
        turned[offset] ^= 1 << self._chance.randrange(8)
        return bytes(turned)

    def _send(self, data, sink):
        while data:
            rate = self.rate_bytes_s
            step = len(data) if rate is None else max(512, rate // 100)
            piece, data = data[:step], data[step:]
            if rate is not None:
                time.sleep(len(piece) / rate)
            with self._changed:
                self._changed.wait_for(lambda: not self._silent)
            sink.sendall(piece)
            self.forwarded_bytes += len(piece)


def _close(one, reset):
    try:
        if reset:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    one.close()


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

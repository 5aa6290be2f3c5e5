"""The engines' protocol spoken by hand (docs/protocol.md), right or wrong: strangers and bad peers."""

import os
import socket
import struct
import threading

from .relay import HEADER, TYPES, read_message

_MAGIC = 0x4e4c5446
CONTROL, DEMAND, BULK, OUTCOME, RESUME = 1, 2, 3, 4, 5
NAMES = {number: name for name, number in TYPES.items()}


def message(kind, payload=b"", zero=0, size=None):
    """A control message; `size` lies about the payload's."""
    return HEADER.pack(TYPES[kind], zero, len(payload) if size is None else size) + payload


def hello(role=CONTROL, versions=(1, 1), token=bytes(16), identity=bytes(16), magic=_MAGIC):
    return message("Hello", struct.pack("<IHHBBH", magic, *versions, role, 0, 0) + identity + token)


def welcome(version=1, token=bytes(16)):
    return message("Welcome", struct.pack("<IHH", _MAGIC, version, 0) + token)


def peer_error(code, text):
    text = text.encode()
    return message("PeerError", struct.pack("<IHHI", _MAGIC, code, 0, len(text)) + text)


def _text(text):
    return struct.pack("<I", len(text)) + text.encode()


def _layout(layout):
    """layout: (name, size_bytes, page_size_bytes) ..."""
    data = struct.pack("<I", len(layout))
    for name, size, page_size in layout:
        data += struct.pack("<QQH", size, page_size, len(name)) + name.encode()
    return data


def offer(layout, vmm="QEMU by hand"):
    return message("Offer", _layout(layout) + _text(vmm))


def accepted(vmm="QEMU by hand"):
    return message("Accepted", _text(vmm))


def frozen(layout):
    return message("Frozen", _layout(layout))


def allocated(region, ranges):
    return message("AllocatedRanges", struct.pack("<II", region, len(ranges))
                   + b"".join(struct.pack("<QQ", *one) for one in ranges))


def map_end(data_pages):
    return message("AllocationMapEnd", struct.pack("<Q", data_pages))


def device_state_end(size):
    return message("DeviceStateEnd", struct.pack("<Q", size))


class Peer:
    """One connection, spoken by hand."""

    def __init__(self, connection):
        self.socket = connection
        self.socket.settimeout(20)

    def send(self, data):
        """Sends; that the other side has thrown us out is no error here."""
        try:
            self.socket.sendall(data)
        except OSError:
            pass
        return self

    def read(self, alive=False):
        """The next message but heartbeats, as (name, payload); ("end", b"") at the end. `alive`:
        the heartbeats are answered."""
        while True:
            try:
                data = read_message(self.socket)
            except ConnectionResetError:
                data = b""
            if len(data) < HEADER.size:
                return "end", b""
            name = NAMES.get(HEADER.unpack(data[:HEADER.size])[0], "unknown")
            if name != "Heartbeat":
                return name, data[HEADER.size:]
            if alive:
                self.send(message("Heartbeat"))

    def expect(self, name):
        """The payload of the next message, which must be of that type."""
        got, payload = self.read()
        if got != name:
            raise AssertionError(f"expected {name}, got {got} {payload!r}")
        return payload

    def skip_to(self, name):
        """The payload of the next message of that type, whatever comes before it, however late."""
        while True:
            got, payload = self.read(alive=True)
            if got == name:
                return payload
            if got == "end":
                raise AssertionError(f"expected {name}, got the end")

    def expect_error(self):
        """The sentence of a PeerError, which must be next."""
        payload = self.expect("PeerError")
        return payload[12:].decode()

    def expect_end(self):
        """The other side closes; what it sends before that is skipped."""
        while self.read()[0] != "end":
            pass

    def close(self):
        self.socket.close()


class HandMadeSource:
    """A source that a test plays, up to a chosen step."""

    def __init__(self, port, layout):
        self.port = port
        self.layout = layout
        self.identity = os.urandom(16)
        self.token = None
        self.control = self.connect()
        self.lanes = []

    def connect(self):
        return Peer(socket.create_connection(("127.0.0.1", self.port)))

    def greet(self):
        self.control.send(hello(identity=self.identity))
        self.token = self.control.expect("Welcome")[8:24]
        return self

    def offer(self):
        self.greet().control.send(offer(self.layout))
        self.control.expect("Accepted")
        return self

    def join(self):
        self.offer()
        for role in (DEMAND, BULK):
            lane = self.connect()
            lane.send(hello(role, token=self.token, identity=self.identity)).expect("Welcome")
            self.lanes.append(lane)
        self.control.expect("Ready")
        return self

    def freeze(self):
        """No page holds data."""
        self.join().control.send(frozen(self.layout))
        self.control.send(map_end(0))
        return self

    def close(self):
        for peer in (self.control, *self.lanes):
            peer.close()


class HandMadeDestination:
    """A destination that a test plays: `behave(peer, role)` gets every connection whose Hello has
    been read, in a thread of its own; without `polite` it gets it unread, with role None."""

    def __init__(self, behave, polite=True):
        self._behave = behave
        self._polite = polite
        self._peers = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            peer = Peer(connection)
            self._peers.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        try:
            role = peer.expect("Hello")[8] if self._polite else None
            self._behave(peer, role)
        except (AssertionError, OSError):
            pass  # the other side gave up first; what it says is what the test looks at

    def close(self):
        self._listener.close()
        for peer in self._peers:
            peer.close()


def ready_destination(then):
    """Behaves well until Ready, then calls then(peer)."""
    joined = threading.Semaphore(0)

    def behave(peer, role):
        if role == OUTCOME:
            peer.read()
            peer.send(message("Goodbye"))
            return
        peer.send(welcome())
        if role != CONTROL:
            joined.release()
            return
        peer.expect("Offer")
        peer.send(accepted())
        for _ in range(2):
            joined.acquire()
        peer.send(message("Ready"))
        then(peer)
    return behave

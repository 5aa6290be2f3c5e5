"""Handshakes and answers that are wrong in every way that a seed can think of."""

import random
import socket
import struct
import threading
import time

from . import wire

# What each byte string below is never: a Hello for a control connection that is right, which would
# take the place of the source that a test waits for.
_LANES = (wire.DEMAND, wire.BULK)


def _flipped(rng, data, keep=()):
    """`data` with one to four bits changed, none of them in the bytes `keep`."""
    data = bytearray(data)
    places = [place for place in range(len(data)) if place not in keep]
    for _ in range(rng.randint(1, 4)):
        data[rng.choice(places)] ^= 1 << rng.randrange(8)
    return bytes(data)


def _stranger_hello(rng, role=None):
    return wire.hello(role or rng.choice(_LANES), token=rng.randbytes(16),
                      identity=rng.randbytes(16))


def _record(rng, kind, version, length, size):
    return struct.pack(">BHH", kind, version, length) + rng.randbytes(size)


_HELLO_MAKERS = {
    "nothing": lambda rng: b"",
    "noise": lambda rng: rng.randbytes(rng.randint(1, 2000)),
    "cut short": lambda rng: wire.hello()[:rng.randrange(1, 48)],
    "wrong magic": lambda rng: wire.hello(magic=rng.choice((0, 0x4e4c5447, 0x46544c4e))),
    "versions": lambda rng: wire.hello(
        versions=rng.choice(((0, 0), (0, 1), (2, 1), (7, 9), (65535, 65535)))),
    "no role": lambda rng: wire.hello(role=rng.choice((0, 6, 77, 255))),
    "length": lambda rng: wire.message("Hello", _stranger_hello(rng)[8:],
                                       size=rng.choice((0, 1, 8, 47, 49, 1025, 1 << 31))),
    "reserved": lambda rng: wire.message("Hello", wire.hello()[8:], zero=rng.randint(1, 65535)),
    "type": lambda rng: struct.pack("<H", rng.choice((0, 2, 4, 21, 255, 65535))) + wire.hello()[2:],
    "another message": lambda rng: rng.choice((
        wire.offer((("ram0", 1 << 20, 4096),)), wire.message("Commit", bytes(9)),
        wire.message("Heartbeat"), wire.message("DeviceState", bytes(600)), wire.welcome(),
        wire.peer_error(3, "go away"))),
    "wrong token": lambda rng: _stranger_hello(rng),
    "outcome of nothing": lambda rng: _stranger_hello(rng, wire.OUTCOME),
    "resumes nothing": lambda rng: _stranger_hello(rng, wire.RESUME),
    # The role stays: a lane's Hello must not become a source's.
    "flipped": lambda rng: _flipped(rng, _stranger_hello(rng), keep=(16,)),
    "more behind": lambda rng: _stranger_hello(rng) + rng.randbytes(rng.randint(1, 5000)),
    "TLS hello cut": lambda rng: bytes.fromhex("1603010200010001fc0303") + rng.randbytes(40),
    "TLS record": lambda rng: _record(rng, rng.randint(0x14, 0x18), rng.choice((0x0301, 0x0303)),
                                      rng.choice((0, 16, 200, 0x4000, 0x4100, 0xffff)), 200),
    "TLS handshake": lambda rng: _record(rng, 0x16, 0x0301, 304, 0)
    + struct.pack(">BBH", rng.choice((1, 2, 11, 20)), 0, 300) + rng.randbytes(300),
    "SSL 2": lambda rng: bytes.fromhex("802e010002") + rng.randbytes(41),
    "text": lambda rng: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}


class Recorder:
    """Forwards connections to a port of this host, and remembers how each began.

    rate_bytes_s  of the third connection, which is the bulk lane's; None: as fast as it goes
    """

    def __init__(self, port, rate_bytes_s=None):
        self.beginnings = []
        self.rate_bytes_s = rate_bytes_s
        self._target = ("127.0.0.1", port)
        self._sockets = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(self._listener)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        number = 0
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            number += 1
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(source, sink, number, source is near),
                                 daemon=True).start()

    def _pump(self, source, sink, number, from_near):
        first = from_near
        try:
            while True:
                data = source.recv(16384)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
                if first:
                    self.beginnings.append(data)
                    first = False
                if number == 3 and self.rate_bytes_s is not None:
                    time.sleep(len(data) / self.rate_bytes_s)
        except OSError:
            pass

    def close(self):
        for one in self._sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()


class Crowd:
    """`count` malformed handshakes at a port, drawn from a seed, some held half open, some spoken a
    byte at a time."""

    OPEN_MAX = 40
    CONNECT_S = 5

    def __init__(self, port, seed, count, host="127.0.0.1"):
        self.kinds = {}     # kind: how often
        self.replays = ()   # what true connections began with, once they are to be played again
        self._address = (host, port)
        self._rng = random.Random(seed)
        self._count = count
        self._open = []     # (socket, bytes that are still to be said)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self._thread.start()
        return self

    def join(self, timeout_s):
        """Waits until all have come; returns how many."""
        self._thread.join(timeout_s)
        return self.come

    @property
    def come(self):
        return sum(self.kinds.values())

    def _draw(self):
        """(kind, what to say)"""
        rng = self._rng
        if self.replays and rng.random() < 0.1:
            return "replayed", rng.choice(self.replays)
        kind = rng.choice(sorted(_HELLO_MAKERS))
        return kind, _HELLO_MAKERS[kind](rng)

    def _run(self):
        while self.come < self._count:
            kind, data = self._draw()
            manner = self._rng.choice(("at once", "at once", "held", "slow"))
            try:
                peer = socket.create_connection(self._address, self.CONNECT_S)
                peer.settimeout(1)
                if manner == "slow":
                    self._open.append((peer, data))
                else:
                    peer.sendall(data)
                    if manner == "held":
                        self._open.append((peer, b""))
                    else:
                        peer.close()
            except OSError:
                pass  # turned away: nobody owes a stranger more
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            self._step()
            time.sleep(0.002)
        for peer, _ in self._open:
            peer.close()

    def _step(self):
        """One byte from each who speaks slowly; the oldest go."""
        while len(self._open) > self.OPEN_MAX:
            self._open.pop(0)[0].close()
        for place, (peer, left) in enumerate(self._open):
            try:
                peer.send(left[:1])
            except OSError:
                left = b""
            self._open[place] = (peer, left[1:])


# --- Answers of a destination

STEPS = ("Welcome", "Accepted", "lane", "Ready", "Loaded")
_LOADED = wire.message("Loaded")
_EACH = (wire.message("Hello", wire.hello()[8:]), wire.welcome(), wire.offer((("r", 4096, 4096),)),
         wire.accepted(), wire.frozen((("r", 4096, 4096),)), wire.allocated(0, ((0, 1),)),
         wire.map_end(1), wire.message("DeviceState", b"x"), wire.device_state_end(1),
         wire.message("Commit", bytes(9)), wire.message("Running", bytes(8)),
         wire.message("Progress", bytes(24)), wire.message("Completed", bytes(24)),
         wire.message("Goodbye"), wire.message("Ready"))


def _right(step):
    return {"Welcome": wire.welcome(), "Accepted": wire.accepted(), "lane": wire.welcome(),
            "Ready": wire.message("Ready"), "Loaded": _LOADED}[step]


def answer(rng, step):
    """What a destination says in place of `step`: never the right thing."""
    right = _right(step)
    while True:
        data = rng.choice((
            lambda: rng.randbytes(rng.randint(1, 3000)),
            lambda: right[:rng.randrange(1, len(right))],
            lambda: _flipped(rng, right),
            lambda: right[:4] + struct.pack("<I", rng.choice((1, 65, 1 << 20, 0xffffffff)))
            + right[8:],
            lambda: rng.choice(_EACH),
            lambda: wire.peer_error(rng.randint(1, 10), "no \x1b[2J place"),
            lambda: wire.message("PeerError", rng.randbytes(rng.randint(0, 60))),
            lambda: bytes.fromhex("15030300020228"),
        ))()
        if data[:8] != right[:8] or data[:len(right)] not in (right, right[:len(data)]):
            if step != "Loaded" or not data.startswith(_LOADED):
                return data


def bad_destination(rng, step):
    """For wire.HandMadeDestination: right until `step`, then one wrong answer, and the end."""
    data = answer(rng, step)
    joined = threading.Semaphore(0)

    def wrong(peer):
        peer.send(data)
        # Some of it makes no whole message: then the end is the answer.
        end_s = time.monotonic() + 0.3
        peer.socket.settimeout(0.1)
        while time.monotonic() < end_s:
            try:
                if not peer.socket.recv(65536):
                    break
            except TimeoutError:
                pass
        peer.socket.shutdown(socket.SHUT_RDWR)

    def behave(peer, role):
        if role == wire.OUTCOME:
            peer.read()
            peer.send(wire.message("Goodbye"))
            return
        if role != wire.CONTROL:
            if step == "lane":
                return wrong(peer)
            peer.send(wire.welcome())
            joined.release()
            return
        if step == "Welcome":
            return wrong(peer)
        peer.send(wire.welcome()).expect("Offer")
        if step == "Accepted":
            return wrong(peer)
        peer.send(wire.accepted())
        if step == "lane":
            peer.expect_end()
            return
        for _ in range(2):
            joined.acquire()
        if step == "Ready":
            return wrong(peer)
        peer.send(wire.message("Ready"))
        peer.skip_to("Frozen")
        wrong(peer)
    return behave, data

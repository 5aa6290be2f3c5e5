"""A plain copy of a RAM file over a connection: what so many bytes cost the guest when nobody tracks it.

    plain_copy.py receive ADDRESS FILE     prints its port, then writes what comes
    plain_copy.py send FILE ADDRESS PORT SECONDS

The sender goes through the file's data again and again for that long.
"""

import errno
import os
import socket
import sys
import time

PIECE_BYTES = 64 << 10


def stretches(fd):
    """(offset, bytes) of each piece of data in the file, once through."""
    end = os.fstat(fd).st_size
    position = 0
    while position < end:
        try:
            position = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no more data
                return
            raise
        hole = os.lseek(fd, position, os.SEEK_HOLE)
        while position < hole:
            size = min(PIECE_BYTES, hole - position)
            yield position, size
            position += size


def send(path, address, port, seconds):
    fd = os.open(path, os.O_RDONLY)
    piece = memoryview(bytearray(PIECE_BYTES))
    with socket.create_connection((address, port)) as connection:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            for offset, size in stretches(fd):
                if time.monotonic() >= end_s:
                    return
                connection.sendall(piece[:os.preadv(fd, [piece[:size]], offset)])


def receive(address, path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    piece = memoryview(bytearray(PIECE_BYTES))
    with socket.create_server((address, 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        connection, _ = listener.accept()
    position = 0
    limit = 512 << 20  # then over it again
    with connection:
        while count := connection.recv_into(piece):
            os.pwrite(fd, piece[:count], position)
            position = (position + count) % limit


def main():
    what, *words = sys.argv[1:]
    if what == "send":
        send(words[0], words[1], int(words[2]), float(words[3]))
    else:
        receive(*words)


if __name__ == "__main__":
    main()

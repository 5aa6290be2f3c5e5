"""Writes the seed corpus of hook_protocol_fuzz: one file per kind of message."""
import pathlib
import struct
import sys


def message(kind, payload=b"", version=1):
    return struct.pack("<4sHHIIIIQ", b"FLHK", version, kind, 32 + len(payload), 7, 0, 0, 0) + payload


def arm(regions, flags=0, features=0):
    return message(2, struct.pack("<IIQ", len(regions), flags, features) + b"".join(
        struct.pack("<IIQQQQQ", 0, 25, inode, offset, size, page, 0)
        for inode, offset, size, page in regions))


seeds = {
    "hello": message(1, struct.pack("<HHI", 1, 1, 0), version=0),
    "hello_from_the_future": message(1, struct.pack("<HHIQQ", 1, 9, 5, 1, 2), version=0),
    "arm_one": arm([(7, 0, 1 << 30, 4096)]),
    "arm_device_features": arm([(7, 0, 1 << 30, 4096)], flags=1, features=0x7ff),
    "arm_two_of_one_file": arm([(7, 0, 4096, 4096), (7, 4096, 8192, 4096)]),
    "arm_overlap": arm([(7, 0, 8192, 4096), (7, 4096, 8192, 4096)]),
    "arm_hugetlb": arm([(7, 0, 1 << 30, 1 << 21), (8, 0, 1 << 30, 1 << 30)]),
    "arm_none": arm([]),
    "arm_most": arm([(i, 0, 4096, 4096) for i in range(256)]),
    "arm_size_overflow": arm([(7, 1 << 62, (1 << 64) - 4096, 4096)]),
    "take": message(3),
    "release": message(4),
    "ping": message(5),
    "track": message(6, arm([(7, 0, 1 << 30, 4096)], features=0xb001)[32:]),
    "track_device": message(6, arm([(7, 0, 1 << 30, 1 << 21)], flags=1)[32:]),
    "untrack": message(7),
    "inspect": message(8, arm([(7, 0, 1 << 30, 4096)])[32:]),
    "unknown": message(4000),
    "empty": b"",
}
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, content in seeds.items():
    (folder / name).write_bytes(content)

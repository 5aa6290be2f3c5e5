"""Writes initramfs images: the kernel's cpio format ("newc")."""


def cpio_entry(name, mode, data=b"", device=(0, 0)):
    """One file; `mode` has its type, `data` is a link's target where that is a link."""
    path = name.encode() + b"\0"
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + path
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)

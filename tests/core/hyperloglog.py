"""HyperLogLogs in Python, naively: the registers of an image, and an image of registers.

As everywhere in this server an image is a string of Redis's form (core/hyperloglog.pxi).
"""
from __future__ import annotations

M = 2**64 - 1
REGISTERS = 16384
HEAD = b"HYLL%c\0\0\0" + b"\0" * 7 + b"\x80"


def murmur(data: bytes) -> int:
    m = 0xc6a4a7935bd1e995
    h = 0xadc83b19 ^ len(data) * m & M
    whole = len(data) // 8 * 8
    for at in range(0, whole, 8):
        word = int.from_bytes(data[at:at + 8], "little") * m & M
        h = (h ^ (word ^ word >> 47) * m & M) * m & M
    if data[whole:]:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & M
    h = (h ^ h >> 47) * m & M
    return h ^ h >> 47


def place(element: bytes) -> tuple[int, int]:
    """(register, what it is raised to)."""
    h = murmur(element)
    rest = h >> 14 | 1 << 50
    return h % REGISTERS, (rest & -rest).bit_length()


def registers(image: bytes | None) -> list[int] | None:
    """None: it is no whole image."""
    if image is None or len(image) < 16 or image[:4] != b"HYLL" or image[4] > 1:
        return None
    body = image[16:]
    if image[4] == 0:
        fours = (int.from_bytes(body[at:at + 3], "little") for at in range(0, len(body), 3))
        return ([v >> bit & 63 for v in fours for bit in (0, 6, 12, 18)]
                if len(body) == REGISTERS * 6 // 8 else None)
    out: list[int] = []
    at = 0
    while at < len(body):
        b, at = body[at], at + 1
        if b & 0x80:
            out += [(b >> 2 & 31) + 1] * ((b & 3) + 1)
        elif b & 0x40:
            if at == len(body):
                return None
            out += [0] * (((b & 63) << 8 | body[at]) + 1)
            at += 1
        else:
            out += [0] * (b + 1)
        if len(out) > REGISTERS:
            return None
    return out if len(out) == REGISTERS else None


def image(values: list[int], dense: bool) -> bytes:
    """Dense as well where a value is too high for the other form."""
    if dense or max(values) > 32:
        fours = (values[at:at + 4] for at in range(0, REGISTERS, 4))
        return HEAD % 0 + b"".join((a | b << 6 | c << 12 | d << 18).to_bytes(3, "little")
                                   for a, b, c, d in fours)
    out, at = bytearray(), 0
    while at < REGISTERS:
        v, n = values[at], 1
        while at + n < REGISTERS and values[at + n] == v and (v == 0 or n < 4):
            n += 1
        out += (bytes([0x80 | (v - 1) << 2 | n - 1]) if v else bytes([n - 1]) if n <= 64
                else bytes([0x40 | n - 1 >> 8, n - 1 & 255]))
        at += n
    return HEAD % 1 + bytes(out)


def shown(texts: list[bytes]) -> bytes | None:
    """Of writes that stand side by side: what is shown in place of the latest, if one of them is an
    image; else None."""
    images = [t for t in texts if registers(t) is not None]
    if len(texts) < 2 or not images:
        return None
    if len(images) == 1:
        return images[0]
    union = [max(column) for column in zip(*map(registers, images))]
    return image(union, any(t[4] == 0 for t in images))


def made_of(*elements: str, dense: bool = False) -> bytes:
    """The image that PFADD of these makes."""
    values = [0] * REGISTERS
    for e in elements:
        register, value = place(e.encode())
        values[register] = max(values[register], value)
    return image(values, dense)

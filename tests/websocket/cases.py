"""The cases of Autobahn's WebSocket suite, as the bytes that a client sends.

Numbers are those of the suite's sections. A case is a name and a list of pieces, each of which
is one `send`; a number in between waits until so many bytes have come back, since a server need not
answer what it has not looked at when it is told to close. Every case ends with what makes a server
close, so that the answer has an end.
"""

import struct


def frame(opcode, payload=b"", fin=True, rsv=0, mask=b"\x12\x34\x56\x78", length=None):
    """One frame; `length` lies about how long it is."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    size = len(payload) if length is None else length
    masked = 0x80 if mask else 0
    if size < 126:
        head += bytes([masked | size])
    elif size < 65536:
        head += bytes([masked | 126]) + struct.pack("!H", size)
    else:
        head += bytes([masked | 127]) + struct.pack("!Q", size)
    if mask:
        key = (mask * (len(payload) // 4 + 1))[: len(payload)]
        payload = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(
            len(payload), "big")
    return head + mask + payload


def close(code=1000, reason=b""):
    return frame(8, struct.pack("!H", code) + reason)


def echoed(opcode, payload):
    """How long the answer to a message is."""
    return len(frame(opcode, payload, mask=b""))


TEXT, BINARY, CONTINUATION, PING, PONG = 1, 2, 0, 9, 10
END = close()


def chopped(data, size):
    return [data[at: at + size] for at in range(0, len(data), size)]


def cases():
    # 1: framing, of each form of the length.
    for section, opcode in (("1.1", TEXT), ("1.2", BINARY)):
        for size in (0, 1, 125, 126, 127, 128, 65535, 65536):
            yield f"{section} {size}", [
                frame(opcode, b"*" * size), echoed(opcode, b"*" * size), END]
        yield f"{section} chopped", (
            chopped(frame(opcode, b"*" * 65536), 997) + [echoed(opcode, b"*" * 65536), END])
    # 2: pings and pongs.
    for payload in (b"", b"Hello", b"\x00\xff\xfe\xfd", b"\xfe" * 125, b"\xfe" * 126):
        yield f"2.ping {len(payload)}", [frame(PING, payload), END]
    yield "2.ping by bytes", chopped(frame(PING, b"\xfe" * 125), 1) + [END]
    yield "2.pong unasked", [frame(PONG), frame(PONG, b"x"), frame(PING, b"y"), END]
    yield "2.ten pings", [frame(PING, b"%d" % index) for index in range(10)] + [END]
    # 3: reserved bits.
    for rsv in range(1, 8):
        for opcode in (TEXT, BINARY, PING, 8):
            yield f"3 rsv {rsv} opcode {opcode}", [
                frame(TEXT, b"Hello"), 7, frame(opcode, b"", rsv=rsv), frame(PING), END]
    # 4: opcodes that there are not.
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"reserved"):
            yield f"4 opcode {opcode} {len(payload)}", [
                frame(TEXT, b"Hello"), 7, frame(opcode, payload), frame(PING), END]
    # 5: fragments.
    part = lambda opcode, text, fin=False: frame(opcode, text, fin=fin)
    yield "5.1", [part(PING, b"a"), part(CONTINUATION, b"b", True), END]
    yield "5.2", [part(PONG, b"a"), part(CONTINUATION, b"b", True), END]
    yield "5.3", [part(TEXT, b"a"), part(CONTINUATION, b"b", True), 4, END]
    yield "5.4", [part(TEXT, b"a") + part(CONTINUATION, b"b", True), 4, END]
    yield "5.5", chopped(part(TEXT, b"a") + part(CONTINUATION, b"b", True), 1) + [4, END]
    yield "5.6", [part(TEXT, b"a"), frame(PING, b"p"), part(CONTINUATION, b"b", True), 3 + 4, END]
    yield "5.9", [part(CONTINUATION, b"x", True), frame(TEXT, b"Hello"), END]
    yield "5.12", [part(CONTINUATION, b"x"), frame(TEXT, b"Hello"), END]
    yield "5.15", [part(TEXT, b"a"), part(CONTINUATION, b"b", True), 4, part(CONTINUATION, b"c"),
                   part(TEXT, b"d", True), END]
    yield "5.16", [part(CONTINUATION, b"a"), part(TEXT, b"b"), part(CONTINUATION, b"c", True), END]
    yield "5.18", [part(TEXT, b"a"), part(TEXT, b"b", True), END]
    yield "5.19", [part(TEXT, b"a"), part(CONTINUATION, b"b"), frame(PING, b"1"),
                   part(CONTINUATION, b"c"), part(CONTINUATION, b"d"), frame(PING, b"2"),
                   part(CONTINUATION, b"e", True), 3 + 3 + 7, END]
    # 6: UTF-8.
    good = "Hello-µ@ßöäüàá-UTF-8!! κόσμε 😀".encode()
    texts = {
        "good": good, "nul": b"\x00", "noncharacter": b"\xef\xbf\xbf", "last": b"\xf4\x8f\xbf\xbf",
        "beyond": b"\xf4\x90\x80\x80", "surrogate": b"\xed\xa0\x80", "overlong": b"\xc0\xaf",
        "overlong3": b"\xe0\x80\xaf", "lonely": b"\x80", "cut": good[:-1], "ff": b"a\xffb",
        "five": b"\xf8\x88\x80\x80\x80", "middle": good + b"\xed\xa0\x80" + good,
    }
    for name, text in texts.items():
        try:
            text.decode()
            wait = [echoed(TEXT, text)]
        except UnicodeDecodeError:
            wait = [1]  # the refusal
        yield f"6 {name}", [frame(TEXT, text)] + wait + [END]
        yield f"6 {name} by fragments", (
            [part(TEXT, text[:1])]
            + [part(CONTINUATION, text[at: at + 1]) for at in range(1, len(text))]
            + [part(CONTINUATION, b"", True)] + wait + [END])
        yield f"6 {name} by bytes", chopped(frame(TEXT, text), 1) + wait + [END]
    # 7: closing.
    yield "7.1.1", [frame(TEXT, b"Hello"), 7, END]
    yield "7.1.2", [END, END]
    yield "7.1.3", [END, frame(PING)]
    yield "7.1.4", [END, frame(TEXT, b"Hello")]
    yield "7.1.5", [part(TEXT, b"a"), END, part(CONTINUATION, b"b", True)]
    yield "7.1.6", [frame(TEXT, b"*" * 262144), frame(TEXT, b"Hello"),
                   echoed(TEXT, b"*" * 262144) + 7, END, frame(PING)]
    yield "7.3.1", [frame(8)]
    yield "7.3.2", [frame(8, b"\x03")]
    yield "7.3.3", [close()]
    yield "7.3.4", [close(1000, b"Hello World!")]
    yield "7.3.5", [close(1000, b"*" * 123)]
    yield "7.3.6", [close(1000, b"*" * 124)]
    yield "7.5.1", [close(1000, good + b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80")]
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield f"7.7 {code}", [close(code)]
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535):
        yield f"7.9 {code}", [close(code)]
    # 9: limits.
    for section, opcode in (("9.1", TEXT), ("9.2", BINARY)):
        for size in (65536, 262144, 1 << 20, 4 << 20):
            yield f"{section} {size}", [
                frame(opcode, b"*" * size), echoed(opcode, b"*" * size), END]
    for section, opcode in (("9.3", TEXT), ("9.4", BINARY)):
        for size in (256, 4096, 65536):
            pieces = chopped(b"*" * (1 << 20), size)
            yield f"{section} fragments of {size}", (
                [part(opcode, pieces[0])] + [part(CONTINUATION, it) for it in pieces[1:]]
                + [part(CONTINUATION, b"", True), echoed(opcode, b"*" * (1 << 20)), END])
    for section, opcode in (("9.5", TEXT), ("9.6", BINARY)):
        for size in (256, 2048):
            message = b"*" * (1 << 20)
            yield f"{section} chops of {size}", (
                chopped(frame(opcode, message), size) + [echoed(opcode, message), END])
    for section, opcode in (("9.7", TEXT), ("9.8", BINARY)):
        for size in (0, 16, 256, 1024):
            message = b"*" * size
            yield f"{section} {size}", (
                [frame(opcode, message)] * 200 + [200 * echoed(opcode, message), END])
    # 10: one message, sent in fragments of another size than it comes back.
    pieces = chopped(b"*" * 65536, 1300)
    yield "10.1", ([part(TEXT, pieces[0])] + [part(CONTINUATION, it) for it in pieces[1:]]
                   + [part(CONTINUATION, b"", True), echoed(TEXT, b"*" * 65536), END])
    # What no client sends: no mask, and a length that there is not.
    yield "unmasked", [frame(TEXT, b"Hello", mask=b""), END]
    yield "length of 2^63", [b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00mask", END]
    yield "breaks off", [frame(TEXT, b"Hello", length=10)]

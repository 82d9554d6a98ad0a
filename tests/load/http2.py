"""A caller's connection that speaks HTTP/2: streams side by side, and an ear for GOAWAY.

Written out as far as this run needs, because PyPI's `h2` takes GOAWAY for the end of the connection
and refuses what comes for the streams that are to finish.
"""

import asyncio

import hpack

from answer import Answer, Crossed, Failed

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS = 4
PADDED = 8
HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE = 1, 2, 4
# So much may be sent to us unasked: more than a run sends, so that no window is ever filled up.
WINDOW = 1 << 30


def frame(kind, flags, stream, payload):
    return b"%b%c%c%b%b" % (
        len(payload).to_bytes(3, "big"), kind, flags, stream.to_bytes(4, "big"), payload
    )


def setting(name, value):
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")


class Http2(asyncio.Protocol):
    """`usable` until either side wants no more requests on it."""

    def __init__(self, told):
        self.told = told
        self.usable = True
        self.heard = False
        self.streams = {}
        self.next = 1
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()

    def connection_made(self, transport):
        self.transport = transport
        self.read = b""
        settings = setting(ENABLE_PUSH, 0) + setting(INITIAL_WINDOW_SIZE, WINDOW)
        transport.write(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(SETTINGS, 0, 0, settings)
            + frame(WINDOW_UPDATE, 0, 0, WINDOW.to_bytes(4, "big"))
        )

    def ask(self, path, token=None, method="GET"):
        headers = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "localhost"),
            # Each is another: they would push the rest out of the table.
            hpack.NeverIndexedHeaderTuple(":path", path),
        ]
        if token:
            headers.append(("authorization", f"Bearer {token}"))
        stream, self.next = self.next, self.next + 2
        answer = self.streams[stream] = Answer()
        block = self.encoder.encode(headers, huffman=False)
        self.transport.write(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))
        return answer

    def retire(self):
        """Ends once no stream is open."""
        self.usable = False
        if not self.streams:
            self.transport.close()

    def data_received(self, data):
        self.heard = True
        self.read += data
        try:
            while len(self.read) >= 9:
                end = 9 + int.from_bytes(self.read[:3], "big")
                if len(self.read) < end:
                    break
                kind, flags = self.read[3], self.read[4]
                stream = int.from_bytes(self.read[5:9], "big")
                payload, self.read = self.read[9:end], self.read[end:]
                self.take(kind, flags, stream, payload)
        except Exception as error:  # whatever it is, nothing more can be made of what comes
            self.transport.abort()
            self.fail_all(Failed(f"what came is not understood: {error!r}"))
        if not self.usable and not self.streams:
            self.transport.close()

    def take(self, kind, flags, stream, payload):
        if kind in (DATA, HEADERS) and flags & PADDED or kind == HEADERS and not flags & END_HEADERS:
            raise Failed(f"frame of kind {kind} with flags {flags}, which this caller does not read")
        if kind == HEADERS:
            headers = self.decoder.decode(payload)
            answer = self.streams[stream]
            # Trailers have no status.
            if headers and headers[0][0] == ":status":
                answer.status = int(headers[0][1])
        elif kind == DATA:
            self.streams[stream].came(payload)
        elif kind == RST_STREAM and stream in self.streams:
            code = int.from_bytes(payload, "big")
            self.streams.pop(stream).fail(Failed(f"the stream was reset with {code}"))
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                if int.from_bytes(payload[at:at + 2], "big") == HEADER_TABLE_SIZE:
                    self.encoder.header_table_size = int.from_bytes(payload[at + 2:at + 6], "big")
            self.transport.write(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.transport.write(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.goaway(*(int.from_bytes(payload[at:at + 4], "big") for at in (0, 4)))
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.streams.pop(stream).end()

    def goaway(self, last, code):
        """Streams up to `last` finish; what came after is asked elsewhere."""
        if self.usable:
            self.told["GOAWAY"] += 1
        self.usable = False
        if code != 0:
            self.fail_all(Failed(f"GOAWAY with {code}"))
        for stream in [stream for stream in self.streams if stream > last]:
            self.streams.pop(stream).fail(Crossed(f"stream {stream}, and GOAWAY after {last}"))

    def connection_lost(self, error):
        self.usable = False
        # A connection that was never served has served no stream.
        kind = Failed if self.heard else Crossed
        self.fail_all(kind(f"the connection ended with open streams: {error!r}"))

    def fail_all(self, error):
        while self.streams:
            self.streams.popitem()[1].fail(error)

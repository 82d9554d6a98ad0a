"""A caller's connection that speaks HTTP/1.1: one request at a time."""

import asyncio
import re

from answer import Answer, Crossed, Failed

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)")


class Http1(asyncio.Protocol):
    """`usable` until either side wants no more requests on it."""

    def __init__(self, told):
        self.told = told
        self.usable = True
        self.heard = False
        self.answer = None

    def connection_made(self, transport):
        self.transport = transport
        self.read = b""

    def ask(self, path, token=None, method="GET"):
        self.answer = Answer()
        self.head = self.left = None
        authorization = f"authorization: Bearer {token}\r\n" if token else ""
        length = "content-length: 0\r\n" if method == "POST" else ""
        self.transport.write(
            f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{authorization}{length}\r\n".encode()
        )
        return self.answer

    def retire(self):
        """Ends once it is idle."""
        self.usable = False
        if self.answer is None:
            self.transport.close()

    def data_received(self, data):
        self.heard = True
        self.read += data
        if self.answer is None:
            self.transport.abort()
            return
        if self.head is None:
            end = self.read.find(b"\r\n\r\n")
            if end < 0:
                return
            self.head, self.read = self.read[:end].lower(), self.read[end + 4:]
            self.answer.status = int(self.head.split(b" ", 2)[1])
            length = LENGTH.search(self.head)
            self.left = int(length[1]) if length else None
            if b"\r\nconnection: close" in self.head:
                self.told["Connection: close"] += 1
                self.usable = False
        if self.left is None:
            self.chunks()
        elif len(self.read) >= self.left:
            self.answer.came(self.read[:self.left])
            self.read = self.read[self.left:]
            self.end()

    def chunks(self):
        while (line := self.read.find(b"\r\n")) >= 0:
            size = int(self.read[:line], 16)
            if len(self.read) < line + 2 + size + 2:
                return
            piece, self.read = self.read[line + 2:line + 2 + size], self.read[line + 2 + size + 2:]
            if size == 0:
                self.end()
                return
            self.answer.came(piece)

    def end(self):
        answer, self.answer = self.answer, None
        answer.end()
        if not self.usable:
            self.transport.close()

    def connection_lost(self, error):
        if self.usable and self.answer is None:
            self.told["closed while idle"] += 1
        self.usable = False
        if self.answer is None:
            return
        if self.head is None and not self.read:
            self.answer.fail(Crossed(f"closed before an answer: {error!r}"))
        else:
            self.answer.fail(Failed(f"closed in the middle of an answer: {error!r}"))
        self.answer = None

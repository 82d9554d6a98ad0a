"""The upstream of the load run: answers at once, or with a stream that goes on until it is told."""

import asyncio
import sys


class Talk(asyncio.Protocol):
    """One connection of the gateway. Requests have no bodies; one comes after the other."""

    def connection_made(self, transport):
        self.transport = transport
        self.read = b""

    def data_received(self, data):
        self.read += data
        while (end := self.read.find(b"\r\n\r\n")) >= 0:
            head, self.read = self.read[:end], self.read[end + 4:]
            self.answer(head)

    def answer(self, head):
        path = head.split(b" ", 2)[1]
        if path.startswith(b"/open/stream/"):
            self.streaming = asyncio.ensure_future(self.stream(int(path.rsplit(b"/", 1)[1])))
            return
        # What the caller must find again: its path, and whether a token came with it.
        bearer = b"bearer" if b"\r\nauthorization: bearer " in head.lower() else b"none"
        body = path + b" " + bearer
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    async def stream(self, pieces):
        """So many pieces, ten a second."""
        self.transport.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(pieces):
            piece = b"piece %d\n" % number
            self.transport.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await asyncio.sleep(0.1)
        self.transport.write(b"0\r\n\r\n")


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Talk, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # It ends with whoever started it.
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())

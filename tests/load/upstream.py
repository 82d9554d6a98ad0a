"""The upstream of the load run: answers at once, or with a stream that goes on until it is told."""

import asyncio
import sys


async def talk(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if path.startswith(b"/open/stream/"):
                await stream(writer, int(path.rsplit(b"/", 1)[1]))
                continue
            # What the caller must find again: its path, and whether a token came with it.
            bearer = b"bearer" if b"\r\nauthorization: bearer " in head.lower() else b"none"
            body = path + b" " + bearer
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def stream(writer, pieces):
    """So many pieces, ten a second."""
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for number in range(pieces):
        piece = b"piece %d\n" % number
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()
        await asyncio.sleep(0.1)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def main():
    server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # It ends with whoever started it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())

"""What comes back for a request, over whichever HTTP."""

import asyncio


class Failed(Exception):
    """The run shows that something is wrong; a sentence says what."""


class Crossed(Exception):
    """The connection ended before any of the answer, as the request was on its way.

    That is nobody's fault where the gateway may close: every client asks again on another
    connection. Everywhere else it is a failure.
    """


class Answer:
    """The answer to one request, as far as it has come."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        self.status = None
        self.body = b""
        self.begun = loop.create_future()
        self.ended = loop.create_future()

    def came(self, piece):
        self.body += piece
        if not self.begun.done():
            self.begun.set_result(None)

    def end(self):
        if not self.ended.done():
            self.ended.set_result(None)

    def fail(self, error):
        """Whoever waits for any of it gets `error`."""
        for future in (self.begun, self.ended):
            if not future.done():
                future.set_exception(error)
                # Nobody has to wait for both.
                future.exception()

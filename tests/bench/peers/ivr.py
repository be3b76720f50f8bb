"""An IVR that answers every post with one document, at the least cost: `python ivr.py PORT FILE`."""

import asyncio
import sys
from pathlib import Path

import uvloop


class Answering(asyncio.Protocol):
    def connection_made(self, transport):
        self._transport, self._buffer = transport, b""

    def data_received(self, data):
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lowered = head.lower()
        at = lowered.find(b"content-length:")
        if at < 0 or len(body) >= int(lowered[at + 15 :].split(b"\r\n", 1)[0]):
            self._buffer = b""
            self._transport.write(ANSWER)


async def main(port):
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", port)
    await server.serve_forever()


DOCUMENT = Path(sys.argv[2]).read_bytes()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n" % len(DOCUMENT) + DOCUMENT
uvloop.run(main(int(sys.argv[1])))

"""A bare aiohttp handler with a static answer: `python aiohttp_static.py PORT`."""

import sys

import uvloop
from aiohttp import web

TWIML = b'<?xml version="1.0" encoding="UTF-8"?><Response><Say>Hello.</Say></Response>'


async def answer(request):
    await request.read()
    return web.Response(body=TWIML, content_type="text/xml")


app = web.Application()
app.router.add_post("/{path:.*}", answer)
web.run_app(
    app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=uvloop.new_event_loop()
)

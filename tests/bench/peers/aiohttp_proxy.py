"""A bare reverse proxy on aiohttp's ClientSession, nothing checked: `python aiohttp_proxy.py PORT UPSTREAM_PORT`."""

import sys

import aiohttp
import uvloop
from aiohttp import web

UPSTREAM = f"http://127.0.0.1:{sys.argv[2]}"


async def answer(request):
    body = await request.read()
    headers = {"Content-Type": request.headers["Content-Type"]}
    async with request.app["session"].post(
        UPSTREAM + request.raw_path, data=body, headers=headers
    ) as response:
        return web.Response(body=await response.read(), content_type="text/xml")


async def session(app):
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as app["session"]:
        yield


app = web.Application()
app.cleanup_ctx.append(session)
app.router.add_post("/{path:.*}", answer)
web.run_app(
    app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=uvloop.new_event_loop()
)

"""FastAPI and uvicorn as their documentation shows them, with twilio's validator and a static answer.

python fastapi_signed.py PORT PUBLIC_URL TOKEN
"""

import sys

import uvicorn
from fastapi import FastAPI, Request, Response
from twilio.request_validator import RequestValidator

PORT, PUBLIC_URL, TOKEN = int(sys.argv[1]), sys.argv[2], sys.argv[3]
TWIML = '<?xml version="1.0" encoding="UTF-8"?><Response><Say>Hello.</Say></Response>'

app = FastAPI()
validator = RequestValidator(TOKEN)


@app.post("/")
async def answer(request: Request):
    form = await request.form()
    if not validator.validate(PUBLIC_URL + "/", form, request.headers.get("X-Twilio-Signature", "")):
        return Response(status_code=403)
    return Response(TWIML, media_type="text/xml")


uvicorn.run(app, host="127.0.0.1", port=PORT, access_log=False, log_level="error")

// Express with twilio's own middleware and a static answer: node express_signed.mjs PORT PUBLIC_URL TOKEN
import express from "express";
import twilio from "twilio";

const [port, publicUrl, token] = process.argv.slice(2);
const url = new URL(publicUrl);
const twiml = '<?xml version="1.0" encoding="UTF-8"?><Response><Say>Hello.</Say></Response>';

const app = express();
app.use(express.urlencoded({ extended: false }));
app.post("/", twilio.webhook(token, { host: url.host, protocol: url.protocol.slice(0, -1) }), (request, response) => {
  response.type("text/xml").send(twiml);
});
app.listen(Number(port), "127.0.0.1");

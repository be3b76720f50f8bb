// A certified OpenID provider (the npm package oidc-provider) for tests: one client for each algorithm of ID tokens, a public one, and a
// program that gets access tokens of its own. Whoever types a name is he; his roles stand in PEOPLE. Arguments: port, redirect URI, audience.
import { generateKeyPairSync } from "node:crypto";
import Provider from "oidc-provider";

const [port, redirectUri, audience] = process.argv.slice(2);
const PEOPLE = {
  ann: { name: "Ann Lee", roles: ["ivr-agents", "staff"], queues: ["workflow:*"], manager: "bob" },
  fred: { name: "Fred", roles: ["fraud"] },
  guest: { name: "A guest", roles: ["staff"] },
};

const key = (kind, options, more) => ({
  ...generateKeyPairSync(kind, options).privateKey.export({ format: "jwk" }),
  use: "sig",
  ...more,
});
const rsa = key("rsa", { modulusLength: 2048 }, { kid: "rsa" });
const client = (id, alg, more = {}) => ({
  client_id: id,
  client_secret: "a secret/of the test",
  redirect_uris: [redirectUri],
  response_types: ["code"],
  grant_types: ["authorization_code"],
  id_token_signed_response_alg: alg,
  ...more,
});

const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: {
    keys: [rsa, key("ec", { namedCurve: "P-256" }, { kid: "ec" }), key("ed25519", {}, { kid: "ed" })],
  },
  enabledJWA: { idTokenSigningAlgValues: ["RS256", "PS256", "ES256", "EdDSA"] },
  clients: [
    client("rs256", "RS256"),
    client("ps256", "PS256"),
    client("es256", "ES256"),
    client("eddsa", "EdDSA"),
    client("public", "RS256", { client_secret: undefined, token_endpoint_auth_method: "none" }),
    client("crm", "RS256", {
      redirect_uris: [],
      response_types: [],
      grant_types: ["client_credentials"],
      token_endpoint_auth_method: "client_secret_post",
    }),
  ],
  claims: { openid: ["sub"], profile: ["name", "roles", "queues", "manager"] },
  conformIdTokenClaims: false,
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...PEOPLE[id] }) }),
  extraTokenClaims: () => ({ roles: ["ivr-agents"] }),
  cookies: { keys: ["only for a test"] },
  pkce: { required: () => true },
  features: {
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({
        scope: "calls",
        audience,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "ES256" } },
      }),
    },
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("listening"));

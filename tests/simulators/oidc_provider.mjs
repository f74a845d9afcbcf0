// A real OpenID Connect provider for tests: node oidc_provider.mjs <folder of oidc-provider>
//
// It listens on a free loopback port, says `{"issuer": …}` on a line, and ends when its input does. Service clients
// get access tokens as JWTs for the resource that they name; the claim `groups` is part of their client id.

import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = join(process.argv[2], "node_modules", "oidc-provider", "lib", "index.js");
const { default: Provider } = await import(pathToFileURL(folder));

const GROUPS = { "ml-robot": ["ml-team", "everybody"], stranger: ["everybody"] };

function signingKey(kid, alg) {
  const { privateKey } =
    alg === "RS256"
      ? generateKeyPairSync("rsa", { modulusLength: 2048 })
      : generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { ...privateKey.export({ format: "jwk" }), kid, alg, use: "sig" };
}

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: Object.keys(GROUPS).map((id) => ({
      client_id: id,
      client_secret: `the secret of ${id}`,
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: "client_secret_post",
    })),
    extraTokenClaims: (_, token) => ({ groups: GROUPS[token.clientId] }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({
          accessTokenFormat: "jwt",
          accessTokenTTL: 300,
          audience: resource,
          jwt: { sign: { alg: resource.endsWith("/es256") ? "ES256" : "RS256" } },
          scope: "predict",
        }),
      },
    },
    jwks: { keys: [signingKey("real-rsa", "RS256"), signingKey("real-ec", "ES256")] },
  });
  server.on("request", provider.callback());
  console.log(JSON.stringify({ issuer }));
});

process.stdin.resume();
process.stdin.on("end", () => process.exit(0));

// An OpenID provider on a free port of loopback: it issues a patient's JWT for client credentials.
// It prints its address. For each line on standard input it signs with a new key from then on. The
// previous key stays published, for tokens that are still in use; older ones are removed.

import { generateKeyPair, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import Provider from 'oidc-provider';

const [, , algorithm] = process.argv;
const AUDIENCE = 'https://voice.clinic.example';
const GENERATE = {
  ES256: () => promisify(generateKeyPair)('ec', { namedCurve: 'P-256' }),
  RS256: () => promisify(generateKeyPair)('rsa', { modulusLength: 2048 }),
  EdDSA: () => promisify(generateKeyPair)('ed25519'),
};

console.info = console.error; // standard output is for answers alone

const server = createServer((request, response) => answer(request, response));
await new Promise((done) => { server.listen(0, '127.0.0.1', done); });
const issuer = `http://127.0.0.1:${server.address().port}`;

let keys = [];
let answer;

async function rotate() {
  const { privateKey } = await GENERATE[algorithm]();
  const key = { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: algorithm };
  keys = [key, ...keys.slice(0, 1)];
  answer = new Provider(issuer, configuration(keys)).callback();
  return key.kid;
}

function configuration(published) {
  return {
    jwks: { keys: published },
    cookies: { keys: [randomUUID()] },
    clients: [{
      client_id: 'app',
      client_secret: 'app-secret',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: 'client_secret_post',
      id_token_signed_response_alg: algorithm,
    }],
    clientAuthMethods: ['client_secret_post'],
    enabledJWA: { idTokenSigningAlgValues: [algorithm] },
    extraTokenClaims: () => ({ patient: { id: 'pt_1' }, roles: ['patient'] }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => AUDIENCE,
        getResourceServerInfo: () => ({
          scope: 'voice',
          audience: AUDIENCE,
          accessTokenFormat: 'jwt',
          accessTokenTTL: 300,
          jwt: { sign: { alg: algorithm } },
        }),
      },
    },
  };
}

await rotate();
console.log(JSON.stringify({ issuer }));
createInterface({ input: process.stdin })
  .on('line', async () => console.log(JSON.stringify({ kid: await rotate() })))
  .on('close', () => process.exit(0));

// The same work as the service, done by Fastify and fast-jwt: token, role, rate limit, request id,
// Server-Timing, standard headers and one JSON audit line for each request.
import { randomUUID } from 'node:crypto';
import { writeSync } from 'node:fs';

import { createVerifier } from 'fast-jwt';
import Fastify from 'fastify';
import { Redis } from 'ioredis';

const PORT = Number(process.argv[2]);
const { PEER_KEY, PEER_ALGORITHM, PEER_REDIS } = process.env;
const LIMIT = 1_000_000;
const WINDOW_MILLISECONDS = 60_000;
const MAX_WINDOWS = 65_536;
const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;
const BEARER = /^Bearer +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)$/i;
const CHALLENGE = 'Bearer realm="vapi-sessions"';
const STATUSES = {
  INVALID_REQUEST: 400,
  AUTH_TOKEN_MISSING: 401,
  AUTH_TOKEN_INVALID: 401,
  FORBIDDEN: 403,
  PATIENT_MISMATCH: 403,
  RATE_LIMITED: 429,
  INTERNAL_ERROR: 500,
};

class ApiError extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

// fast-jwt's cache, of the same size as the service's, only for the algorithms where it pays: it
// makes new HS256 tokens slower, and known ones no faster.
const cache = PEER_ALGORITHM.startsWith('HS') ? false : 8192;
const verify = createVerifier({ key: PEER_KEY, algorithms: [PEER_ALGORITHM], cache });
const windows = new Map();
let lines = [];

/** Write the audit lines of one turn of the event loop together. */
function flush() {
  writeSync(1, lines.join(''));
  lines = [];
}

/** Queue an audit line. */
function audit(line) {
  if (lines.length === 0) setImmediate(flush);
  lines.push(`${JSON.stringify(line)}\n`);
}

/** Return the claims of a bearer token, or throw ApiError. */
function authenticate(authorization) {
  if (authorization === undefined) throw new ApiError('AUTH_TOKEN_MISSING');
  const match = BEARER.exec(authorization);
  if (match === null) throw new ApiError('AUTH_TOKEN_INVALID');
  try {
    return verify(match[1]);
  } catch {
    throw new ApiError('AUTH_TOKEN_INVALID');
  }
}

/** Count a request of a patient in a fixed window; throw ApiError over the limit. */
function acquire(patient) {
  const now = Date.now();
  let window = windows.get(patient);
  if (window === undefined || window.endsAt <= now) {
    if (windows.size >= MAX_WINDOWS) windows.delete(windows.keys().next().value);
    window = { endsAt: now + WINDOW_MILLISECONDS, count: 0 };
    windows.set(patient, window);
  }
  window.count += 1;
  if (window.count > LIMIT) throw new ApiError('RATE_LIMITED');
}

// With Redis, the two look-ups of the service's own first version: revocations and pause, then the limit.
const redis = PEER_REDIS ? new Redis(PEER_REDIS, { enableAutoPipelining: true }) : null;
redis?.defineCommand('count', {
  numberOfKeys: 1,
  lua: `
    local count = redis.call('INCR', KEYS[1])
    local left = redis.call('PTTL', KEYS[1])
    if left < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) left = tonumber(ARGV[1]) end
    return count > tonumber(ARGV[2]) and left or -1`,
});

/** Look up pause and revocation of a patient, and count the request; throw ApiError. */
async function acquireInRedis(patient) {
  const revoked = `{vapi-sessions}:revoked:patient:${patient}`;
  const [paused, entry] = await redis.mget('{vapi-sessions}:paused', revoked);
  if (paused !== null || entry !== null) throw new ApiError('AUTH_TOKEN_INVALID');
  const key = `{vapi-sessions}:limit:${patient}`;
  const wait = await redis.count(key, WINDOW_MILLISECONDS, LIMIT);
  if (wait >= 0) throw new ApiError('RATE_LIMITED');
}

const app = Fastify({
  genReqId(request) {
    const sent = request.headers['x-request-id'];
    return sent !== undefined && REQUEST_ID.test(sent) ? sent : randomUUID();
  },
});
app.decorateRequest('patient', null);
app.decorateRequest('errorCode', null);

app.addHook('onRequest', (request, reply, done) => {
  const claims = authenticate(request.headers.authorization);
  request.patient = claims.id;
  if (claims.type !== 'patient') throw new ApiError('FORBIDDEN');
  if (redis) {
    acquireInRedis(claims.id).then(() => done(), done);
    return;
  }
  acquire(claims.id);
  done();
});

app.addHook('onSend', (request, reply, payload, done) => {
  reply.headers({
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    'X-Request-ID': request.id,
    'Server-Timing': `total;dur=${reply.elapsedTime.toFixed(3)}`,
  });
  done(null, payload);
});

app.addHook('onResponse', (request, reply, done) => {
  const granted = reply.statusCode === 200;
  audit({
    event: 'vapi_session_start',
    timestamp: new Date().toISOString(),
    request_id: request.id,
    outcome: granted ? 'granted' : 'denied',
    status: reply.statusCode,
    code: request.errorCode,
    patient: request.patient,
    credential_type: granted ? 'public_key' : null,
    duration_ms: Number(reply.elapsedTime.toFixed(3)),
    client: request.ip,
  });
  done();
});

app.setErrorHandler((error, request, reply) => {
  const fallback = error.statusCode < 500 ? 'INVALID_REQUEST' : 'INTERNAL_ERROR';
  const code = error instanceof ApiError ? error.code : fallback;
  request.errorCode = code;
  if (STATUSES[code] === 401) reply.header('WWW-Authenticate', CHALLENGE);
  if (code === 'RATE_LIMITED') reply.header('Retry-After', WINDOW_MILLISECONDS / 1000);
  reply.code(STATUSES[code]).send({ success: false, error: { code, message: '', details: '' } });
});

const text = { type: 'string' };
const patientContext = { type: 'object', properties: { id: text } };
const granted = {
  type: 'object',
  properties: {
    success: { type: 'boolean' },
    data: {
      type: 'object',
      properties: {
        apiKey: text,
        credentialType: text,
        expiresAt: { type: ['string', 'null'] },
        assistantId: text,
        patientContext: { type: 'object', properties: { id: text, validatedAt: text } },
      },
    },
    message: text,
  },
};
const schema = {
  body: { type: ['object', 'null'], properties: { patientContext } },
  response: { 200: granted },
};

app.post('/api/v1/sessions/vapi/start', { schema }, (request, reply) => {
  const claimed = request.body?.patientContext?.id;
  if (claimed !== undefined && claimed !== request.patient) throw new ApiError('PATIENT_MISMATCH');
  reply.send({
    success: true,
    data: {
      apiKey: 'x'.repeat(36),
      credentialType: 'public_key',
      expiresAt: null,
      assistantId: 'y'.repeat(36),
      patientContext: { id: request.patient, validatedAt: new Date().toISOString() },
    },
    message: 'Vapi configuration retrieved',
  });
});

await app.listen({ host: '127.0.0.1', port: PORT, backlog: 1024 });

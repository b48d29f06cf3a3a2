// A certified OpenID provider on loopback: the far side of the integration tests.
//
// It is strict where providers in the field are strict: PKCE is required, every refresh rotates the refresh token, and a
// refresh token that comes back a second time revokes the whole grant. Access tokens live for seconds, so that a test
// sees them die.
//
//   node server.mjs --redirect-uri URL [--port N] [--access-ttl SECONDS] [--distance MILLISECONDS]
//
// Each can come from the environment instead: OIDC_REDIRECT_URI, OIDC_PORT, OIDC_ACCESS_TTL, OIDC_DISTANCE. Port 0, the
// default, takes a free one. The distance is how long a token request and its answer are on their way, each at random up to
// that. What happens is told on standard output, one JSON object a line with the time; the first is `listening` with the
// issuer. `refresh_token.rotated` and `refresh_token.reused` name the grant and the token by a digest.
// The server ends on SIGTERM and when its standard input closes, so it cannot outlive the test that started it: give it a
// pipe, and keep the other end open.

import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import http from 'node:http';
import { parseArgs } from 'node:util';

const { values: args } = parseArgs({
  options: {
    'redirect-uri': { type: 'string', default: process.env.OIDC_REDIRECT_URI },
    port: { type: 'string', default: process.env.OIDC_PORT ?? '0' },
    'access-ttl': { type: 'string', default: process.env.OIDC_ACCESS_TTL ?? '5' },
    distance: { type: 'string', default: process.env.OIDC_DISTANCE ?? '0' },
  },
});

const CLIENT_ID = 'grantd-test';
const CLIENT_SECRET = 'grantd-test-secret';
const counts = new Map();
const redirectUri = args['redirect-uri'];
const accessTtl = number('access-ttl', 1);
const port = number('port', 0);
const distance = number('distance', 0);
if (!redirectUri) {
  stop(2, 'a redirect URI is needed: --redirect-uri URL or OIDC_REDIRECT_URI');
}

// The library says on standard output that its pages are for development only. Standard output is ours, so it is told
// on standard error. The library is loaded after that, and not by a static import, which would run first.
console.info = console.warn = console.log = console.error;
const { default: Provider } = await import('oidc-provider');

// The issuer is part of the configuration and holds the port, so the port is taken first.
let handle = (_request, response) => response.writeHead(503).end();
const server = http.createServer((request, response) => handle(request, response));
server.on('error', (error) => stop(1, error.message));
server.listen(port, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = watched(new Provider(issuer, configuration()));
  handle = distance > 0 ? fromAfar(provider.callback()) : provider.callback();
  report('listening', { url: issuer });
});

process.on('SIGTERM', () => process.exit(0));
process.on('SIGINT', () => process.exit(0));
process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();

function configuration() {
  const signing = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
  return {
    clients: [{
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      redirect_uris: [redirectUri],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'client_secret_basic',
    }],
    jwks: { keys: [{ ...signing, kid: 'test', use: 'sig', alg: 'RS256' }] },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    scopes: ['openid', 'offline_access', 'email', 'profile'],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'] },
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => claimsOf(id) }),
    pkce: { required: () => true },
    rotateRefreshToken: true,
    ttl: {
      AccessToken: accessTtl,
      AuthorizationCode: 60,
      Grant: 86_400,
      IdToken: 3_600,
      Interaction: 600,
      RefreshToken: 86_400,
      Session: 3_600,
    },
    features: {
      devInteractions: { enabled: true },
      revocation: { enabled: true },
      userinfo: { enabled: true },
    },
  };
}

// Whatever name is given at the login page is an account.
function claimsOf(id) {
  return { sub: id, name: `Test ${id}`, preferred_username: id, email: `${id}@example.test`, email_verified: true };
}

// A request whose client is gone before it arrives is refused unread. One that arrives is worked on, whatever becomes of the
// client after that.
function fromAfar(callback) {
  return (request, response) => {
    if (request.url !== '/token') {
      callback(request, response);
      return;
    }
    const end = response.end.bind(response);
    response.end = (...answer) => setTimeout(() => end(...answer), Math.random() * distance);
    setTimeout(() => callback(request, response), Math.random() * distance);
  };
}

function watched(provider) {
  provider.on('grant.success', (ctx) => {
    report('grant.success', { grant_type: grantType(ctx), grant: ctx.oidc.entities.Grant?.jti });
  });
  provider.on('grant.error', (ctx, error) => {
    report('grant.error', { grant_type: grantType(ctx), error: error.error, detail: error.error_detail });
    if (error.error_detail === 'refresh token already used') {
      report('refresh_token.reused', named(ctx.oidc.entities.RefreshToken));
    }
  });
  provider.on('refresh_token.consumed', (token) => report('refresh_token.rotated', named(token)));
  provider.on('grant.revoked', () => report('grant.revoked', {}));
  provider.on('authorization.success', () => report('authorization.success', {}));
  provider.on('authorization.error', (_ctx, error) => report('authorization.error', { error: error.error }));
  provider.on('revocation.error', (_ctx, error) => report('revocation.error', { error: error.error }));
  provider.on('server_error', (_ctx, error) => report('server_error', { error: error.message }));
  return provider;
}

// The id of a refresh token is the token itself, which stands in no log.
function named(token) {
  return { grant: token.grantId, token: createHash('sha256').update(token.jti).digest('hex').slice(0, 16) };
}

// An error in reading the request comes before there is a body.
function grantType(ctx) {
  return ctx.oidc?.body?.grant_type ?? null;
}

// Every event carries how often it has happened, so that a test can wait for the n-th.
function report(event, details) {
  const key = details.grant_type ? `${event} ${details.grant_type}` : event;
  const count = (counts.get(key) ?? 0) + 1;
  counts.set(key, count);
  process.stdout.write(`${JSON.stringify({ event, at_ms: Date.now(), ...details, count })}\n`);
}

function number(option, least) {
  const value = Number(args[option]);
  if (!Number.isInteger(value) || value < least) {
    stop(2, `--${option} wants a whole number of at least ${least}`);
  }
  return value;
}

function stop(code, message) {
  process.stderr.write(`server.mjs: ${message}\n`);
  process.exit(code);
}

// oidc-provider over HTTPS, as a JSON file says: node server.mjs LIBRARY SETTINGS KEY CERTIFICATE. The settings are
// read again at the next request after a change; sessions and tokens stay, since they are kept outside a provider.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { pathToFileURL } from 'node:url';

const [library, file, key, certificate] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(library));
const { createMemoryAdapter } = await import(new URL('adapters/memory_adapter.js', pathToFileURL(library)));
const memory = createMemoryAdapter();

const SCOPED = {
  profile: ['name', 'preferred_username'],
  email: ['email', 'email_verified'],
  eduperson_entitlement: ['eduperson_entitlement'],
  eduperson_assurance: ['eduperson_assurance'],
  'wlcg.groups': ['wlcg.groups'],
  voperson_id: ['voperson_id'],
  cert_entitlement: ['cert_entitlement'],
};

function configuration(settings) {
  const scopes = ['openid', 'offline_access', ...Object.keys(SCOPED), ...settings.scopes];
  // Ended as if it had expired. To revoke one would end the refresh token of its grant, too.
  const adapter = (model) => {
    const tokens = memory(model);
    const { find } = tokens;
    tokens.find = async (id) => (settings.ended_tokens.includes(id) ? undefined : find.call(tokens, id));
    return tokens;
  };
  return {
    adapter,
    clients: Object.values(settings.clients).map(({ pkce, ...metadata }) => metadata),
    jwks: settings.jwks,
    scopes,
    claims: { openid: ['sub'], ...SCOPED },
    conformIdTokenClaims: !settings.claims_in_id_token,
    cookies: {
      keys: [settings.cookie_key],
      // Browsers do not tell the ports of a host apart, so each provider gives its cookies names of its own.
      names: { session: `s${settings.port}`, interaction: `i${settings.port}`, resume: `r${settings.port}` },
    },
    pkce: { required: (ctx, client) => settings.clients[client.clientId].pkce },
    ttl: {
      AccessToken: settings.access_token_s,
      ClientCredentials: settings.access_token_s,
      DeviceCode: settings.device_code_s,
      IdToken: 3600,
      RefreshToken: 86400,
      Session: 86400,
      Interaction: 3600,
      Grant: 86400,
    },
    findAccount: (ctx, sub) => settings.users[sub] && { accountId: sub, claims: () => settings.users[sub] },
    extraTokenClaims: (ctx, token) => settings.access_token_claims[token.accountId],
    features: {
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: settings.audience !== null,
        defaultResource: () => settings.audience,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: scopes.join(' '),
          audience: settings.audience,
          accessTokenTTL: settings.access_token_s,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  };
}

let read;
let answer;
let port;
function current() {
  // Its time would not tell two changes apart that are made within one tick of the clock.
  const text = readFileSync(file, 'utf8');
  if (text !== read) {
    const settings = JSON.parse(text);
    const provider = new Provider(settings.issuer, configuration(settings));
    provider.on('server_error', (ctx, error) => console.error(error));
    for (const refused of ['authorization.error', 'grant.error', 'userinfo.error', 'introspection.error']) {
      provider.on(refused, (ctx, error) => console.error(`${refused}: ${error.message} ${error.error_detail ?? ''}`));
    }
    read = text;
    answer = provider.callback();
    port = settings.port;
  }
  return answer;
}

current();
createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (request, response) =>
  current()(request, response),
).listen(port, '127.0.0.1');

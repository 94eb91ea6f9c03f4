// A certified OpenID provider with one client, for tests: node oidc_provider.mjs PORT REDIRECT_URL BACK_URL LOGOUT_URL
//
// Whoever signs in as NAME is NAME@x.test, in the groups that GROUPS says. Its own development pages ask for a name
// and any password, and for consent.
import dns from 'node:dns';
import Provider from 'oidc-provider';

const [port, redirect, back, logout] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'tport-client',
    client_secret: 'a-secret-of-the-client',
    redirect_uris: [redirect],
    post_logout_redirect_uris: [back],
    backchannel_logout_uri: logout,
  }],
  // Names below localhost are this machine (RFC 6761); not every resolver knows.
  httpOptions: () => ({ dnsLookup: (_, options, done) => dns.lookup('127.0.0.1', options, done) }),
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['groups', 'env'] },
  conformIdTokenClaims: true, // claims come by user info, as OpenID Connect would have it
  pkce: { required: () => true },
  features: { backchannelLogout: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  cookies: { keys: ['of a test'] },
  jwks: { keys: [JSON.parse(process.env.JWK)] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      email: `${id}@x.test`,
      email_verified: true,
      groups: (process.env.GROUPS || '').split(','),
      env: 'dev',
    }),
  }),
});
// The client's certificate is of an authority that this process is told by NODE_EXTRA_CA_CERTS.
provider.listen(Number(port), '127.0.0.1', () => console.log(`listening at ${issuer}`));

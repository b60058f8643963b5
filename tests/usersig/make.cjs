// Signatures by npm's tls-sig-api-v2, a JSON object on each line.
const { Api } = require('tls-sig-api-v2/TLSSigAPIv2');

const app = 1400000000;
const keys = ['5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e', 'a key that is no hexadecimal: ключ'];
const identifiers = ['administrator', 'alice', '@TLS#NOT_FOUND', 'user with spaces', 'пользователь', '用户', 'quote"back\\slash'];

function vector(key, identifier, expire, sign) {
  const made = Math.floor(Date.now() / 1000);
  const signature = sign(new Api(app, key));
  const generator = 'npm tls-sig-api-v2 1.0.2';
  console.log(JSON.stringify({ generator, key, sdkappid: app, identifier, made, expire, signature }));
}

for (const key of keys) {
  for (const identifier of identifiers) {
    vector(key, identifier, 180 * 86400, (api) => api.genUserSig(identifier, 180 * 86400));
  }
}
vector(keys[0], 'alice', 60, (api) => api.genUserSig('alice', 60));
vector(keys[0], 'alice', 86400, (api) => api.genPrivateMapKey('alice', 86400, 10000, 255));

"""Signatures by PyPI's tls-sig-api-v2, a JSON object on each line."""

import json
import time

from TLSSigAPIv2 import TLSSigAPIv2

APP = 1400000000
KEYS = ["5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e", "a key that is no hexadecimal: ключ"]
IDENTIFIERS = ["administrator", "alice", "@TLS#NOT_FOUND", "user with spaces", "пользователь", "用户", 'quote"back\\slash']


def vector(key, identifier, expire, userbuf):
    api = TLSSigAPIv2(APP, key)
    made = int(time.time())
    if userbuf is None:
        signature = api.gen_sig(identifier, expire)
    else:
        signature = api.gen_sig_with_userbuf(identifier, expire, userbuf)
    print(json.dumps({
        "generator": "PyPI tls-sig-api-v2 1.1", "key": key, "sdkappid": APP, "identifier": identifier,
        "made": made, "expire": expire, "signature": signature,
    }))


for key in KEYS:
    for identifier in IDENTIFIERS:
        vector(key, identifier, 180 * 86400, None)
vector(KEYS[0], "alice", 60, None)
vector(KEYS[0], "alice", 86400, b"room\x00\x01\xff")

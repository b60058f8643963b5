"""Checks signatures by nothing but Python's standard library, against the description of TLSSigAPIv2.

Reads JSON objects with key, sdkappid, identifier and signature, one on each line; ends with 1 at the first that is wrong.
"""

import base64
import hashlib
import hmac
import json
import sys
import time
import zlib

for line in sys.stdin:
    given = json.loads(line)
    standard = given["signature"].translate(str.maketrans("*-_", "+/="))
    fields = json.loads(zlib.decompress(base64.b64decode(standard, validate=True)))
    text = "TLS.identifier:{}\nTLS.sdkappid:{}\nTLS.time:{}\nTLS.expire:{}\n".format(
        given["identifier"], given["sdkappid"], fields["TLS.time"], fields["TLS.expire"])
    mac = base64.b64encode(hmac.new(given["key"].encode(), text.encode(), hashlib.sha256).digest()).decode()
    expected = {
        "TLS.ver": "2.0", "TLS.identifier": given["identifier"], "TLS.sdkappid": given["sdkappid"],
        "TLS.time": fields["TLS.time"], "TLS.expire": fields["TLS.expire"], "TLS.sig": mac,
    }
    if fields != expected or not 0 <= time.time() - fields["TLS.time"] < fields["TLS.expire"]:
        sys.exit(f"wrong: {fields} instead of {expected}")
    print("ok", given["identifier"])

"""Signature Version 4: AWS's own published cases, and botocore's signatures of requests at random."""

from __future__ import annotations

import hashlib
import hmac as public_hmac
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ldreader.wire.sigv4 import authorization, hmac

PUBLISHED = json.loads((Path(__file__).parent / "cases" / "sigv4.json").read_text(encoding="utf-8"))
"""Those of AWS's test suite of 2015 that are a POST to the path ``/`` without a query."""

ODD = "abcXYZ019+/=-_.~%&?#:;,'\"\\ <>[]{}|!@$^*()`"


@pytest.mark.parametrize("case", PUBLISHED["cases"], ids=lambda case: str(case["name"]))
def test_it_signs_as_published(case: dict[str, Any]) -> None:
    settings = {name: PUBLISHED[name] for name in ("key_id", "secret", "region", "service")}
    signed = authorization(case["headers"], case["body"].encode(), **settings)
    names = ";".join(sorted(name.lower() for name in case["headers"]))
    scope = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"
    assert signed == (f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={case['signature']}")


def some(source: random.Random, letters: str, most: int) -> str:
    return "".join(source.choice(letters) for _ in range(source.randint(1, most)))


@pytest.mark.parametrize("seed", range(300))
def test_it_signs_as_botocore_does(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = pytest.importorskip("botocore.auth", reason="boto3 is not installed")
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    source = random.Random(seed)
    host = f"{some(source, 'abcdefgh0123456789', 20)}.example" + source.choice(("", ":8000"))
    region, key_id = some(source, "abcdefgh-123", 20), some(source, "ABCDEFGHIJ0123456789", 20)
    secret = some(source, ODD, 90)
    token = source.choice(("", some(source, ODD, 2000)))
    body = source.choice((b"", some(source, ODD + "üß✓€\n\t\0", 3000).encode(), source.randbytes(500)))
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"A.{some(source, ODD, 30)}"}
    for _ in range(source.randint(0, 4)):
        headers[f"X-{some(source, 'abcDEF-1', 9)}"] = some(source, ODD, 40)
    request = AWSRequest("POST", f"http://{host}/", headers=headers, data=body)
    auth.SigV4Auth(Credentials(key_id, secret, token or None), "dynamodb", region).add_auth(request)
    signed = {**headers, "Host": host, "X-Amz-Date": request.headers["X-Amz-Date"]}
    if token:
        signed["X-Amz-Security-Token"] = token
    ours = authorization(signed, body, key_id=key_id, secret=secret, region=region, service="dynamodb")
    assert ours == request.headers["Authorization"]


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 200])
def test_the_hmac_is_that_of_the_standard_library(length: int) -> None:
    key = random.Random(length).randbytes(length)
    assert hmac(key, b"message") == public_hmac.digest(key, b"message", hashlib.sha256)


def test_it_needs_no_public_module_for_its_hash() -> None:
    program = (
        "import sys; from ldreader.wire.sigv4 import authorization\n"
        "authorization({'Host': 'h', 'X-Amz-Date': '20150830T123600Z'}, b'', key_id='k', secret='s', region='r',"
        " service='x')\n"
        "assert not {'hashlib', 'hmac', 'json', 'socket'} & set(sys.modules)"
    )
    subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n{program}",
        ],
        check=True,
        timeout=60,
    )

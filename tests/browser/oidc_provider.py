"""A small OpenID Connect provider for tests: one user, who is logged in already, and real signed tokens.

Run as ``python oidc_provider.py PORT EMAIL``. OpenID Connect Core 1.0, section 3.1 (authorization code flow).
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

PORT, EMAIL = int(sys.argv[1]), sys.argv[2]
ISSUER = f"http://127.0.0.1:{PORT}"
KEY = RSAKey.generate_key(2048, {"kid": "test"})
nonces: dict[str, str] = {}


async def configuration(_: Request) -> Response:
    return JSONResponse(
        {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
    )


async def authorize(request: Request) -> Response:
    asked = request.query_params
    code = f"code{len(nonces)}"
    nonces[code] = asked.get("nonce", "")
    back = urlencode({"code": code, "state": asked["state"]})
    return RedirectResponse(f"{asked['redirect_uri']}?{back}")


async def token(request: Request) -> Response:
    form = await request.form()
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "sub": "1",
        "aud": "stamp-index",
        "iat": now,
        "exp": now + 600,
        "email": EMAIL,
        "name": EMAIL.partition("@")[0],
        "nonce": nonces.pop(str(form["code"])),
    }
    signed = jwt.encode({"alg": "RS256", "kid": "test"}, claims, KEY)
    return JSONResponse(
        {"access_token": "a", "token_type": "Bearer", "id_token": signed, "expires_in": 600}
    )


async def keys(_: Request) -> Response:
    return JSONResponse({"keys": [KEY.as_dict(private=False)]})


ROUTES = [
    Route("/.well-known/openid-configuration", configuration),
    Route("/authorize", authorize),
    Route("/token", token, methods=["POST"]),
    Route("/jwks", keys),
]

if __name__ == "__main__":
    uvicorn.run(Starlette(routes=ROUTES), host="127.0.0.1", port=PORT, log_level="warning")

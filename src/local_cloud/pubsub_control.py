"""How another process breaks and watches the local Pub/Sub, and has tokens signed, over HTTP.

Paths beside Google's on the REST port; JSON in and out, errors in Google's form.
``local_cloud.pubsub`` describes them for those who call them.
"""

from email.utils import formatdate
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from local_cloud import rest_json
from local_cloud.pubsub_orders import Fields, read_orders
from local_cloud.pubsub_records import InvalidArgumentError
from local_cloud.pubsub_service import Service


def control_routes(service: Service) -> list[BaseRoute]:
    """Build the routes."""

    async def arm_faults(request: Request) -> JSONResponse:
        arm = read_orders(await _object(request))
        arm(service.faults)
        return JSONResponse({})

    async def show_counters(_: Request) -> JSONResponse:
        return JSONResponse(service.counters())

    async def sign_token(request: Request) -> JSONResponse:
        fields = Fields(await _object(request))
        token = service.signer.mint(
            email=fields.take("email", str),
            audience=fields.take("audience", str),
            lifetime_seconds=fields.take("lifetime_seconds", int, default=3_600),
            claims=fields.take("claims", dict, default={}),
        )
        fields.end()
        return JSONResponse({"token": token})

    async def show_certificates(_: Request) -> JSONResponse:
        # As Google's: a service may hold its own clock to it.
        headers = {"Date": formatdate(usegmt=True)}
        return JSONResponse(service.signer.certificates(), headers=headers)

    async def show_keys(_: Request) -> JSONResponse:
        return JSONResponse(service.signer.jwks())

    return [
        Route("/control/faults", arm_faults, methods=["POST"]),
        Route("/control/counters", show_counters, methods=["GET"]),
        Route("/control/tokens", sign_token, methods=["POST"]),
        # Where Google has its own, under https://www.googleapis.com.
        Route("/oauth2/v1/certs", show_certificates, methods=["GET"]),
        Route("/oauth2/v3/certs", show_keys, methods=["GET"]),
    ]


async def _object(request: Request) -> dict[str, Any]:
    try:
        return await rest_json.read_object(request)
    except rest_json.BodyError as error:
        raise InvalidArgumentError(str(error)) from error

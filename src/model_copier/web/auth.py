"""Lets a call in, or answers 401 or 403: every path but the open ones passes here.

``identity`` decides by the headers, ``certificates`` brings the keys, google-auth checks
the signature. What must not break: whoever is let in was named by a token that Google
signed for us; a token is never logged, nor told.
"""

from dataclasses import dataclass, replace

from google.auth import jwt
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from model_copier.domain.errors import Code, UnavailableError
from model_copier.engine.ports import Clock
from model_copier.logs import log
from model_copier.settings import Settings, TokenChecks
from model_copier.web.call_context import Call, call_of, with_call
from model_copier.web.certificates import Certificates
from model_copier.web.error_responses import problem, unavailable
from model_copier.web.identity import (
    Claimed,
    ForbiddenError,
    Role,
    UnauthenticatedError,
    role_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Decides who may call what, by the operator's settings."""

    settings: Settings
    certificates: Certificates
    clock: Clock

    def before(self, app: ASGIApp) -> ASGIApp:
        """Put the decision before an application."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope)
            call, path = call_of(request), scope["path"][:200]
            try:
                admitted = await self.admit(request, call)
            except UnauthenticatedError as error:
                answer = problem(
                    str(error),
                    code=Code.UNAUTHENTICATED,
                    request_id=call.id,
                    headers={"WWW-Authenticate": "Bearer"},
                )
                log("refused", severity="WARNING", status=401, request_id=call.id, path=path,
                    why=str(error))  # fmt: skip
            except ForbiddenError as error:
                (account,) = error.args
                why = f"{account} may not call this"
                answer = problem(why, code=Code.PERMISSION_DENIED, request_id=call.id)
                log("refused", severity="WARNING", status=403, request_id=call.id, path=path,
                    caller=account, why=why)  # fmt: skip
            except UnavailableError as error:
                answer = unavailable(error, request_id=call.id)
                log("unavailable", severity="ERROR", request_id=call.id, path=path, why=str(error))
            else:
                if admitted.account:
                    log("admitted", request_id=call.id, path=path, caller=admitted.account)
                await app(with_call(scope, admitted), receive, send)
                return
            await answer(scope, receive, send)

        return guarded

    async def admit(self, request: Request, call: Call) -> Call:
        """Return the call with who makes it.

        Raises:
            UnauthenticatedError: 401.
            ForbiddenError: 403; its argument is the account.
            UnavailableError: the signature cannot be checked now.
        """
        role = role_of(request.scope["path"])
        if role is Role.ANYBODY or self.settings.token_checks is TokenChecks.NONE:
            return call
        claimed = Claimed.read(request.scope["headers"])
        account = claimed.email(
            audiences=self.settings.audience,
            now=self.clock.now().timestamp(),
            skew=self.settings.max_skew_seconds,
        )
        await self._check_signature(claimed)
        if role is Role.PUSH:
            if account != self.settings.push_account:
                raise ForbiddenError(account)
            return replace(call, account=account)
        for caller in self.settings.callers_file.callers:
            if caller.account == account:
                return replace(call, account=account, caller=caller)
        raise ForbiddenError(account)

    async def _check_signature(self, claimed: Claimed) -> None:
        if claimed.signature_removed:
            settings = self.settings
            if settings.token_checks is TokenChecks.TRUST_CLOUD_RUN and settings.k_service:
                return
            raise UnauthenticatedError("the token has no signature")
        certificates = await self.certificates.of(claimed.key_id)
        try:
            jwt.decode(
                claimed.token,
                certs={claimed.key_id: certificates[claimed.key_id]},
                audience=list(self.settings.audience),
                clock_skew_in_seconds=self.settings.max_skew_seconds,
            )
        except (KeyError, ValueError):
            # Whatever is wrong, its words could quote the token.
            raise UnauthenticatedError("the token's signature is not Google's") from None

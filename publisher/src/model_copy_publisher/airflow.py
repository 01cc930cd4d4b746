"""A deferrable Airflow operator that copies a model, and its trigger. The extra ``airflow``.

While the copy runs no worker slot is taken: the trigger waits in the triggerer. The request's
id is made of the task's own run, so that a retried or cleared task waits for the same copy
instead of making another one.
"""

import asyncio
import hashlib
import shlex
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from model_copy_publisher import CopyRequest, NoReplyError, Publisher, UnreachableError


class CopyModelOperator(BaseOperator):
    """Publishes ``request`` (the fields of a ``CopyRequest``) and ends with its outcome.

    XCom gets the reply: ``resource_name``, ``version``, ``verified`` and so on.
    """

    template_fields = ("request", "project")

    def __init__(
        self,
        *,
        request: dict[str, Any],
        project: str,
        timeout_seconds: float = 7200.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.request = request
        self.project = project
        self.timeout_seconds = timeout_seconds

    def execute(self, context: Any) -> None:
        """Hand over to the trigger, which publishes once it listens."""
        run = context["ti"]
        name = f"{run.dag_id}/{run.task_id}/{run.run_id}/{run.map_index}"
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        request = {"request_id": f"airflow-{digest}"} | self.request
        CopyRequest(**request)  # what breaks the contract fails here, by name
        trigger = CopyModelTrigger(
            request=request, project=self.project, timeout_seconds=self.timeout_seconds
        )
        self.defer(trigger=trigger, method_name="ended")

    def ended(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Take the outcome; a copy that did not succeed fails the task."""
        del context
        if not event["ok"]:
            error = event.get("error") or {}
            again = ""
            if event.get("dead_letter"):
                # A retry of the task publishes the same request, and is told this outcome again.
                replay = shlex.join(["--request-id", str(event.get("request_id"))])
                again = f" Once that is mended: model-copy dead-letters replay {replay}"
            raise AirflowException(
                f"{event['outcome']}: {error.get('message')} {error.get('hint') or ''}{again}"
            )
        return event


class CopyModelTrigger(BaseTrigger):
    """Publishes the request and waits for its outcome. A trigger that is started anew, in another
    triggerer or twice, publishes the same request again: never a second copy.
    """

    def __init__(self, *, request: dict[str, Any], project: str, timeout_seconds: float) -> None:
        super().__init__()
        self.request = request
        self.project = project
        self.timeout_seconds = timeout_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Say how to make it again."""
        fields = {
            "request": self.request,
            "project": self.project,
            "timeout_seconds": self.timeout_seconds,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", fields

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the outcome, as the reply tells it."""
        try:
            yield TriggerEvent(await asyncio.to_thread(self._copy))
        except (NoReplyError, UnreachableError) as error:
            yield TriggerEvent(
                {"ok": False, "outcome": "no reply", "error": {"message": str(error)}}
            )

    def _copy(self) -> dict[str, Any]:
        # A thread of its own: the API is sync, and the triggerer's loop must not wait.
        with Publisher(project=self.project) as publisher:
            reply = publisher.copy(
                CopyRequest(**self.request), timeout_seconds=self.timeout_seconds
            )
        return {"ok": reply.ok, **reply.to_json()}

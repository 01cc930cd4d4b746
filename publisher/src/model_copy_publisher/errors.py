"""Errors of the publisher, grouped by the caller's next step.

    ModelCopyError
    ├── InvalidRequestError    give up: nothing was sent; correct the field
    ├── BrokerError            Pub/Sub could not be used; ``advice`` says what to do next
    │   ├── RefusedError       give up: no permission, no credentials, a bad name
    │   ├── MissingError       give up, or make it: a topic or the subscription is not there
    │   └── UnreachableError   retry: no answer; it is unknown whether a message was published
    ├── NotWrittenError        free disk space, then --resume; published requests stay published
    ├── UnknownRequestError    give up: the service knows no request of that id and source
    └── NoReplyError           retry: no reply came in time, the copy may go on

Publishing the same request again is harmless after every one of them.
"""


class ModelCopyError(Exception):
    """Anything that this package raises on purpose."""


class InvalidRequestError(ModelCopyError, ValueError):
    """A value outside the contract; the message is ``field: reason``."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


class BrokerError(ModelCopyError):
    """A call to Pub/Sub failed; ``advice`` is the next thing to try."""

    def __init__(self, sentence: str, advice: str) -> None:
        super().__init__(sentence)
        self.advice = advice


class RefusedError(BrokerError):
    """The same call would be refused again."""


class MissingError(BrokerError):
    """A topic or a subscription does not exist (any longer)."""


class UnreachableError(BrokerError):
    """No answer, or one that says "later"; the call may have worked all the same."""


class NotWrittenError(ModelCopyError):
    """The journal or the results could not be written."""


class NoReplyError(ModelCopyError):
    """No outcome was received in time; publish the same request again to wait again."""


class UnknownRequestError(ModelCopyError):
    """The service has no such request: never published, another ``request_source``, or expired."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"No request {request_id} is known.")
        self.request_id = request_id

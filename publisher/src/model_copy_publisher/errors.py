"""What can go wrong between a person and an outcome, by what to do about it.

    ModelCopyError
    ├── InvalidRequestError    give up: nothing was sent; correct the field
    ├── BrokerError            Pub/Sub could not be used; ``advice`` says what to do next
    │   ├── RefusedError       give up: no permission, no credentials, a bad name
    │   ├── MissingError       give up, or make it: a topic or the subscription is not there
    │   └── UnreachableError   try again: no answer; whether Pub/Sub took a message is unknown
    ├── NotWrittenError        make room, then go on with --resume; what was published stays so
    ├── UnknownRequestError    give up: the service knows no request of that id and source
    └── NoReplyError           ask again: nothing was announced in time, the copy may go on

Publishing the same request again is harmless after every one of them.
"""


class ModelCopyError(Exception):
    """Anything that this package raises on purpose."""


class InvalidRequestError(ModelCopyError, ValueError):
    """A value outside the contract, told as ``field: what is wrong``."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


class BrokerError(ModelCopyError):
    """Pub/Sub did not do what it was asked; ``advice`` is the next thing to try."""

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
    """What Pub/Sub has taken, or how it ended, could not be written down."""


class NoReplyError(ModelCopyError):
    """The outcome was not announced in time; publish the same request again to ask again."""


class UnknownRequestError(ModelCopyError):
    """Nobody asked for it, or under another ``request_source``, or too long ago."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"No request {request_id} is known.")
        self.request_id = request_id

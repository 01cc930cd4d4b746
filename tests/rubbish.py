"""Whatever may be posted at the worker: good requests, bad ones, and what is no request at all.

Made from a ``Random`` alone, so one generator serves both drivers: Hypothesis hands in a
random of its own, which it can shrink, and the soak one with a seed. Names come from small
pools, so that inputs meet each other: duplicates, conflicts, replays, cancels.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from model_copier.contract.request_schema import CopyData
from model_copier.contract.requests import (
    CANCEL_REQUESTED,
    LETTER_ATTRIBUTES,
    MAX_DATA_BYTES,
    MAX_MESSAGE_BYTES,
    REQUESTED,
    STATUS_REQUESTED,
    Identity,
)
from model_copier.web.push import MAX_BODY_BYTES
from world import PARENT, REQUEST, SOURCE, SOURCE_PROJECT, TARGET_PROJECT

REQUESTS = "/pubsub/requests"
DEAD_LETTERS = "/pubsub/dead-letters"
TICKS = "/pubsub/ticks"

_IDS = ["a", "a", "a", "b"]
_FAILED_ID = "failed"
_SOURCES = [*["//ec2/pipeline"] * 5, "//ci"]
_MISSING = "1"
_TEXTS = [
    "", "x", " ", "0", "null", "é", "Ünï/çødé", "漢字🙂", "a b", "\x00", "line\nfeed", "x" * 64,
    "x" * 65, "x" * 1024, "x" * 1025, "é" * 513, "../../etc", "'; DROP TABLE jobs; --",
    "${jndi:ldap://x}", "\u202e", "\ufeff", "\ud800", "Faker-251230", SOURCE, PARENT, REQUESTED,
]  # fmt: skip
_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**53 + 1, -(2**63), 10**400, 0.5, 1e308, -0.0, float("nan"),
    float("inf"), [], {}, [None], {"": None}, [[[]]], {"a": {"a": {"a": 1}}},
]  # fmt: skip
_CONTENT_TYPES = [
    "application/json", "application/json; charset=utf-8", "text/plain", "", "application/xml",
    "application/cloudevents+json", "Application/CloudEvents+JSON; charset=utf-16",
    "application/cloudevents-batch+json", "application/cloudevents",
]  # fmt: skip
_ATTRIBUTES = [
    *LETTER_ATTRIBUTES, "replay_of", "reply_tag", "content-type", "ce-id", "ce-source", "ce-type",
    "ce-specversion", "ce-time", "ce-data", "ce-extensions", "ce-", "CE-ID", "Ce-Type", "ce_id",
    "CloudPubSubDeadLetterSourceSubscription", "CloudPubSubDeadLetterSourceDeliveryCount",
    "googclient_schemaencoding", "goog-x", "Googol", "x" * 256, "x" * 257, "é" * 128, "é" * 129,
    "Content-Type", "id", "data",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One thing that is posted, and what befalls the worker with it."""

    body: bytes
    path: str = REQUESTS
    method: str = "POST"
    # From its nth call on the store is out; None: it is well.
    store_fails_at: int | None = None
    # The first of those calls works all the same, and only its answer is lost.
    answer_lost: bool = False
    # Until the next input.
    wait_seconds: float = 0


Attributes = dict[str, Any]  # values of any type: that is the point
_Form = Callable[[Random, dict[str, Any], str, str], tuple[Attributes, bytes]]


def any_scene(random: Random) -> list[Input]:
    """Make one input of any kind, or some that belong together."""
    if _chance(random, 10):
        return random.choice([_failed_and_replayed, _asked_and_questioned])(random)
    return [random.choice(_KINDS)(random)]


# Scenes: chance alone would seldom lead there


def _failed_and_replayed(random: Random) -> list[Input]:
    return [_failing(random), _replay(random)]


def _asked_and_questioned(random: Random) -> list[Input]:
    return [replace(_request(random), wait_seconds=0), _question(random)]


# Kinds of inputs


def _sent(random: Random, body: bytes, *, path: str = REQUESTS) -> Input:
    fails = _chance(random, 8)
    return Input(
        body=body,
        path=random.choice([path, path, "/"]) if path == REQUESTS else path,
        store_fails_at=random.randrange(6) if fails else None,
        answer_lost=fails and _chance(random, 50),
        wait_seconds=random.choice([0, 0, 0, 0, 3, 60]),
    )


def _request(random: Random) -> Input:
    return _sent(random, _push(random, *_event(random, _usual(random))))


def _failing(random: Random) -> Input:
    data = {"source_model_id": _MISSING, "destination_model_id": "never"}
    return _sent(random, _push(random, *_event(random, data, request_id=_FAILED_ID)))


def _replay(random: Random) -> Input:
    """A letter published again, mended or not."""
    request_id = random.choice([_FAILED_ID, _FAILED_ID, _FAILED_ID, "a"])
    attributes, data = _binary(random, _usual(random), REQUESTED, request_id)
    identity = Identity(source=attributes["ce-source"], request_id=attributes["ce-id"])
    attributes["replay_of"] = f"{identity.key}-{random.choice([1, 1, 1, 2, 3])}"
    return _sent(random, _push(random, attributes, data))


def _question(random: Random) -> Input:
    data = {"request_id": random.choice(["a", "a", "a", "b", _FAILED_ID, "nobody"])}
    if _chance(random, 30):
        data["request_source"] = random.choice(_SOURCES)
    kind = random.choice([CANCEL_REQUESTED, STATUS_REQUESTED])
    return _sent(random, _push(random, *_event(random, data, kind=kind, request_id="question")))


def _validation(random: Random) -> Input:
    data = _usual(random) | {"validate_only": True}
    if _chance(random, 40):
        data["source_model_id"] = _MISSING
    return _sent(random, _push(random, *_event(random, data)))


def _forwarded(random: Random) -> Input:
    """A message that Pub/Sub gave up."""
    attributes, data = _event(random, _usual(random))
    attributes["CloudPubSubDeadLetterSourceDeliveryCount"] = random.choice(["5", "100", "é", ""])
    attributes["CloudPubSubDeadLetterSourceSubscription"] = "model-copy-requests"
    if _chance(random, 30):
        data = _bad_data(random)
    return _sent(random, _push(random, attributes, data), path=DEAD_LETTERS)


def _bad_fields(random: Random) -> Input:
    data = _usual(random)
    for _ in range(random.choice([1, 1, 2])):
        data[random.choice([*CopyData.model_fields, "colour", ""])] = _value(random)
    return _sent(random, _push(random, *_event(random, data)))


def _bad_json(random: Random) -> Input:
    attributes, _ = _event(random, _usual(random))
    return _sent(random, _push(random, attributes, _bad_data(random)))


def _bad_event(random: Random) -> Input:
    """A structured event with anything in any place."""
    event: Attributes = json.loads(_structured(random, _usual(random), REQUESTED, "a")[1])
    names = [*event, "data_base64", "extensions", "time", "subject", "datacontenttype"]
    for _ in range(random.choice([1, 1, 2])):
        event[random.choice(names)] = _value(random)
    data = json.dumps(event).encode()
    return _sent(random, _push(random, {"content-type": "application/cloudevents+json"}, data))


def _bad_attributes(random: Random) -> Input:
    attributes, data = _event(random, _usual(random))
    for _ in range(random.choice([1, 1, 2, 3])):
        match random.randrange(5):
            case 0 if attributes:
                del attributes[random.choice(sorted(attributes))]
            case 1 if attributes:
                name = random.choice(sorted(attributes))
                attributes[random.choice([name.upper(), name.title()])] = attributes.pop(name)
            case 2:
                attributes["content-type"] = random.choice(_CONTENT_TYPES)
            case 3:
                many = random.choice([14, 21, 95, 100, 101, 300])
                attributes |= {f"own{number}": _text(random) for number in range(many)}
            case _:
                attributes[random.choice([*_ATTRIBUTES, *_TEXTS])] = _text(random)
    return _sent(random, _push(random, attributes, data))


def _bad_envelope(random: Random) -> Input:
    """Nearly a push."""
    attributes, data = _event(random, _usual(random))
    envelope = json.loads(_push(random, attributes, data))
    message = envelope["message"]
    match random.randrange(7):
        case 0:
            del message[random.choice(sorted(message))]
        case 1:
            message[random.choice([*message, "messageId", "attributes"])] = _value(random)
        case 2:
            message["data"] = random.choice(["?", "YQ", "YQ==\n", "_-8=", "é", "Y Q=", 7, [], 0])
        case 3:
            message.setdefault("attributes", {})[random.choice(_ATTRIBUTES)] = _value(random)
        case 4:
            envelope["message"] = _value(random)
        case 5:
            envelope["deliveryAttempt"] = _value(random)
        case _:
            message["messageId"] = message["message_id"] = _text(random)
    path = random.choice([REQUESTS, REQUESTS, DEAD_LETTERS])
    return _sent(random, json.dumps(envelope).encode(), path=path)


def _no_envelope(random: Random) -> Input:
    return _sent(random, _bad_data(random))


def _tick(random: Random) -> Input:
    body = random.choice([_push(random, {}, b"{}"), _bad_data(random)])
    return Input(body=body, path=TICKS, wait_seconds=random.choice([0, 60]))


def _misdirected(random: Random) -> Input:
    body = _push(random, *_event(random, _usual(random)))
    if _chance(random, 50):
        return Input(body=body, path=random.choice(["/pubsub", "/v1/models/copy", "/health", "/é"]))
    method = random.choice(["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"])
    return Input(body=body, path=random.choice([REQUESTS, DEAD_LETTERS, TICKS]), method=method)


def _large(random: Random) -> Input:
    """As large as Pub/Sub takes them, and beyond what the worker reads."""
    if _chance(random, 10):
        return _huge(random)
    path = random.choice([REQUESTS, DEAD_LETTERS, TICKS])
    return Input(body=bytes(MAX_BODY_BYTES + random.choice([1, 1000])), path=path)


def _huge(random: Random) -> Input:
    size = MAX_MESSAGE_BYTES + random.choice([-1000, -100, 0, 1, 10**6])
    if _chance(random, 50):
        return _sent(random, bytes(size))
    attributes, _ = _event(random, _usual(random))
    return _sent(random, _push(random, attributes, bytes(size)))


# How often, about in percent. Hypothesis knows no weights, so each lies there that often.
_KINDS: list[Callable[[Random], Input]] = [
    *[_request] * 24,
    *[_failing] * 7,
    *[_replay] * 9,
    *[_question] * 9,
    *[_validation] * 5,
    *[_forwarded] * 7,
    *[_bad_fields] * 8,
    *[_bad_json] * 7,
    *[_bad_event] * 6,
    *[_bad_attributes] * 9,
    *[_bad_envelope] * 9,
    *[_no_envelope] * 4,
    *[_tick] * 2,
    *[_misdirected] * 4,
    *[_large] * 2,
]


# What is in them


def _usual(random: Random) -> dict[str, Any]:
    """Data that keeps the contract; often the same, so that requests are duplicates too."""
    if _chance(random, 40):
        return dict(REQUEST)
    model = SOURCE.rpartition("/")[2]
    data: dict[str, Any] = {
        "source_model_id": random.choice([model, model, f"{model}@1", f"{model}@default", SOURCE])
    }
    match random.randrange(6):
        case 0:
            data["destination_parent_model"] = random.choice(["shared-parent", PARENT])
        case 1:
            pass  # the id is derived
        case _:
            data["destination_model_id"] = random.choice(["one", "two"])
            if _chance(random, 20):
                data["if_exists"] = random.choice(["fail", "skip", "new_version"])
    if _chance(random, 15):
        data |= {"source_project": SOURCE_PROJECT, "target_project": TARGET_PROJECT}
    if _chance(random, 10):
        data["correlation"] = {"run": 7, "é": [None, 0.1]}
    if _chance(random, 10):
        data["deadline_seconds"] = random.choice([1, 30, 604_800])
    return data


def _event(
    random: Random,
    data: dict[str, Any],
    *,
    kind: str = REQUESTED,
    request_id: str = "",
) -> tuple[Attributes, bytes]:
    """Attributes and data of a message, in one of the three forms."""
    request_id = request_id or random.choice(_IDS)
    forms: list[_Form] = [_binary, _binary, _structured]
    if kind == REQUESTED:
        forms.append(_plain)
    return random.choice(forms)(random, data, kind, request_id)


def _binary(
    random: Random, data: dict[str, Any], kind: str, request_id: str
) -> tuple[Attributes, bytes]:
    attributes = {
        "ce-specversion": "1.0",
        "ce-id": request_id,
        "ce-source": random.choice(_SOURCES),
        "ce-type": kind,
        "content-type": "application/json",
    }
    if _chance(random, 10):
        attributes["reply_tag"] = "nightly"
    return attributes, json.dumps(data).encode()


def _structured(
    random: Random, data: dict[str, Any], kind: str, request_id: str
) -> tuple[Attributes, bytes]:
    event = {
        "specversion": "1.0",
        "id": request_id,
        "source": random.choice(_SOURCES),
        "type": kind,
        "data": data,
    }
    return {"content-type": "application/cloudevents+json"}, json.dumps(event).encode()


def _plain(
    _random: Random, data: dict[str, Any], _kind: str, _request_id: str
) -> tuple[Attributes, bytes]:
    return {}, json.dumps(data).encode()


def _push(random: Random, attributes: Attributes, data: bytes) -> bytes:
    """Wrap as Pub/Sub does, or as Eventarc does: without a count, and only one spelling."""
    message: dict[str, Any] = {"messageId": random.choice(["41", "42"])}
    if data:
        message["data"] = base64.b64encode(data).decode()
    if attributes:
        message["attributes"] = attributes
    envelope: dict[str, Any] = {"message": message, "subscription": "projects/p/subscriptions/s"}
    if _chance(random, 80):
        message["message_id"] = message["messageId"]
        message["publishTime"] = message["publish_time"] = "2026-02-13T09:00:00Z"
        envelope["deliveryAttempt"] = random.choice([1, 2, 5, 100])
    return json.dumps(envelope).encode()


def _chance(random: Random, percent: int) -> bool:
    """Whole numbers, which Hypothesis draws evenly and shrinks to "no"."""
    return random.randrange(100) >= 100 - percent


def _text(random: Random) -> str:
    if _chance(random, 80):
        return random.choice(_TEXTS)
    return "".join(chr(random.randrange(0x11_0000)) for _ in range(random.randrange(8)))


def _value(random: Random, depth: int = 0) -> Any:
    match random.randrange(6):
        case 0 if depth < 3:
            return [_value(random, depth + 1) for _ in range(random.randrange(4))]
        case 1 if depth < 3:
            return {_text(random): _value(random, depth + 1) for _ in range(random.randrange(4))}
        case 2 | 3:
            return _text(random)
        case _:
            return random.choice(_VALUES)


def _bad_data(random: Random) -> bytes:
    """Not the JSON that was asked for, or none."""
    good = json.dumps(_usual(random)).encode()
    deep: int = random.choice([31, 32, 33, 200, 900, 20_000])
    return random.choice(
        [
            b"",
            b"{",
            b"\xff\xfe\x00",
            good[: random.randrange(len(good))],
            good + good,
            b"\xef\xbb\xbf" + good,
            good.decode().encode("utf-16"),
            good.replace(b'"', b"'"),
            good[:-1] + b',"source_model_id":"2"}',
            good[:-1] + b',"correlation":{"a":NaN}}',
            good[:-1] + b',"correlation":{"a":1e999}}',
            good[:-1] + b',"correlation":{"a":9007199254740993}}',
            good[:-1] + b',"correlation":{"\\ud800":"\\udc00\\ud800"}}',
            good[:-1] + b',"deadline_seconds":%s}' % (b"7" * random.choice([20, 5000])),
            good[:-1] + b',"correlation":%s1%s}' % (b'{"a":' * deep, b"}" * deep),
            good[:-1] + b',"correlation":{"a":"%s"}}' % (b"x" * random.choice([4087, 4089])),
            b"[" * deep,
            good.ljust(MAX_DATA_BYTES + random.choice([0, 1])),
            json.dumps(_value(random)).encode(),
            random.randbytes(random.choice([1, 20, 200])),
        ]
    )

"""What is known of a batch for certain: what was published, and how it ended.

A file that only grows, until the batch is published anew. A line is written, and on the
disk, before anything is acknowledged or shown: a publisher that was killed goes on from it,
and nothing that it knew is asked for or told twice. Only one process writes it at a time. Its
lines are keyed by topic, identity and content, so that batches of the same name do no harm to
each other.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Self

from model_copy_publisher.errors import InvalidRequestError, NotWrittenError
from model_copy_publisher.events import Reply
from model_copy_publisher.messages import CopyRequest, Published, rfc3339
from model_copy_publisher.private_files import make_folder, open_to_append

Key = tuple[str, str, str]  # source, id, digest
_BEGINNINGS = (b'{"listening": ', b'{"published": ', b'{"ended": ')


class Journal:
    """A context manager: opened, locked and read; ``anew`` forgets what it said.

    Raises:
        InvalidRequestError: another process has it, it cannot be written, or is another's file.
        NotWrittenError: later, when there is no room left, or the disk is broken.
    """

    def __init__(self, file: Path, *, topic: str, anew: bool = False) -> None:
        self.file = file
        self.published: dict[Key, str] = {}  # to the subscription that listened, or ""
        self.outcomes: dict[Key, Reply] = {}
        self._confirmed_at: dict[Key, datetime] = {}  # for the first time
        self.subscription = ""  # the newest that listened for this batch
        self._topic = topic
        self._anew = anew

    def __enter__(self) -> Self:
        try:
            if self.file.is_symlink():
                raise self._useless("is a link, which others may have made; nothing was changed")
            if self.file.exists() and not self.file.is_file():
                raise self._useless("is not a regular file")
            make_folder(self.file.parent)
            self._out: IO[bytes] = open_to_append(self.file)
        except OSError as error:
            raise self._useless(f"cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._out.close()
            raise InvalidRequestError(
                "journal", f"{self.file} is in use: this batch is being published right now"
            ) from error
        try:
            self._begin()
        except OSError as error:
            self.__exit__()
            raise self._useless(f"cannot be used: {error.strerror}") from error
        except InvalidRequestError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what could not be written before cannot be now; that was told
            self._out.close()

    def knows(self, request: CopyRequest) -> bool:
        """Tell whether the request was confirmed."""
        return _key(request) in self.published

    def confirmed_at(self, request: CopyRequest) -> datetime | None:
        """Return when the request was confirmed first."""
        return self._confirmed_at.get(_key(request))

    def outcome(self, request: CopyRequest) -> Reply | None:
        """Return the request's outcome if it was read."""
        return self.outcomes.get(_key(request))

    def is_listened_for(self, request: CopyRequest) -> bool:
        """Tell whether the newest subscription was there when the request was confirmed."""
        return bool(self.subscription) and self.published.get(_key(request)) == self.subscription

    def listening(self, subscription: str) -> None:
        """Write down who listens from now on."""
        self.subscription = subscription
        self._write([{"listening": subscription}])

    def confirmed(self, published: Sequence[Published], *, subscription: str = "") -> None:
        """Write down what Pub/Sub has confirmed."""
        for each in published:
            self.published[_key(each)] = subscription
            self._confirmed_at.setdefault(_key(each), each.published_at)
        self._write(
            {
                "published": _named(each),
                "message_id": each.message_id,
                "published_at": rfc3339(each.published_at),
                "subscription": subscription,
            }
            for each in published
        )

    def ended(self, outcomes: Sequence[tuple[CopyRequest, Reply]]) -> None:
        """Write down how requests ended."""
        for request, reply in outcomes:
            self.outcomes[_key(request)] = reply
        self._write(
            {"ended": _named(request), "reply": reply.to_json()} for request, reply in outcomes
        )

    def _write(self, entries: Iterable[Mapping[str, Any]]) -> None:
        lines = [json.dumps({**entry, "topic": self._topic}) for entry in entries]
        if not lines:
            return
        try:
            self._out.write(("\n".join(lines) + "\n").encode())
            self._out.flush()
            os.fsync(self._out.fileno())
        except OSError as error:
            raise NotWrittenError(
                f"The journal {self.file} cannot be written: {error.strerror}."
            ) from error

    def _begin(self) -> None:
        self._out.seek(0)
        content = self._out.read()
        if not _is_journal(content):
            raise self._useless("exists and is not a journal; nothing was changed")
        if self._anew:
            self._out.truncate(0)
            return
        *lines, cut_short = content.split(b"\n")
        for line in lines:
            self._take(line)
        # By a kill: what it would have said is asked for again.
        self._out.truncate(len(content) - len(cut_short))

    def _useless(self, reason: str) -> InvalidRequestError:
        return InvalidRequestError("journal", f"{self.file} {reason}; --journal names another")

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            if entry["topic"] != self._topic:
                return
            if "listening" in entry:
                self.subscription = str(entry["listening"])
            elif "published" in entry:
                key = _key_of(entry["published"])
                self.published[key] = str(entry["subscription"])
                confirmed_at = datetime.fromisoformat(entry["published_at"])
                self._confirmed_at.setdefault(key, confirmed_at)
            elif "ended" in entry:
                key = _key_of(entry["ended"])
                data = entry["reply"]
                told = {"ce-type": data["type"], "ce-id": data["event_id"], "request_id": key[1]}
                reply = Reply.from_message(json.dumps(data).encode(), told, message_id="")
                if reply is not None:
                    self.outcomes[key] = reply
        except (ValueError, KeyError, TypeError):
            return  # as if it had not been said


def _is_journal(content: bytes) -> bool:
    """Tell it by how its first line begins; a kill may have cut that short, too."""
    first, end, _ = content.lstrip().partition(b"\n")
    return any(
        first.startswith(each) or (not end and each.startswith(first)) for each in _BEGINNINGS
    )


def _key(request: CopyRequest | Published) -> Key:
    digest = request.digest if isinstance(request, CopyRequest) else request.request_digest
    return request.request_source, request.request_id, digest


def _named(request: CopyRequest | Published) -> list[str]:
    return list(_key(request))


def _key_of(names: Sequence[str]) -> Key:
    source, request_id, digest = names
    return source, request_id, digest

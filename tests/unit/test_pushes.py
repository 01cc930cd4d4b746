"""What a push says and where it may go: nothing that HTTP has no room for ever leaves."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_cloud.pubsub_envelope import unwrapped, wrapped
from local_cloud.pubsub_post import NoAnswerError, UrlError, check_url, post, request_to
from local_cloud.pubsub_records import Content, Delivery, Message


def delivery(content: Content) -> Delivery:
    message = Message(
        message_id="1", published_at=datetime(2026, 1, 1, tzinfo=UTC), content=content
    )
    return Delivery(ack_id="ack-1-1", message=message, attempt=1)


@given(
    attributes=st.dictionaries(
        st.text(max_size=10)
        | st.sampled_from(["Content-Length", "Host", "x", "transfer-encoding", "Content-Type"]),
        st.text(max_size=20),
    ),
    key=st.text(max_size=10),
    data=st.binary(max_size=20),
)
def test_any_message_can_be_said_in_http(attributes: dict[str, str], key: str, data: bytes) -> None:
    content = Content(data=data, attributes=attributes, ordering_key=key)

    of = delivery(content)
    for headers, body in (
        wrapped(of, subscription="projects/p/s", counted=True),
        unwrapped(of, subscription="projects/p/s", with_metadata=True),
    ):
        line = h11.Connection(h11.SERVER)
        sender = h11.Connection(h11.CLIENT)
        sent = sender.send(request_to("http://worker/push", headers=headers, body=body)) or b""
        line.receive_data(sent + (sender.send(h11.Data(data=body)) or b""))
        assert isinstance(line.next_event(), h11.Request)


@given(
    st.text(max_size=40)
    | st.text(max_size=20).map("http://".__add__)
    | st.text(alphabet="abc.:/?#[]@%é\n 0", max_size=20).map("https://".__add__)
)
def test_any_url_is_refused_or_can_be_posted_to(url: str) -> None:
    with suppress(UrlError):
        check_url(url)
        request_to(url, headers=[], body=b"")


@pytest.mark.parametrize(
    "url",
    [
        "worker",
        "ftp://worker/",
        "http://",
        "http://:80/",
        "http://worker:port/",
        "http://worker:0/",
        "http://worker:65536/",
        "http://worker/a b",
        "http://wörker/",
        "http://a..b/",
        "http://[::1/",
    ],
)
def test_what_is_no_url_to_post_to_is_refused(url: str) -> None:
    with pytest.raises(UrlError):
        check_url(url)


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("http://worker:8080/push?token=7#part", b"worker:8080", b"/push?token=7"),
        ("https://worker", b"worker", b"/"),
        ("http://user:secret@worker/", b"worker", b"/"),
        ("http://[::1]:8080?a", b"[::1]:8080", b"/?a"),
    ],
)
def test_the_url_becomes_host_and_target(url: str, host: bytes, target: bytes) -> None:
    check_url(url)

    request = request_to(url, headers=[], body=b"")

    assert (dict(request.headers)[b"host"], request.target) == (host, target)


@settings(deadline=None)
@given(
    st.lists(
        st.binary(max_size=60)
        | st.sampled_from(
            [
                *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.0 204\r\n"),
                *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n", b"abc"),
                *(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
            ]
        ),
        max_size=8,
    )
)
def test_any_answer_is_a_status_or_none(chunks: list[bytes]) -> None:
    async def push() -> int | None:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.writelines(chunks)
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as endpoint:
            port = endpoint.sockets[0].getsockname()[1]
            async with asyncio.timeout(10):
                with suppress(NoAnswerError):
                    return await post(f"http://127.0.0.1:{port}/", headers=[], body=b"x")
        return None

    status = asyncio.run(push())

    assert status is None or 100 <= status <= 999

"""What the documentation says of Pub/Sub, and what Google's emulator does instead.

One list for two uses: the contract tests expect the emulator to fail where a departure is
named, strictly, so that a version which mends one fails the suite; and the table in
docs/local-cloud.md is written from it (``python -m contract.pubsub.page``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

EMULATOR = "0.8.20"
AS_DOCUMENTED = "as documented"


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """A promise of the documentation, the tests that hold servers to it, and who departs.

    ``fails`` names the tests, with the case where it is not all of them, that the emulator is
    expected to fail because of ``emulator``.
    """

    what: str
    documented: str
    tests: tuple[str, ...]
    ours: str = AS_DOCUMENTED
    emulator: str = AS_DOCUMENTED
    fails: tuple[str, ...] = ()


def departures() -> dict[str, str]:
    """By test, what the emulator does instead."""
    return {test: behaviour.emulator for behaviour in BEHAVIOURS for test in behaviour.fails}


def table() -> Iterator[str]:
    """The rows in Markdown."""
    yield "| behaviour | ours | Google's emulator | the documentation |"
    yield "| --- | --- | --- | --- |"
    for each in BEHAVIOURS:
        yield f"| {each.what} | {each.ours} | {each.emulator} | {each.documented} |"


_FIELD = "test_a_bad_field_of_a_subscription_is_named"
_LIMIT = "test_a_message_outside_the_limits_is_refused"
_BADLY = "test_an_endpoint_that_answers_badly_harms_nobody_else"
_KEPT = "test_a_subscription_may_keep_for_31_days_and_never_expire"
_POLICIES = (
    "test_a_policy_is_kept_as_it_was_set_until_its_resource_is_deleted",
    "test_of_two_who_change_a_policy_at_once_the_second_is_told",
    "test_of_what_does_not_exist_there_is_no_policy_and_nobody_has_a_permission",
    "test_a_bad_binding_is_named",
    "test_a_permission_that_the_resource_cannot_have_is_refused",
)
_STATUS = "test_every_other_status_is_a_nack"

BEHAVIOURS = (
    # Resources
    Behaviour(
        what="topics and subscriptions: create, get, list in pages, delete",
        documented="a subscription outlives its topic and then names `_deleted-topic_`",
        tests=(
            "test_a_topic_is_found_and_listed_until_it_is_deleted",
            "test_lists_come_in_pages",
            "test_a_name_is_taken_only_once",
            "test_what_does_not_exist_is_not_found",
            "test_a_subscription_outlives_its_topic_and_names_it_deleted",
        ),
    ),
    Behaviour(
        what="fields of a new subscription",
        documented="ack deadline 10 s, retention 7 days, state ACTIVE",
        tests=("test_a_subscription_is_given_back_as_written_with_the_documented_defaults",),
        emulator="the state is left unspecified",
        fails=("test_a_subscription_is_given_back_as_written_with_the_documented_defaults",),
    ),
    Behaviour(
        what="retention of messages, expiration of subscriptions",
        documented="10 minutes to 31 days; a day at least, or unlimited",
        tests=(_KEPT, _FIELD),
        ours="checked and returned; messages never expire",
        emulator="7 days at most; an expiry is not checked",
        fails=(_KEPT, f"{_FIELD}[expires too soon]"),
    ),
    Behaviour(
        what="update of a subscription",
        documented="only the fields in the mask; filter, order and topic are fixed",
        tests=(
            "test_an_update_changes_what_its_mask_names_and_nothing_else",
            "test_what_is_fixed_at_creation_cannot_be_updated",
            "test_a_refused_update_changes_nothing",
        ),
    ),
    Behaviour(
        what="a bad field",
        documented="INVALID_ARGUMENT, naming the field",
        tests=(_FIELD, "test_an_unreadable_ack_id_is_refused"),
        emulator="the message does not name the field as written",
        fails=(
            f"{_FIELD}[ack deadline too long]",
            f"{_FIELD}[ack deadline negative]",
            f"{_FIELD}[backoff below the minimum]",
            "test_a_request_has_one_to_a_thousand_messages",
            "test_an_unreadable_ack_id_is_refused",
        ),
    ),
    Behaviour(
        what="`filter`",
        documented="at most 256 bytes; other messages are never delivered",
        tests=("test_a_filter_keeps_out_what_it_does_not_match", _FIELD),
        emulator="stored, neither parsed nor applied",
        fails=(
            "test_a_filter_keeps_out_what_it_does_not_match",
            f"{_FIELD}[filter unreadable]",
            f"{_FIELD}[filter too long]",
        ),
    ),
    Behaviour(
        what="`max_delivery_attempts` out of range",
        documented="5 to 100",
        tests=("test_a_dead_letter_policy_has_five_to_a_hundred_attempts",),
        emulator="OUT_OF_RANGE",
        fails=("test_a_dead_letter_policy_has_five_to_a_hundred_attempts",),
    ),
    Behaviour(
        what="a dead-letter policy without a topic",
        documented="`dead_letter_topic` is required with a policy",
        tests=(_FIELD,),
        emulator="NOT_FOUND",
        fails=(f"{_FIELD}[policy without a topic]",),
    ),
    Behaviour(
        what="an ack deadline below 10 s",
        documented="refused",
        tests=("test_an_ack_deadline_has_ten_seconds_at_least",),
        ours="as documented; a knob allows less",
        emulator="1 s is accepted",
        fails=("test_an_ack_deadline_has_ten_seconds_at_least",),
    ),
    # Publishing
    Behaviour(
        what="publishing, in batches too",
        documented="1 to 1,000 messages a request, each with data or an attribute",
        tests=(
            "test_the_batching_client_publishes_each_message_once",
            "test_a_message_at_the_limits_arrives_whole",
            "test_a_request_has_one_to_a_thousand_messages",
            _LIMIT,
        ),
    ),
    Behaviour(
        what="limits of attributes",
        documented="100 of them, key 256 bytes, value 1,024 bytes, no `goog` prefix",
        tests=(_LIMIT,),
        emulator="not enforced",
        fails=(
            f"{_LIMIT}[too many attributes]",
            f"{_LIMIT}[key too long]",
            f"{_LIMIT}[key empty]",
            f"{_LIMIT}[value too long]",
            f"{_LIMIT}[key of Google's]",
        ),
    ),
    Behaviour(
        what="a request over 10 MB",
        documented="refused",
        tests=(_LIMIT,),
        emulator="accepted",
        fails=(f"{_LIMIT}[data too long]",),
    ),
    # Pull
    Behaviour(
        what="pull, acknowledge, modify deadline",
        documented="unacknowledged messages come again after the deadline, nacked ones at once",
        tests=(
            "test_a_pulled_message_carries_what_was_published",
            "test_a_pull_that_waits_is_answered_by_the_next_publish",
            "test_an_acknowledged_message_is_gone_and_a_nacked_one_comes_back",
            "test_an_unacknowledged_message_comes_back_after_its_deadline",
            "test_deliveries_are_counted_under_a_dead_letter_policy",
        ),
    ),
    Behaviour(
        what="streaming pull",
        documented="delivers until closed; nacks and deadlines on the stream",
        tests=(
            "test_a_subscriber_receives_and_acknowledges_everything",
            "test_a_subscriber_that_nacks_gets_the_message_again",
            "test_a_subscriber_keeps_a_message_for_as_long_as_its_callback_takes",
            "test_a_stream_may_nack",
            "test_a_stream_may_move_a_deadline",
            "test_a_stream_that_the_client_closes_ends_without_an_error",
            "test_deleting_a_subscription_ends_its_streams",
            "test_turning_a_subscription_to_push_ends_its_streams",
        ),
    ),
    Behaviour(
        what="flow control of a stream",
        documented="no more outstanding messages or bytes than the client asked for",
        tests=(
            "test_a_stream_never_holds_more_than_it_asked_for",
            "test_a_stream_stops_at_its_byte_limit",
        ),
        emulator="the limits are ignored",
        fails=(
            "test_a_stream_never_holds_more_than_it_asked_for",
            "test_a_stream_stops_at_its_byte_limit",
        ),
    ),
    Behaviour(
        what="limits sent again on a stream",
        documented="belong to the first request only",
        tests=("test_a_bad_request_on_a_stream_ends_it",),
        emulator="accepted",
        fails=("test_a_bad_request_on_a_stream_ends_it[limits again]",),
    ),
    Behaviour(
        what="the deadline that a stream sets",
        documented="replaces the subscription's, 10 to 600 s (here as low as the knob allows)",
        tests=("test_a_stream_leases_for_as_long_as_it_said",),
        emulator="at least 10 s, although a subscription may have 1 s",
        fails=("test_a_stream_leases_for_as_long_as_it_said",),
    ),
    # Push
    Behaviour(
        what="the body of a push",
        documented="`message` with both spellings of id and time, `orderingKey`, `subscription`",
        tests=("test_a_push_is_the_documented_envelope",),
        emulator="`orderingKey` is left out",
        fails=("test_a_push_is_the_documented_envelope",),
    ),
    Behaviour(
        what="absent fields of a message",
        documented="`attributes` are absent, by example; `data` is not documented",
        ours="both are absent",
        tests=("test_what_a_message_does_not_have_is_absent_from_its_push",),
        emulator="`attributes` and `data` are there, empty",
        fails=("test_what_a_message_does_not_have_is_absent_from_its_push",),
    ),
    Behaviour(
        what="statuses that acknowledge",
        documented="102, 200, 201, 202, 204",
        tests=("test_the_documented_statuses_acknowledge",),
        emulator="202 is a nack",
        fails=("test_the_documented_statuses_acknowledge[202]",),
    ),
    Behaviour(
        what="every other status",
        documented="is a nack",
        tests=(_STATUS,),
        emulator="203 acknowledges",
        fails=(f"{_STATUS}[203]",),
    ),
    Behaviour(
        what="a redirect",
        documented="is a nack like every other status",
        tests=(_STATUS,),
        emulator="301 and 302 are followed with GET, and its answer counts",
        fails=(f"{_STATUS}[301]", f"{_STATUS}[302]"),
    ),
    Behaviour(
        what="an endpoint that resets, breaks off or does not answer in HTTP",
        documented="not documented",
        tests=(_BADLY,),
        ours="a nack; only a whole answer acknowledges",
        emulator="half an answer acknowledges, and an endless one is read endlessly",
        fails=(
            f"{_BADLY}[half a line]",
            f"{_BADLY}[half an answer]",
            f"{_BADLY}[bad length]",
            f"{_BADLY}[endless body]",
        ),
    ),
    Behaviour(
        what="a push that is not answered",
        documented="ends at the ack deadline and comes again",
        tests=("test_a_push_without_an_answer_is_cut_at_the_ack_deadline",),
    ),
    Behaviour(
        what="pushes at a time",
        documented="many; the number adapts to the endpoint",
        tests=(
            "test_many_pushes_of_one_subscription_are_under_way_at_once",
            "test_hung_pushes_stall_nobody",
        ),
        ours="100 of one subscription, a knob; no slow start",
        emulator="two: two that hang stop their subscription",
        fails=(
            "test_many_pushes_of_one_subscription_are_under_way_at_once",
            "test_hung_pushes_stall_nobody",
        ),
    ),
    Behaviour(
        what="`oidc_token`",
        documented="a token of that account, signed, for the audience or else the endpoint",
        tests=(
            "test_a_push_carries_a_token_of_its_account",
            "test_the_audience_of_a_token_is_the_endpoint_unless_it_is_set",
            "test_a_push_without_an_account_carries_no_token",
        ),
        ours="as documented, signed by a key of its own with certificates to check it",
        emulator="no token is sent",
        fails=(
            "test_a_push_carries_a_token_of_its_account",
            "test_the_audience_of_a_token_is_the_endpoint_unless_it_is_set",
        ),
    ),
    Behaviour(
        what="a push token for an invalid account",
        documented="the account must exist",
        tests=(_FIELD,),
        ours="refused unless it is an email address",
        emulator="accepted",
        fails=(f"{_FIELD}[token of no account]",),
    ),
    Behaviour(
        what="`no_wrapper`",
        documented="the data alone; with `write_metadata`, metadata and attributes as headers",
        tests=(
            "test_an_unwrapped_push_is_the_data_alone",
            "test_metadata_and_attributes_of_an_unwrapped_push_are_headers_when_asked_for",
            "test_an_unwrapped_push_is_the_data_byte_by_byte",
        ),
        emulator="data other than UTF-8 is corrupted",
        fails=("test_an_unwrapped_push_is_the_data_byte_by_byte",),
    ),
    Behaviour(
        what="`retry_policy`",
        documented="the delay after a nack or a timeout grows from the minimum to the maximum",
        tests=("test_the_retry_policy_sets_the_rest_after_a_nack",),
    ),
    Behaviour(
        what="dead letters from push",
        documented="after `max_delivery_attempts`, with four attributes; pushes count them",
        tests=("test_a_push_that_fails_too_often_becomes_a_dead_letter",),
        emulator="`deliveryAttempt` is left out",
        fails=("test_a_push_that_fails_too_often_becomes_a_dead_letter",),
    ),
    Behaviour(
        what="pulling from a push subscription",
        documented="FAILED_PRECONDITION",
        tests=("test_a_backlog_follows_its_subscription_from_pull_to_push_and_back",),
        emulator="allowed",
        fails=("test_a_backlog_follows_its_subscription_from_pull_to_push_and_back",),
    ),
    # Ordering
    Behaviour(
        what="ordering keys",
        documented="messages of one key in order; one that failed comes again before the others",
        tests=(
            "test_pull_keeps_the_order_of_a_key",
            "test_a_subscriber_gets_each_key_in_order",
            "test_push_keeps_the_order_of_a_key_although_one_fails",
            "test_a_key_that_waits_holds_up_no_other",
        ),
        ours="as documented; one message of a key is out at a time, by pull too",
    ),
    Behaviour(
        what="ordering and dead letters together",
        documented="the message is forwarded; then its key goes on",
        tests=("test_order_and_dead_letters_together_lose_nothing",),
        emulator="the message is lost and its key blocked",
        fails=("test_order_and_dead_letters_together_lose_nothing",),
    ),
    Behaviour(
        what="two ordering keys in one request",
        documented="all messages of a request have the same",
        tests=("test_one_request_publishes_with_one_key",),
        emulator="accepted",
        fails=("test_one_request_publishes_with_one_key",),
    ),
    # The rest
    Behaviour(
        what="IAM policies and permissions, of topics and subscriptions",
        documented="get, set (with an etag), test; a missing resource has no permissions",
        tests=_POLICIES,
        ours="as documented, without conditions",
        emulator="UNIMPLEMENTED",
        fails=_POLICIES,
    ),
    Behaviour(
        what="authorization of callers",
        documented="by the policies of resource, project and organization",
        tests=(
            "test_ours_is_open_until_a_policy_names_somebody",
            "test_ours_refuses_what_the_policy_does_not_admit",
        ),
        ours="without authentication: what the policy admits any member but Google's agents to; "
        "everything, if it names no other member",
        emulator="every caller may do everything (not tested here)",
    ),
    Behaviour(
        what="seek, snapshots, schemas, detaching, exactly-once, exports to other services",
        documented="supported",
        tests=("test_ours_says_what_it_does_not_do",),
        ours="UNIMPLEMENTED, with a message",
        emulator="seek and snapshots work; detaching is UNIMPLEMENTED (not tested here)",
    ),
    Behaviour(
        what="bytes that are not a request",
        documented="INVALID_ARGUMENT",
        tests=("test_bytes_that_are_no_request_are_refused_and_the_server_lives",),
        emulator="UNKNOWN",
        fails=("test_bytes_that_are_no_request_are_refused_and_the_server_lives",),
    ),
)

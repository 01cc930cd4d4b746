"""A file of requests: rows, ids that are the same each time, and what is said of bad ones."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_copy_publisher import InvalidRequestError
from model_copy_publisher.batch import Batch, Destination, name_of, of_rows, to_many
from model_copy_publisher.rows import kind_of, read_rows

HEADER = "source_model_id,destination_model_id"
EU = Destination.parse("prod-eu/europe-west4/faker")
US = Destination.parse("prod-us/us-east4")


def batch_of(text: str, kind: str = "csv", name: str = "nightly", **more) -> Batch:
    return of_rows(read_rows(text, kind), name=name, **({"defaults": {}} | more))


def told(batch: Batch) -> list[str]:
    return [f"{row.line}:{row.column}: {row.reason}" for row in batch.bad]


def ids(batch: Batch) -> list[str]:
    return [request.request_id for request in batch.requests]


def test_csv_and_json_lines_make_the_same_requests():
    csv = batch_of(
        "source_model_id,destination_model_id,correlation,deadline_seconds,validate_only\n"
        '7@1,faker,"{""run"": 7}",600,true\n'
    )
    jsonl = batch_of(
        '{"source_model_id": "7@1", "destination_model_id": "faker", "correlation": {"run": 7},'
        ' "deadline_seconds": 600, "validate_only": true}\n',
        "jsonl",
    )

    assert csv.requests == jsonl.requests
    assert csv.requests[0].body == (
        b'{"correlation":{"run":7},"deadline_seconds":600,"destination_model_id":"faker",'
        b'"source_model_id":"7@1","validate_only":true}'
    )


@pytest.mark.parametrize("separator", ["\u2028", "\x85"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_the_line_ends_of_files_part_rows(separator: str, end: str):
    batch = batch_of(
        end.join(["source_model_id,correlation", f'7,"{{""a"": ""x{separator}y""}}"', ""])
    )

    [request] = batch.requests
    assert request.correlation == {"a": f"x{separator}y"}
    assert told(batch_of(f"source_model_id,reply_tag\n7,x{separator}y\n")) == [
        f"2:2: reply_tag: {f'x{separator}y'!r} is not 1 to 64 printable characters"
    ]


def test_ids_stay_the_same_when_rows_are_moved_added_or_removed():
    before = batch_of(f"{HEADER}\n7,a\n7,b\n7,c\n")
    after = batch_of(f"{HEADER}\n7,c\n7,new\n7,a\n")

    assert ids(after)[0] == ids(before)[2]
    assert ids(after)[2] == ids(before)[0]
    assert all(each.startswith("nightly-") for each in ids(before))


def test_a_row_that_was_mended_is_another_request_and_so_is_another_batch():
    [row] = ids(batch_of(f"{HEADER}\n7,a\n"))

    assert ids(batch_of(f"{HEADER}\n7,b\n")) != [row]
    assert ids(batch_of(f"{HEADER}\n7,a\n", name="weekly")) != [row]


def test_the_same_row_twice_is_one_request():
    batch = batch_of(f"{HEADER}\n7,a\n7,a\n")

    assert len(batch.requests) == 1
    assert batch.repeated == 1


def test_a_row_may_name_its_request_but_not_with_two_contents():
    batch = batch_of("source_model_id,request_id\n7,mine\n8,mine\n7,mine\n")

    assert ids(batch) == ["mine"]
    assert told(batch) == ["3:2: request_id: 'mine' has other content in line 2"]


def test_what_a_row_leaves_out_is_taken_from_the_options():
    batch = batch_of(
        "source_model_id,target_location\n7,\n7,europe-west4\nprojects/p/locations/l/models/7,\n",
        defaults={"target_location": "us-central1", "source_location": "us-central1"},
    )

    assert [each.target_location for each in batch.requests] == [
        "us-central1",
        "europe-west4",
        "us-central1",
    ]
    # A full resource name says its own region.
    assert [each.source_location for each in batch.requests] == ["us-central1"] * 2 + [None]


def test_every_row_goes_to_every_destination_unless_it_says_its_own():
    batch = batch_of(f"{HEADER}\n7,\n8,own\n", destinations=[EU, US])

    assert [(each.target_project, each.destination_model_id) for each in batch.requests] == [
        ("prod-eu", "faker"),
        ("prod-us", None),
        (None, "own"),
    ]
    assert len(set(ids(batch))) == 3


def test_one_request_to_several_destinations_has_ids_made_of_its_own():
    several = to_many({"source_model_id": "7"}, request_id="r-1", destinations=[EU, US, EU])
    again = to_many({"source_model_id": "7"}, request_id="r-1", destinations=[US, EU])
    one = to_many({"source_model_id": "7"}, request_id="r-1", destinations=[EU])

    assert {each.request_id for each in several} == {each.request_id for each in again}
    assert len(several) == 2
    assert [each.request_id for each in one] == ["r-1"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{HEADER}\n7,a\n7,Faker\n", "3:2: destination_model_id: 'Faker' must match ["),
        (f"{HEADER}\n7\n", "2:2: has 1 columns, but the header has 2"),
        (f"{HEADER}\n7,a,b\n", "2:3: has 3 columns, but the header has 2"),
        (f"{HEADER}\n,a\n", "2:1: source_model_id: is missing"),
        (f"{HEADER}\n7.7E+18,a\n", "2:1: source_model_id: '7.7E+18' was rounded by a spreadsheet"),
        (f"{HEADER}\n7,\n7,7.70413e18\n", "3:2: destination_model_id: '7.70413e18' was rounded"),
        (f'{HEADER}\n"7,7E18",a\n', "2:1: source_model_id: '7,7E18' was rounded"),
        (f'{HEADER}\n"7,a\n', "2:1: is not CSV: unexpected end of data"),
        (f'{HEADER}\n"7\n8",a\n7,B\n', "2:1: source_model_id: '7\\n8' must be an id"),
        ("colour,source_model_id\nred,7\n", "1:1: 'colour' is no field of a request; there are"),
        ("source_model\n7\n", "1:1: 'source_model' is no field of a request; did you mean source_"),
        ("source_model_id;reply_tag\n7;a\n", "1:16: ';' is no comma between columns"),
        ("destination_model_id\na\n", "1:1: source_model_id is missing: the first line names"),
        ("source_model_id,source_model_id\n7,8\n", "1:2: source_model_id is given twice"),
        ("source_model_id,correlation\n7,{\n", "2:2: correlation: is not JSON"),
        (
            'source_model_id,correlation\n7,"{""a"":1,""a"":2}"\n',
            "2:2: correlation: a is given twice",
        ),
        ("source_model_id,correlation\n7,[1]\n", "2:2: correlation: should be a JSON object"),
        ("source_model_id,deadline_seconds\n7,1e3\n", "2:2: deadline_seconds: '1e3' is not a"),
        ("source_model_id,validate_only\n7,maybe\n", "2:2: validate_only: 'maybe' is neither"),
        ("source_model_id,if_exists\n7,skip\n", "2:2: if_exists: goes with destination_model_id"),
        (
            f"{HEADER},if_exists\n7,a,never\n",
            "2:3: if_exists: 'never' should be fail, skip or new_version",
        ),
    ],
)
def test_a_bad_row_of_csv_is_told_by_line_and_column(text: str, complaint: str):
    assert told(batch_of(text))[0].startswith(complaint)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"source_model_id": "7"}\n{"source_model_id": 7}', "2:2: source_model_id: should be a"),
        ('{"source_model_id": "7", "colour": "red"}', "1:26: colour: no field of a request"),
        ('{"source_model_id": "7",}', "1:25: is not JSON: "),
        ('{"source_model_id": "7", "source_model_id": "8"}', "1:2: source_model_id: is given"),
        ("{}", "1:1: source_model_id: is missing"),
        ("[]", "1:1: should be a JSON object, not a list; jq -c '.[]' turns a list into lines"),
        ("7", "1:1: should be a JSON object, not a number"),
        ('\n\n{"source_model_id": "7", "validate_only": 1}', "3:26: validate_only: should be true"),
        ('{"source_model_id": "7", "destination_model_id": "A"}', "1:26: destination_model_id: "),
        ("[" * 100_000, "1:1: is not JSON"),
    ],
)
def test_a_bad_row_of_json_lines_is_told_by_line_and_column(text: str, complaint: str):
    assert told(batch_of(text, "jsonl"))[0].startswith(complaint)


def test_every_bad_row_is_told_and_the_good_ones_are_there():
    batch = batch_of(f"{HEADER}\n7,A\n7,b\n7,C\n\n7,D\n")

    assert [row.line for row in batch.bad] == [2, 4, 6]
    assert [each.destination_model_id for each in batch.requests] == ["b"]


@given(st.text(), st.sampled_from(["csv", "jsonl"]))
def test_any_text_is_requests_or_complaints(text: str, kind: str):
    batch = batch_of(text, kind)

    assert all(row.line >= 1 and row.column >= 1 and row.reason for row in batch.bad)
    assert len({each.request_id for each in batch.requests}) == len(batch.requests)


@pytest.mark.parametrize(
    ("file", "text", "kind"),
    [
        ("a.csv", "{", "csv"),
        ("a.jsonl", "", "jsonl"),
        ("a.ndjson", "", "jsonl"),
        ("-", ' \n{"source_model_id": "7"}', "jsonl"),
        ("-", "source_model_id\n7\n", "csv"),
        ("models.txt", "[", "jsonl"),
    ],
)
def test_the_kind_of_a_file_is_told_by_its_name_or_its_beginning(file, text, kind):
    assert kind_of(file, text) == kind


@pytest.mark.parametrize(
    ("file", "name"),
    [("/data/nightly run.csv", "nightly-run"), ("a.b.csv", "a"), (".csv", "batch")],
)
def test_a_batch_is_named_after_its_file(file, name):
    assert name_of(file) == name


def test_a_destination_of_another_form_is_refused():
    with pytest.raises(InvalidRequestError, match=r"to: 'prod' is not project/location\[/model\]"):
        Destination.parse("prod")


def test_rows_with_json_inside_keep_it():
    [request] = batch_of(
        "source_model_id,correlation\n7," + '"' + json.dumps({"a": "b,c"}).replace('"', '""') + '"'
    ).requests

    assert request.correlation == {"a": "b,c"}

"""The log of a replay: what is read, and what is refused in one line."""

import gzip
from pathlib import Path

import pytest

from server.cli.replay.errors import ReplayError
from server.cli.replay.log.columns import Columns, parse_attributes, parse_web
from server.cli.replay.log.users import LoggedUser, parse_users, read_csv
from server.cli.replay.plan import find_control, slug, variant_ids

COLUMNS = Columns("arm", "bought", "id", {"utm_source": "source"}, {"plan": "tier"})
ROWS = [
    {"id": "u1", "source": "google", "tier": "pro", "arm": "Red", "bought": "1"},
    {"id": "u2", "source": " bing ", "tier": None, "arm": "Blue", "bought": "0"},
]


def test_rows_become_users_with_cells_in_the_order_of_the_columns():
    assert parse_users(ROWS, COLUMNS) == [
        LoggedUser(1, "u1", ("google", "pro"), "Red", True),
        LoggedUser(2, "u2", ("bing", ""), "Blue", False),
    ]


def test_without_a_user_column_rows_are_numbered():
    columns = Columns("arm", "bought", None, {}, {})
    assert [(user.user, user.cell) for user in parse_users(ROWS, columns)] == [("1", ()), ("2", ())]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bought": "2"}, "row 2: column 'bought' holds '2', neither 0 nor 1"),
        ({"bought": ""}, "row 2: column 'bought' holds '', neither 0 nor 1"),
        ({"arm": ""}, "row 2: column 'arm' is empty"),
        ({"arm": "Red"}, "column 'arm' holds one variant only, 'Red'; a replay needs two"),
        ({"id": "u1"}, "user 'u1' is in rows 1 and 2; one row a user"),
    ],
)
def test_a_bad_row_is_named(changes: dict[str, str], message: str):
    with pytest.raises(ReplayError) as raised:
        parse_users([ROWS[0], {**ROWS[1], **changes}], COLUMNS)
    assert str(raised.value) == message


def test_a_missing_column_is_named_with_those_there_are():
    with pytest.raises(ReplayError, match="no column 'visit'; the log has id, source, tier, arm, bought"):
        parse_users(ROWS, Columns("arm", "visit", None, {}, {}))


def test_an_empty_log_is_refused():
    with pytest.raises(ReplayError, match="no rows"):
        parse_users([], COLUMNS)


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
def test_csv_is_read_with_its_byte_order_mark_and_gzipped_or_not(tmp_path: Path, name: str):
    content = '\ufeffarm,bought\n"Red, dark",1\n'.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert read_csv(tmp_path / name) == [{"arm": "Red, dark", "bought": "1"}]


@pytest.mark.parametrize(
    "content",
    [b"not gzip", gzip.compress(b"arm,bought\n" * 100)[:-20], gzip.compress(b"\xff\xfe\xff")],
    ids=["not gzip", "cut short", "not UTF-8"],
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: bytes):
    path = tmp_path / "log.csv.gz"
    path.write_bytes(content)
    with pytest.raises(ReplayError, match="cannot read") as raised:
        read_csv(path)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_one_line(tmp_path: Path):
    with pytest.raises(ReplayError, match=r"cannot read .*: No such file or directory"):
        read_csv(tmp_path / "log.csv")


def test_attributes_may_be_renamed():
    assert parse_attributes("plan, bought_by=channel") == {"plan": "plan", "bought_by": "channel"}
    assert parse_attributes("") == {}


@pytest.mark.parametrize("text", ["=channel", "a=", "a=b,a=c"])
def test_attributes_need_a_name_and_one_column(text: str):
    with pytest.raises(ReplayError, match="attribute"):
        parse_attributes(text)


def test_web_fields_are_those_of_the_context():
    assert parse_web(["utm_source=src", "device=kind"]) == {"utm_source": "src", "device": "kind"}
    with pytest.raises(ReplayError, match=r"one of utm_source, .*is 'source=src'"):
        parse_web(["source=src"])


def test_variants_get_ids_and_the_first_is_control():
    users = parse_users([{**ROWS[0], "arm": "Womens E-Mail"}, {**ROWS[1], "arm": "No E-Mail"}], COLUMNS)
    variants = variant_ids(users)
    assert variants == {"no-e-mail": "No E-Mail", "womens-e-mail": "Womens E-Mail"}
    assert find_control(variants, None) == "no-e-mail"
    assert find_control(variants, "Womens E-Mail") == find_control(variants, "womens-e-mail") == "womens-e-mail"
    with pytest.raises(ReplayError, match="no variant 'x'; it has No E-Mail, Womens E-Mail"):
        find_control(variants, "x")


def test_two_variants_cannot_share_an_id():
    users = parse_users([{**ROWS[0], "arm": "a b"}, {**ROWS[1], "arm": "A-B"}], COLUMNS)
    with pytest.raises(ReplayError, match="same id, 'a-b'"):
        variant_ids(users)


def test_an_id_needs_a_letter_or_digit():
    assert slug("  Año 2 (new)! ") == "a-o-2-new"
    with pytest.raises(ReplayError, match="no id"):
        slug("日本")

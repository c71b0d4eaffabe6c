"""Sources that answer, refuse, break off or are slow: what lands, and what is said."""

import logging
import re
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import trustme
import yaml
from typer.testing import CliRunner

from pipelines import pulls, reference
from pipelines.book import Book
from pipelines.cli import app
from pipelines.errors import BookError
from pipelines.pulls import PullError
from tests.pulls.servers import QUICK, Answer, declare, landed, serving

NOW = datetime(2026, 10, 6, 9, 30, tzinfo=UTC)
SECRET = "s3cret/to+ken"
ENVIRONMENT = {"TOKEN": SECRET}
EMPTY = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'
FILE = "prometheus/hall/up/20261006T000000Z_20261007T000000Z.json"


def metrics(url: str, **changed: object) -> dict[str, object]:
    return {
        "name": "hall",
        "kind": "prometheus",
        "url": url,
        "metrics": ["up"],
        "first_day": date(2026, 10, 6),
        "requests_per_minute": 6000,
    } | changed


def pull(book: Book, *names: str, now: datetime = NOW) -> list[pulls.Outcome]:
    return pulls.pull(book, names, environment=ENVIRONMENT, now=now, limits=QUICK)


def refused(book: Book) -> str:
    """The one cause that a pull of the only source gives; nothing has landed."""
    [outcome] = pull(book)
    [cause] = outcome.causes
    assert landed(book) == {}
    assert {file.suffix for file in book.pulls.iterdir()} <= {".lock", ".json"}
    return cause


def test_an_answer_lands_as_it_came_and_one_that_is_the_same_again_stays(book):
    with serving(lambda _: Answer(EMPTY)) as server:
        declare(book, metrics(server.url))
        [first] = pull(book)
        [second] = pull(book)
    assert landed(book) == {FILE: EMPTY}
    assert (first, second) == (pulls.Outcome("hall", landed=1), pulls.Outcome("hall", unchanged=1))


def test_only_what_is_new_is_asked_for_and_the_overlap_again(book):
    with serving(lambda _: Answer(EMPTY)) as server:
        declare(book, metrics(server.url, first_day=date(2026, 10, 1), overlap_days=1))

        def days(now: datetime) -> list[int]:
            server.asked.clear()
            assert pull(book, now=now)[0].causes == []
            return [
                datetime.fromtimestamp(int(one.query["start"]), UTC).day for one in server.asked
            ]

        assert days(NOW) == [1, 2, 3, 4, 5, 6]
        assert days(NOW + timedelta(hours=1)) == [5, 6]
        assert days(NOW + timedelta(days=2)) == [5, 6, 7, 8]
        # What was deleted from landing is out of the book: it does not come back by itself.
        for file in book.landing.rglob("*20261001T*"):
            file.unlink()
        assert days(NOW + timedelta(days=2)) == [7, 8]
        assert not [*book.landing.rglob("*20261001T*")]
        # An earlier first day begins anew.
        declare(book, metrics(server.url, first_day=date(2026, 9, 30), overlap_days=0))
        assert days(NOW) == [30, 1, 2, 3, 4, 5, 6]


def test_a_pull_that_fails_in_between_goes_on_there(book):
    with serving(lambda _: Answer(EMPTY)) as server:
        server.scripted += [Answer(EMPTY), Answer(b"no", 403)]
        declare(book, metrics(server.url, first_day=date(2026, 10, 4), overlap_days=0))
        [outcome] = pull(book)
        assert (outcome.landed, len(outcome.causes)) == (1, 1)
        server.asked.clear()
        assert pull(book) == [pulls.Outcome("hall", landed=2)]
        assert len(server.asked) == 2


def test_one_source_that_fails_keeps_no_other_back(book):
    with serving(lambda _: Answer(EMPTY)) as server:
        declare(
            book,
            metrics(server.url, name="first", token_variable="NOT_SET"),
            metrics("http://localhost:1", name="second"),
            metrics(server.url, name="third"),
        )
        outcomes = pull(book)
    assert [(one.source, one.landed) for one in outcomes] == [
        ("first", 0),
        ("second", 0),
        ("third", 1),
    ]
    assert outcomes[0].causes == ["first: NOT_SET: not found in the environment: set it"]
    assert outcomes[1].causes[0].startswith("second: localhost:1: no whole answer, asked 3 times")


def test_the_command_says_what_landed_and_ends_with_one_line_a_cause(book):
    runner = CliRunner()
    with serving(lambda _: Answer(EMPTY)) as server:
        today = datetime.now(UTC).date()
        declare(
            book,
            metrics(server.url, name="first", token_variable="WATTBOOK_TEST_NOT_SET"),
            metrics(server.url, name="second", first_day=today),
        )
        told = runner.invoke(app, ["--data-dir", str(book.data_dir), "pull"])
        alone = runner.invoke(app, ["--data-dir", str(book.data_dir), "pull", "second"])
    assert (told.exit_code, alone.exit_code) == (1, 0)
    assert told.stdout.splitlines() == [
        "first: 0 landed, 0 as they were",
        "second: 1 landed, 0 as they were",
    ]
    assert told.stderr.splitlines()[-1] == (
        "error: first: WATTBOOK_TEST_NOT_SET: not found in the environment: set it"
    )
    assert [line for line in told.stderr.splitlines() if line.startswith("error:")] == [
        told.stderr.splitlines()[-1]
    ]


def test_only_the_sources_named_are_pulled_and_an_unknown_name_is_an_error(book):
    with serving(lambda _: Answer(EMPTY)) as server:
        declare(book, metrics(server.url), metrics(server.url, name="other"))
        assert [one.source for one in pull(book, "other")] == ["other"]
        with pytest.raises(PullError, match=r"hal: no such source, sources\.yml has hall, other"):
            pull(book, "hal")


def test_a_server_that_has_too_much_to_do_is_asked_again_when_it_says(book):
    with serving(lambda _: Answer(EMPTY)) as server:
        server.scripted += [Answer(b"", 429, {"Retry-After": "1"}), Answer(b"", 503)]
        declare(book, metrics(server.url))
        started = datetime.now(UTC)
        [outcome] = pull(book)
    assert datetime.now(UTC) - started >= timedelta(seconds=1)
    assert (outcome.landed, outcome.causes, len(server.asked)) == (1, [], 3)


def test_a_server_that_asks_to_wait_long_is_left_for_the_next_pull(book):
    with serving(lambda _: Answer(b"", 429, {"Retry-After": "4000"})) as server:
        declare(book, metrics(server.url))
        assert "answered 429, expected 200: it asks to wait 4000 s" in refused(book)
    assert len(server.asked) == 1


def test_a_server_that_fails_is_asked_as_often_as_is_declared(book):
    with serving(lambda _: Answer(b"oh", 500)) as server:
        declare(book, metrics(server.url))
        assert "answered 500, expected 200, 3 times: pull again later" in refused(book)
    assert len(server.asked) == 3


@pytest.mark.parametrize("promised", [None, 5000], ids=["which says so", "which says more"])
def test_half_an_answer_does_not_land(book, promised):
    with serving(lambda _: Answer(EMPTY[:30], promised=promised)) as server:
        declare(book, metrics(server.url))
        assert "asked 3 times" in refused(book)
        assert pull(book)[0].causes != []


def test_half_an_answer_leaves_the_one_before(book):
    with serving(lambda _: Answer(EMPTY)) as server:
        declare(book, metrics(server.url))
        pull(book)
        server.scripted += [Answer(EMPTY[:30], promised=5000)] * 3
        assert pull(book)[0].causes != []
    assert landed(book) == {FILE: EMPTY}


def test_a_redirect_elsewhere_is_refused_and_gets_no_token(book):
    with serving(lambda _: Answer(EMPTY)) as elsewhere, serving() as server:
        there = f"{elsewhere.url}/x?token={SECRET}"
        server.scripted.append(Answer(b"", 302, {"Location": there}))
        declare(book, metrics(server.url, token_variable="TOKEN"))
        cause = refused(book)
    assert elsewhere.asked == []
    assert f"redirects to {elsewhere.url}, where nothing is sent" in cause
    assert SECRET not in cause


def test_a_redirect_to_the_same_server_is_followed(book):
    with serving(lambda _: Answer(EMPTY)) as server:
        server.scripted.append(Answer(b"", 307, {"Location": f"{server.url}/there"}))
        declare(book, metrics(server.url, token_variable="TOKEN"))
        assert pull(book) == [pulls.Outcome("hall", landed=1)]
        assert [one.headers["Authorization"] for one in server.asked] == [f"Bearer {SECRET}"] * 2


def test_a_certificate_that_does_not_fit_is_refused_at_once(book, tmp_path, monkeypatch):
    authority = trustme.CA()
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with (
        serving(lambda _: Answer(EMPTY), tls=trustme.CA().issue_cert("localhost")) as unknown,
        serving(lambda _: Answer(EMPTY), tls=authority.issue_cert("elsewhere")) as other,
        serving(lambda _: Answer(EMPTY), tls=authority.issue_cert("localhost")) as right,
    ):
        for server in (unknown, other):
            monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
            declare(book, metrics(server.url))
            assert "its certificate does not fit" in refused(book)
            assert server.asked == []
        declare(book, metrics(right.url))
        assert pull(book) == [pulls.Outcome("hall", landed=1)]
        monkeypatch.delenv("SSL_CERT_FILE")
        assert "its certificate does not fit" in pull(book)[0].causes[0]


def test_a_server_that_is_silent_is_given_up(book):
    never = threading.Event()
    with serving(lambda _: Answer(EMPTY, wait=never)) as server:
        declare(book, metrics(server.url))
        assert "asked 3 times (ReadTimeout" in refused(book)
        never.set()


def test_a_page_in_place_of_an_answer_does_not_land(book):
    with serving(lambda _: Answer(b"<!DOCTYPE html><html>sign in</html>")) as server:
        declare(book, metrics(server.url))
        assert "expected '{': correct url" in refused(book)


def test_no_secret_is_in_a_message_a_log_a_name_or_a_file(book, caplog):
    caplog.set_level(logging.DEBUG)
    zone = "10Y1001A1001A82H"
    source = {
        "name": "prices",
        "kind": "entsoe",
        "zones": [zone],
        "documents": ["A44"],
        "first_day": date(2026, 10, 6),
        "token_variable": "TOKEN",
    }

    def echo(asked: object) -> Answer:
        return Answer(f"no: {asked}".encode(), 401)

    with serving(echo) as server:
        declare(book, source | {"url": server.url})
        cause = refused(book)
        assert server.asked[0].query["securityToken"] == SECRET
        server.scripted.append(Answer(b"<a/>"))
        pull(book)
    assert "answered 401" in cause
    names = [file.name for file in book.data_dir.rglob("*")]
    files = [file.read_text() for file in book.data_dir.rglob("*") if file.is_file()]
    for text in (cause, caplog.text, *names, *files):
        assert SECRET not in text
        assert "s3cret" not in text


@pytest.mark.parametrize("wrong", ["s3cret\nto", "s3cret\x00", "s3crét"])
def test_a_secret_that_no_header_holds_is_told_without_it_and_stops_no_other(book, wrong):
    with serving(lambda _: Answer(EMPTY)) as server:
        declare(
            book, metrics(server.url, token_variable="TOKEN"), metrics(server.url, name="other")
        )
        first, second = pulls.pull(book, environment={"TOKEN": wrong}, now=NOW, limits=QUICK)
    assert (len(first.causes), second.landed) == (1, 1)
    assert "s3cr" not in first.causes[0]
    assert "set it anew" in first.causes[0]


def test_two_pulls_at_once_do_not_mix(book):
    began, goes_on = threading.Event(), threading.Event()

    def wait(_: object) -> Answer:
        began.set()
        return Answer(EMPTY, wait=goes_on)

    with serving(wait) as server:
        declare(book, metrics(server.url))
        other = threading.Thread(target=pulls.pull, args=(book,), kwargs={"now": NOW})
        other.start()
        assert began.wait(10)
        with pytest.raises(PullError, match="another pull is under way"):
            pull(book)
        goes_on.set()
        other.join()
    assert landed(book) == {FILE: EMPTY}


def test_what_a_pull_that_was_killed_left_is_removed(book):
    book.pulls.mkdir(parents=True)
    (book.pulls / "tmpabc").write_text("half")
    with serving(lambda _: Answer(EMPTY)) as server:
        declare(book, metrics(server.url))
        pull(book)
    assert not (book.pulls / "tmpabc").exists()


def test_a_damaged_state_says_how_to_begin_anew(book):
    book.pulls.mkdir(parents=True)
    (book.pulls / "hall.json").write_text("{")
    declare(book, metrics("http://localhost:1"))
    assert "hall.json: is damaged: remove it to pull all of the source again" in refused(book)


def test_a_book_without_sources_pulls_nothing(book):
    assert pulls.pull(book) == []
    assert not Path(book.pulls).exists()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"url": "https://a:b@h/"}, "without user, password or query"),
        ({"url": "https://h/?token=x"}, "without user, password or query"),
        ({"url": "ftp://h"}, "expected https://host/path"),
        ({"url": "http://h", "token_variable": "TOKEN"}, "found http:// with a secret"),
        ({"user": "me"}, "expected token_variable, or user and password_variable"),
        ({"token_variable": "s3cret"}, "expected the name of an environment variable"),
        ({"name": "../up"}, "expected letters, digits"),
        ({"metrics": ["../../up"]}, "expected the name of a metric"),
        ({"kind": "mail"}, "kind"),
        ({"interval": 5}, "found an unknown field"),
    ],
)
def test_a_source_that_is_declared_wrongly_is_told_with_its_line(book, changed, expected):
    declare(book, metrics("https://h") | changed)
    with pytest.raises(BookError) as told:
        pull(book)
    assert expected in str(told.value)
    assert str(told.value).startswith("sources.yml:")


def test_a_name_that_is_given_twice_is_told(book):
    declare(book, metrics("https://h"), metrics("https://i"))
    with pytest.raises(BookError, match="found the source hall twice"):
        pull(book)


def test_the_sources_that_the_readme_shows_are_right(book):
    text = (Path(__file__).parents[2] / "README.md").read_text()
    [shown] = re.findall(r"```yaml\n(sources:\n[^`]+)```", text)
    folder = book.data_dir / "reference"
    (folder / "sources.yml").write_text(shown)
    sources = reference.load_sources(folder).sources
    assert [source.name for source in sources] == ["hall", "jobs", "prices", "drop"]


def test_the_file_of_the_state_is_plain_to_read(book):
    with serving(lambda _: Answer(EMPTY)) as server:
        declare(book, metrics(server.url))
        pull(book)
    assert yaml.safe_load((book.pulls / "hall.json").read_text()) == {
        "up": {"first_day": "2026-10-06", "until": "2026-10-06T09:30:00+00:00"}
    }

"""Every kind of source on the web, and what may go wrong: nothing but a whole answer lands."""

import io
import json
import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from urllib.parse import quote, quote_plus

import pytest
import trustme

from pipelines import pulls
from pipelines.book import Book
from pipelines.pulls import web
from pipelines.reference.sources import Source
from tests.pulls.servers import QUICK, Answer, Asked, archive, declare, landed, serving

NOW = datetime(2026, 5, 6, 9, 30, tzinfo=UTC)
SECRET = "s3cret/to+ken"
ENVIRONMENT = {"TOKEN": SECRET, "NAME": "anna", "KEY": "k3y-of-all"}
PATIENT = replace(QUICK, silence_s=10, answer_s=30)
MATRIX = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'
RATES = (
    b"KEY,FREQ,TIME_PERIOD,OBS_VALUE,TITLE\r\nEXR.D.USD,D,2026-05-06,1.25,US dollar of a day\r\n"
)
EVENTS = b'[{"id":"e1","objectType":"EVENT"}]'
PRICES = archive("a.csv", "NODE_ID,MW\nTH_NP15,31.5\n" * 9)


@dataclass(frozen=True)
class Kind:
    """A source of a kind, what a server answers to it, and to its signing in."""

    source: dict[str, object]
    content: bytes
    sign_in: str = ""
    token: bytes = b""


def listed(asked: Asked) -> bytes:
    files = [{"docId": 7, "postDatetime": "2026-05-05T12:45:00"}]
    meta = {"totalPages": 1}
    return json.dumps({"_meta": meta, "archives": files}).encode()


KINDS = {
    "prometheus": Kind({"metrics": ["up"], "token_variable": "TOKEN"}, MATRIX),
    "slurmrestd": Kind(
        {"api_version": "v0.0.41", "user": "anna", "token_variable": "TOKEN"}, b'{"jobs":[]}'
    ),
    "entsoe": Kind(
        {"zones": ["10Y1001A1001A82H"], "documents": ["A75"], "token_variable": "TOKEN"},
        b"<GL_MarketDocument><mRID>1</mRID></GL_MarketDocument>",
    ),
    "electricity_maps": Kind(
        {"zones": ["DE"], "basis": "direct", "token_variable": "TOKEN"}, b'{"zone":"DE","data":[]}'
    ),
    "watttime": Kind(
        {"regions": ["CAISO_NORTH"], "user_variable": "NAME", "password_variable": "TOKEN"},
        b'{"data":[],"meta":{}}',
        "/login",
        b'{"token":"t0ken-of-now"}',
    ),
    "caiso": Kind({"nodes": ["TH_NP15_GEN-APND"]}, PRICES),
    "ercot": Kind(
        {"user_variable": "NAME", "password_variable": "TOKEN", "key_variable": "KEY"},
        PRICES,
        "/token",
        b'{"id_token":"t0ken-of-now"}',
    ),
    "ecb": Kind({"currencies": ["USD"]}, RATES),
    "openadr": Kind(
        {"programs": ["limits"], "client_id": "wattbook", "client_secret_variable": "TOKEN"},
        EVENTS,
        "/auth/token",
        b'{"access_token":"t0ken-of-now"}',
    ),
}
WITHOUT_DAYS = ("slurmrestd", "openadr")


@pytest.fixture(params=[*KINDS])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.time, "sleep", lambda _: None)


def declared(book: Book, kind: str, url: str) -> None:
    source = {"name": "one", "kind": kind, "url": url} | KINDS[kind].source
    if kind == "ercot":
        source |= {"token_url": f"{url}/token"}
    if kind not in WITHOUT_DAYS:
        source |= {"first_day": date(2026, 5, 6), "overlap_days": 0}
    declare(book, source)


def answering(kind: str, *faults: Answer) -> Callable[[Asked], Answer]:
    """What a server does: it lets in, answers its data with the faults, one after the other."""
    left = [*faults]

    def answer(asked: Asked) -> Answer:
        if asked.path == KINDS[kind].sign_in:
            return Answer(KINDS[kind].token)
        if kind == "ercot" and "download" not in asked.query:
            return Answer(listed(asked))
        if left:
            return left.pop(0)
        return Answer(KINDS[kind].content)

    return answer


def pull(book: Book) -> pulls.Outcome:
    [outcome] = pulls.pull(book, environment=ENVIRONMENT, now=NOW, limits=PATIENT)
    return outcome


def test_every_kind_that_is_asked_over_the_web_is_here():
    asked_otherwise = {"slurm", "folder"}
    kinds = {
        model.model_fields["kind"].annotation.__args__[0] for model in Source.__origin__.__args__
    }
    assert kinds == {*KINDS, *asked_otherwise} == {*pulls.pulling.KINDS}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_passes_at_first_is_asked_again(book, kind, status):
    with serving(answering(kind, Answer(b"later", status))) as server:
        declared(book, kind, server.url)
        outcome = pull(book)
    assert (outcome.landed > 0, outcome.causes) == (True, [])
    assert {*landed(book).values()} == {KINDS[kind].content}


@pytest.mark.parametrize("status", [429, 500])
def test_a_server_that_goes_on_failing_is_told_of_and_nothing_lands(book, kind, status):
    with serving(answering(kind, *[Answer(b"oh", status)] * 3)) as server:
        declared(book, kind, server.url)
        [cause] = pull(book).causes
    assert f"answered {status}, expected 200, 3 times: pull again later" in cause
    assert landed(book) == {}


@pytest.mark.parametrize(("quarters", "is_told"), [(2, False), (3, False), (3, True)])
def test_a_part_of_a_body_never_lands(book, kind, quarters, is_told):
    content = KINDS[kind].content
    part = content[: len(content) * quarters // 4]
    fault = Answer(part, promised=len(content) if is_told else None)
    with serving(answering(kind, *[fault] * 3)) as server:
        declared(book, kind, server.url)
        [cause] = pull(book).causes
        assert "asked 3 times" in cause
        assert landed(book) == {}
        assert pull(book).causes == []
    assert {*landed(book).values()} == {KINDS[kind].content}


def test_a_redirect_elsewhere_is_not_followed(book, kind):
    with serving() as elsewhere:
        fault = Answer(b"", 302, {"Location": f"{elsewhere.url}/x"})
        with serving(answering(kind, fault)) as server:
            declared(book, kind, server.url)
            [cause] = pull(book).causes
        assert f"redirects to {elsewhere.url}, where nothing is sent" in cause
        assert elsewhere.asked == []
    assert landed(book) == {}


@pytest.fixture(scope="module")
def unknown() -> trustme.LeafCert:
    return trustme.CA().issue_cert("localhost")


def test_a_certificate_that_does_not_fit_ends_it_before_anything_is_asked(book, kind, unknown):
    with serving(answering(kind), tls=unknown) as server:
        declared(book, kind, server.url)
        [cause] = pull(book).causes
        assert server.asked == []
    assert "its certificate does not fit" in cause
    assert landed(book) == {}


def test_a_page_in_place_of_data_does_not_land(book, kind):
    page = Answer(b"<!DOCTYPE html><html>sign in</html>")
    with serving(answering(kind, page)) as server:
        declared(book, kind, server.url)
        [cause] = pull(book).causes
    assert "correct url" in cause
    assert landed(book) == {}


def test_no_secret_of_a_kind_is_in_a_message_a_log_a_name_or_a_file(book, kind, caplog):
    caplog.set_level(logging.DEBUG)

    def echo(asked: Asked) -> Answer:
        # Once the door is open; and at the door, where there is one.
        if asked.path == KINDS[kind].sign_in and not book.landing.exists():
            return Answer(f"no: {asked} {asked.headers}".encode(), 403)
        answer = answering(kind)(asked)
        if asked.path != KINDS[kind].sign_in and not refused:
            refused.append(f"no: {asked} {asked.headers}")
            return Answer(refused[0].encode(), 403)
        return answer

    refused: list[str] = []
    with serving(echo) as server:
        declared(book, kind, server.url)
        causes = [*pull(book).causes]
        book.landing.mkdir(parents=True, exist_ok=True)
        causes += pull(book).causes
        causes += pull(book).causes
    assert causes
    assert all("answered 403" in cause for cause in causes)
    assert landed(book) != {}
    names = [file.name for file in book.data_dir.rglob("*")]
    files = [
        file.read_bytes().decode(errors="replace")
        for file in book.data_dir.rglob("*")
        if file.is_file()
    ]
    for text in (*causes, caplog.text, *names, *files):
        for secret in (SECRET, quote(SECRET, safe=""), quote_plus(SECRET), "k3y-of-all", "t0ken"):
            assert secret not in text


def test_an_archive_without_its_directory_is_none():
    whole = io.BytesIO(PRICES)
    assert web.is_whole_archive(whole)
    assert zipfile.is_zipfile(whole)
    assert not web.is_whole_archive(io.BytesIO(PRICES[:-5]))

"""Packs that are sent: what arrives at a real mail server and webhook, once, and no secret."""

import email
import email.policy
import json
import logging
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from typer.testing import CliRunner

from pipelines import pack
from pipelines.book import Book
from pipelines.cli import app
from pipelines.orchestration.assets import packs
from pipelines.orchestration.resources import BookResource
from pipelines.pack import delivery
from tests.pack.published_books import WEEK, incident, usual_week, write

# They draw whole packs.
pytestmark = pytest.mark.slow

SECRET = "hunter2-and-more"
CONTRACT_PRICE = b"37.77"


class Inbox:
    """Keeps the bytes of what a mail server takes."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802  (aiosmtpd's name)
        if self.answer.startswith("250"):
            self.taken.append(envelope.content)
        return self.answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def inbox(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Inbox]:
    """A mail server on this machine that asks for STARTTLS and the right password."""
    box = Inbox()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    controller = Controller(
        box,
        hostname="localhost",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=lambda server, session, envelope, mechanism, data: AuthResult(
            success=data.password == SECRET.encode(), handled=False
        ),
    )
    controller.start()
    for name, value in {
        "SSL_CERT_FILE": trusted,
        "WATTBOOK_SMTP_HOST": "localhost",
        "WATTBOOK_SMTP_PORT": controller.port,
        "WATTBOOK_SMTP_USER": "wattbook",
        "WATTBOOK_SMTP_PASSWORD": SECRET,
        "WATTBOOK_MAIL_FROM": "book@example.org",
        "WATTBOOK_MAIL_TO": "ops@example.org, energy@example.org",
    }.items():
        monkeypatch.setenv(name, str(value))
    yield box
    controller.stop()


class Hook(HTTPServer):
    """A webhook that keeps what is posted to it."""

    def __init__(self) -> None:
        super().__init__(("localhost", 0), Answering)
        self.taken: list[bytes] = []
        self.status = 200


class Answering(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        self.server.taken.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    server = Hook()
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://localhost:{server.server_port}/services/{SECRET}"
    monkeypatch.setenv("WATTBOOK_WEBHOOK_URL", url)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_channel(monkeypatch: pytest.MonkeyPatch, book: Book) -> None:
    """Channels of the machine that runs the tests stay untouched."""
    # The command sets it for Dagster; no test after finds this one's book.
    monkeypatch.setenv("WATTBOOK_DATA_DIR", str(book.data_dir))
    for name in (*delivery.MAIL_VARIABLES, "WATTBOOK_WEBHOOK_URL"):
        monkeypatch.delenv(name, raising=False)


def send(book: Book):
    arguments = ["--data-dir", str(book.data_dir), "pack", "--week", WEEK, "--send"]
    return CliRunner().invoke(app, arguments)


def shown_packs(book: Book) -> tuple[set[str], dict[str, object]]:
    """The weeks whose packs the Dagster UI of a book shows, and what beside the newest."""
    with dg.DagsterInstance.from_config(str(book.data_dir / "dagster")) as instance:
        latest = instance.get_latest_materialization_event(packs.key)
        assert latest is not None
        metadata = latest.asset_materialization.metadata
        weeks = instance.get_materialized_partitions(packs.key)
        return weeks, told(metadata)


def told(metadata: Mapping[str, dg.MetadataValue]) -> dict[str, object]:
    """What stands beside an asset; tables as the values of their rows."""
    return {
        name: [cell for row in value.records for cell in row.data.values()]
        if isinstance(value, dg.TableMetadataValue)
        else value.value
        for name, value in metadata.items()
    }


def marks(book: Book) -> list[str]:
    return sorted(file.name for file in book.deliveries.glob("*"))


def test_the_text_says_scorecard_incidents_and_where_the_page_is(book):
    (one,) = pack.publish(write(book, usual_week()), WEEK, ["operations"])
    document = json.loads((one.folder / "pack.json").read_text())
    document["sections"]["agenda"] = {
        "sql": "",
        "rows": [{"title": f"Proposal {n}", "owner": "energy"} for n in range(4)],
    }

    lines = delivery.summary(document, "packs/index.html").splitlines()

    assert lines[0].endswith("1 incident")
    assert "Effective MW availability: " in "\n".join(lines)
    assert "- alpha, grid outage, 30 min: 357 GPU-hours lost, worth 1,200 EUR" in lines
    assert (
        lines[-6:]
        == [
            "Proposals:",
            *(f"- Proposal {n} (energy)" for n in range(3)),
            "- and 1 more",
            "",
            "Page: packs/index.html",
        ][-6:]
    )


def test_a_figure_nobody_knows_is_said_to_be_unknown_and_no_proposals_are_none(book):
    rows = usual_week()
    rows["governance_scorecard"][0]["kpi_value"] = None
    rows["governance_scorecard"][0]["target_status"] = "unknown"
    (one,) = pack.publish(write(book, rows), WEEK, ["operations"])
    document = json.loads((one.folder / "pack.json").read_text())
    document["sections"]["agenda"] = {"sql": "", "rows": []}

    text = delivery.summary(document, "index.html")

    assert ": not known (" in text
    assert "Proposals: none" in text


def test_mail_arrives_with_text_and_page_and_without_contract_prices(book, inbox):
    done = send(write(book, usual_week()))

    assert (done.exit_code, done.stderr.count("error")) == (0, 0), done.stderr
    assert done.stdout.splitlines()[-1] == f"{WEEK} by mail: sent"
    [raw] = inbox.taken
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert message["To"] == "ops@example.org, energy@example.org"
    assert WEEK in message["Subject"]
    text, page = (part.get_payload(decode=True) for part in message.iter_parts())
    assert page == (book.published / "packs" / WEEK / "index.html").read_bytes()
    for part in (raw, text, page):
        assert CONTRACT_PRICE not in part
        assert SECRET.encode() not in part
    energy = (book.published / "packs" / WEEK / "energy" / "index.html").read_bytes()
    assert CONTRACT_PRICE in energy


def test_the_webhook_gets_the_text_alone_and_without_contract_prices(book, hook):
    rows = usual_week()
    rows["fct_energy_constraint_incidents"].append(incident(2, 40) | {"primary_cause": "a <b> & c"})
    done = send(write(book, rows))

    assert done.exit_code == 0, done.stderr
    [raw] = hook.taken
    assert [*json.loads(raw)] == ["text"]
    assert "a &lt;b&gt; &amp; c" in json.loads(raw)["text"]
    assert CONTRACT_PRICE not in raw


def test_a_revision_goes_out_once_and_the_next_one_again(book, hook):
    rows = usual_week()
    assert send(write(book, rows)).stdout.splitlines()[-1] == f"{WEEK} by webhook: sent"
    assert send(book).stdout.splitlines()[-1] == f"{WEEK} by webhook: sent before"
    rows["fct_energy_constraint_incidents"].append(incident(2, 40))
    assert send(write(book, rows)).stdout.splitlines()[-1] == f"{WEEK} by webhook: sent"

    assert len(hook.taken) == 2
    assert "revision 2" in json.loads(hook.taken[1])["text"]
    assert marks(book) == [f"{WEEK}.revision-{n}.webhook.sent" for n in (1, 2)]


def test_what_is_refused_is_tried_again_and_does_not_stop_the_other_channel(book, inbox, hook):
    hook.status = 404
    done = send(write(book, usual_week()))
    assert (done.exit_code, len(inbox.taken)) == (1, 1)
    assert done.stderr.splitlines()[-1] == (
        "error: webhook at localhost: answered 404, expected 200: check WATTBOOK_WEBHOOK_URL"
    )
    assert marks(book) == [f"{WEEK}.revision-1.mail.sent"]

    hook.status = 200
    assert send(book).exit_code == 0
    assert (len(inbox.taken), len(hook.taken)) == (1, 2)


def test_a_run_cut_off_while_sending_is_named_and_not_sent_twice(book, hook, monkeypatch):
    write(book, usual_week())
    (one,) = pack.publish(book, WEEK, ["operations"])

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(delivery.Webhook, "send", cut_off)
        with pytest.raises(KeyboardInterrupt):
            delivery.deliver(book, one, delivery.channels(os.environ))

    done = send(book)
    mark = book.deliveries / f"{WEEK}.revision-1.webhook.sending"
    assert (done.exit_code, hook.taken) == (1, [])
    assert done.stderr.splitlines()[-1] == (
        f"error: {mark}: may have gone out when a run was cut off: remove the file to send again"
    )
    mark.unlink()
    assert send(book).exit_code == 0
    assert len(hook.taken) == 1


def test_a_wrong_password_and_an_unreachable_webhook_tell_no_secret(
    book, inbox, hook, monkeypatch, caplog
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("WATTBOOK_SMTP_PASSWORD", f"wrong-{SECRET}")
    monkeypatch.setenv("WATTBOOK_WEBHOOK_URL", f"http://localhost:1/services/{SECRET}")

    done = send(write(book, usual_week()))

    port = delivery.channels(os.environ)["mail"].port
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-2:] == [
        f"error: mail server localhost:{port}: answered 535: check STARTTLS, user and password",
        "error: webhook at localhost: cannot be reached: check WATTBOOK_WEBHOOK_URL",
    ]
    assert (inbox.taken, marks(book)) == ([], [])
    assert SECRET not in done.output + caplog.text


def test_channels_do_not_show_their_secrets_and_logs_do_not_either(book, inbox, hook, caplog):
    caplog.set_level(logging.DEBUG)
    done = send(write(book, usual_week()))
    assert done.exit_code == 0
    assert SECRET not in done.output + caplog.text
    assert SECRET not in repr(delivery.channels(os.environ))


def test_nothing_is_sent_unless_asked_and_sending_needs_a_channel(book, monkeypatch):
    write(book, usual_week())
    done = send(book)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (
        1,
        "error: no channel is set, expected WATTBOOK_SMTP_HOST or WATTBOOK_WEBHOOK_URL:"
        " see .env.example",
    )
    assert not (book.published / "packs").exists()


@pytest.mark.parametrize(
    ("given", "causes"),
    [
        ({}, None),
        (
            {"WATTBOOK_SMTP_HOST": "mail.example.org"},
            [
                "WATTBOOK_MAIL_FROM: not found, expected it to send mail",
                "WATTBOOK_MAIL_TO: not found, expected it to send mail",
            ],
        ),
        (
            {"WATTBOOK_WEBHOOK_URL": f"ftp://{SECRET}"},
            ["WATTBOOK_WEBHOOK_URL: expected a URL as https://host/path"],
        ),
    ],
)
def test_settings_that_are_wrong_are_named_without_what_they_hold(given, causes):
    if causes is None:
        assert delivery.channels(given) == {}
        return
    with pytest.raises(delivery.DeliveryError) as refused:
        delivery.channels(given)
    assert refused.value.causes == causes


def test_the_asset_draws_sends_once_and_shows_what_it_did_without_secrets(book, hook):
    write(book, usual_week())
    resources = {"book": BookResource(data_dir=str(book.data_dir))}
    shown = []
    for _ in range(2):
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                [packs], partition_key="2026-10-26", resources=resources, instance=instance
            )
            [event] = result.asset_materializations_for_node("published__packs")
            shown.append(told(event.metadata))
            events = "".join(str(entry) for entry in result.all_events)
            logs = "".join(str(record) for record in instance.all_logs(result.run_id))
            assert SECRET not in events + logs

    page = book.published / "packs" / WEEK / "index.html"
    assert [one["delivery"] for one in shown] == ["webhook: sent", "webhook: sent before"]
    assert [one["is_new"] for one in shown] == [True, False]
    assert (shown[0]["page"], shown[0]["revision"]) == (str(page), 1)
    assert "Effective MW availability" in shown[0]["scorecard"]
    assert len(hook.taken) == 1


def test_packs_of_the_command_line_show_in_dagster_with_their_week(book, hook):
    assert send(write(book, usual_week())).exit_code == 0

    weeks, metadata = shown_packs(book)
    assert weeks == {"2026-10-26"}
    assert metadata["delivery"] == "webhook: sent"
    assert (metadata["revision"], metadata["is_new"]) == (1, True)
    assert metadata["page"] == str(book.published / "packs" / WEEK / "index.html")
    assert "Effective MW availability" in metadata["scorecard"]
    assert "Look into grid outages of alpha" in metadata["agenda"]


def test_the_pack_of_one_team_alone_leaves_no_trace_in_dagster(book):
    write(book, usual_week())
    arguments = ["--data-dir", str(book.data_dir), "pack", "--week", WEEK, "--team", "finance"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert not (book.data_dir / "dagster").exists()

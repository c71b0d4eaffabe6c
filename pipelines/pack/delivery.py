"""Sending a published pack by mail and to a Slack-compatible webhook, both off by default.

What belongs here: the text of a message, the channels, and which revision went out already. What
does not: drawing and publishing packs (`pack/`). Messages are made of the operations pack alone,
which holds no contract price.

A revision goes out once per channel. Before it is sent, `deliveries/<week>.revision-<n>.<channel>`
is written with `.sending`, which becomes `.sent` once the other side has taken it. What is refused
leaves nothing, and the next run sends it. Where a run ended between the two, nobody knows whether
it arrived: it is not sent again, and the error says so, until a person removes the file.
"""

import html
import json
import logging
import smtplib
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from pipelines.book import Book
from pipelines.errors import BookError
from pipelines.pack import PublishedPack
from pipelines.pack.document import Document, Row
from pipelines.pack.page import UNIT_FORMATS, shown, unit_name, words

TIMEOUT_S = 30
SHOWN_INCIDENTS = 5
SHOWN_PROPOSALS = 3
DIRECTIONS = {"at_least": "at least", "at_most": "at most"}
MAIL_VARIABLES = ("WATTBOOK_SMTP_HOST", "WATTBOOK_MAIL_FROM", "WATTBOOK_MAIL_TO")


class DeliveryError(BookError):
    """A message did not go out, or may have; the cause says which and how to mend it."""


class RefusedError(DeliveryError):
    """The other side certainly did not take the message."""


@dataclass(frozen=True)
class Mail:
    """A mail server that speaks STARTTLS, and whom to write to."""

    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def send(self, text: str, page: Path) -> None:
        """Send the text with the page attached.

        Raises:
            RefusedError: the server cannot be reached, or refuses.
            DeliveryError: the connection broke, and nobody knows whether the server took it.
        """
        message = EmailMessage()
        message["Subject"] = text.splitlines()[0]
        message["From"] = self.sender
        message["To"] = ", ".join(self.recipients)
        message.set_content(text)
        # As bytes: what arrives is the published file to the last byte.
        message.add_attachment(
            page.read_bytes(), maintype="text", subtype="html", filename="weekly-pack.html"
        )
        where = f"mail server {self.host}:{self.port}"
        try:
            server = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_S)
        except OSError as error:
            raise RefusedError([f"{where}: {_reason(error)}: check WATTBOOK_SMTP_HOST"]) from None
        try:
            try:
                server.starttls(context=ssl.create_default_context())
                if self.user is not None:
                    server.login(self.user, self.password or "")
            except OSError as error:
                raise RefusedError(
                    [f"{where}: {_reason(error)}: check STARTTLS, user and password"]
                ) from None
            try:
                refused = server.send_message(message)
            except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused) as error:
                raise RefusedError([f"{where}: {_reason(error)}: check the addresses"]) from None
            except OSError as error:
                raise DeliveryError([f"{where}: {_reason(error)}"]) from None
        finally:
            # What was taken stays taken, however the farewell goes.
            with suppress(OSError):
                server.quit()
        if refused:
            addresses = ", ".join(sorted(refused))
            raise DeliveryError(
                [f"{where}: sent, but not to {addresses}: correct WATTBOOK_MAIL_TO"]
            )


@dataclass(frozen=True)
class Webhook:
    """A URL that takes `{"text": …}`, as Slack does. Whoever knows it may write: it is a secret."""

    url: str = field(repr=False)
    variable: str = "WATTBOOK_WEBHOOK_URL"

    def send(self, text: str, page: Path | None = None) -> None:
        """Send the text, which says where the page is if there is one.

        Raises:
            RefusedError: it cannot be reached, or answers with another status than 2xx.
            DeliveryError: no answer came, and nobody knows whether it took the text.
        """
        where = f"webhook at {urlsplit(self.url).hostname}"
        # Its log of requests would hold the URL.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            answer = httpx.post(
                self.url, json={"text": html.escape(text, quote=False)}, timeout=TIMEOUT_S
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol):
            raise RefusedError([f"{where}: cannot be reached: check {self.variable}"]) from None
        except httpx.HTTPError as error:
            raise DeliveryError([f"{where}: {type(error).__name__}"]) from None
        if not answer.is_success:
            found = f"{where}: answered {answer.status_code}, expected 200"
            raise RefusedError([f"{found}: check {self.variable}"])


Channels = Mapping[str, Mail | Webhook]


def channels(environment: Mapping[str, str]) -> Channels:
    """The channels that environment variables (see `.env.example`) turn on, by name.

    Raises:
        DeliveryError: names the variables that are missing or wrong, never what they hold.
    """
    found: dict[str, Mail | Webhook] = {}
    given = {name: value for name, value in environment.items() if value}
    if any(name in given for name in MAIL_VARIABLES):
        if missing := [name for name in MAIL_VARIABLES if name not in given]:
            raise DeliveryError(
                [f"{name}: not found, expected it to send mail" for name in missing]
            )
        port = given.get("WATTBOOK_SMTP_PORT", "587")
        if not port.isdecimal():
            raise DeliveryError([f"WATTBOOK_SMTP_PORT: found {port!r}, expected a port as 587"])
        found["mail"] = Mail(
            given["WATTBOOK_SMTP_HOST"],
            int(port),
            given["WATTBOOK_MAIL_FROM"],
            tuple(part.strip() for part in given["WATTBOOK_MAIL_TO"].split(",") if part.strip()),
            given.get("WATTBOOK_SMTP_USER"),
            given.get("WATTBOOK_SMTP_PASSWORD"),
        )
    if webhook := webhook_of(environment, "WATTBOOK_WEBHOOK_URL"):
        found["webhook"] = webhook
    return found


def webhook_of(environment: Mapping[str, str], variable: str) -> Webhook | None:
    """The webhook that an environment variable names; none where it is empty or not there.

    Raises:
        DeliveryError: it holds no URL.
    """
    given = environment.get(variable)
    if not given:
        return None
    url = urlsplit(given)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise DeliveryError([f"{variable}: expected a URL as https://host/path"])
    return Webhook(given, variable)


def deliver(book: Book, published: PublishedPack, to: Channels) -> dict[str, str]:
    """Send a pack to the channels it has not gone out to yet: what became of it, by channel.

    One channel that fails does not keep the others from being tried.

    Raises:
        DeliveryError: one cause per channel that failed.
    """
    page = published.folder / "index.html"
    text = summary(
        json.loads((published.folder / "pack.json").read_text(encoding="utf-8")), str(page)
    )
    outcome, causes = {}, []
    for name, channel in to.items():
        mark = book.deliveries / f"{published.week}.revision-{published.revision}.{name}"
        try:
            was_sent = _once(mark, partial(channel.send, text, page))
            outcome[name] = "sent" if was_sent else "sent before"
        except DeliveryError as error:
            causes += error.causes
    if causes:
        raise DeliveryError(causes)
    return outcome


def _once(mark: Path, send: Callable[[], None]) -> bool:
    """Send unless it was sent before; whether it was sent now."""
    sending, sent = (mark.with_name(f"{mark.name}.{state}") for state in ("sending", "sent"))
    if sent.exists():
        return False
    mark.parent.mkdir(parents=True, exist_ok=True)
    try:
        sending.touch(exist_ok=False)
    except FileExistsError:
        raise DeliveryError(
            [f"{sending}: may have gone out when a run was cut off: remove the file to send again"]
        ) from None
    try:
        send()
    except RefusedError:
        sending.unlink()
        raise
    sending.replace(sent)
    return True


def summary(pack: Document, place: str) -> str:
    """The pack in a few lines: scorecard, incidents, first proposals, where the page is.

    The first line is the subject.
    """
    sections = {name: section["rows"] for name, section in pack["sections"].items()}
    kpis = [row for row in sections["scorecard"] if row["scope"] == "organization"]
    with_target = [row for row in sections["scorecard"] if row["target_value"] is not None]
    met = sum(row["target_status"] == "met" for row in with_target)
    incidents = sections["incidents"]
    revision = f", revision {pack['revision']}" if pack["revision"] > 1 else ""
    lines = [
        f"{pack['organization']} {pack['week']}{revision}: {met} of {len(with_target)} targets met,"
        f" {_count(len(incidents), 'incident')}",
        f"{pack['first_date']} to {pack['last_date']}",
        *(
            [f"{_count(len(pack['changes']), 'value')} changed since the last revision"]
            if revision
            else []
        ),
        "",
        *(_kpi_line(row) for row in kpis),
        "",
        *_some("Incidents", [_incident_line(row) for row in incidents], SHOWN_INCIDENTS),
        "",
        *_some(
            "Proposals",
            [f"{row['title']} ({row['owner']})" for row in sections["agenda"]],
            SHOWN_PROPOSALS,
        ),
        "",
        f"Page: {place}",
    ]
    return "\n".join(lines) + "\n"


def _some(title: str, entries: Sequence[str], limit: int) -> list[str]:
    if not entries:
        return [f"{title}: none"]
    more = [f"- and {len(entries) - limit} more"] if len(entries) > limit else []
    return [f"{title}:", *(f"- {entry}" for entry in entries[:limit]), *more]


def _kpi_line(row: Row) -> str:
    def figure(value: float | None) -> str:
        text = shown(value, UNIT_FORMATS.get(row["unit"], "unit_cost"))
        return "not known" if value is None else f"{text} {unit_name(row['unit'])}".strip()

    target = (
        "no target"
        if row["target_value"] is None
        else f"target {DIRECTIONS[row['direction']]} {figure(row['target_value'])},"
        f" {words(row['target_status'])}"
    )
    return (
        f"{row['kpi_name']}: {figure(row['kpi_value'])}"
        f" ({target}; week before {figure(row['previous_value'])})"
    )


def _incident_line(row: Row) -> str:
    lost = (row["lost_gpu_hours_sensitive"], row["lost_gpu_hours_tolerant"])
    parts = [
        "GPU-hours lost not known"
        if None in lost
        else f"{shown(sum(lost), 'gpu_hours')} GPU-hours lost",
        "of unknown value"
        if row["lost_value"] is None
        else f"worth {shown(row['lost_value'], 'money')} {row['currency_code']}",
    ]
    return f"{row['site_id']}, {words(row['primary_cause'])}, {row['duration_minutes']} min: " + (
        ", ".join(parts)
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _reason(error: OSError) -> str:
    """What a mail server said or why it could not be reached, on one line."""
    if isinstance(error, smtplib.SMTPResponseException):
        return f"answered {error.smtp_code}"
    return " ".join(str(error).split()) or type(error).__name__

"""Asking over the web: with patience, within limits, and telling no secret.

What belongs here: one request and its answer, whole or not at all. What does not: what is asked
(the modules of the kinds), and where answers go (`desk.py`).

Certificates are always verified; SSL_CERT_FILE names an authority of one's own. A redirect to
another place is not followed, whatever it may be: what is asked may carry a secret.
"""

import base64
import io
import logging
import ssl
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any
from urllib.parse import urlsplit

import httpx
import orjson
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from pipelines.pulls.desk import Desk, PullError, TooLargeError

PASSING = (429, 500, 502, 503, 504)
MOST_REDIRECTS = 5
SHOWN_CHARACTERS = 200
CHUNK_BYTES = 2**16
END_BYTES = 2**12
ENDS = {b"{": b"}", b"[": b"]", b"<": b">"}
ARCHIVE = b"PK"
"""What a zip archive begins with."""


class RefusedError(PullError):
    """The server has understood and does not answer; `status` says why, `text` in its words."""

    def __init__(self, cause: str, status: int, text: str) -> None:
        super().__init__([cause])
        self.status = status
        self.text = text


class EmptyError(PullError):
    """The server answers with nothing at all."""


class _AgainError(PullError):
    """What may pass when asked again, after `after_s` where the server says so."""

    def __init__(self, cause: str, after_s: float | None = None) -> None:
        super().__init__([cause])
        self.after_s = after_s


class Web:
    """A server that a source is asked of."""

    def __init__(
        self,
        desk: Desk,
        url: str,
        *,
        requests_per_minute: int,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> None:
        # Its log of requests would hold what is asked, and with it a secret.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.url = url
        self.where = urlsplit(url).netloc
        self._limits = desk.limits
        self._desk = desk
        self._pause_s = 60 / requests_per_minute
        self._next = 0.0
        self._sign_in: Callable[[], str] | None = None
        self._token_lasts_s = 0.0
        self._token_until = 0.0
        self._auth = auth
        if auth is not None:
            # As it goes out, by which a server may quote it.
            desk.secrets.add(base64.b64encode(":".join(auth).encode()).decode())
        _refuse_beyond_ascii(self.where, *(headers or {}).values())
        self._client = httpx.Client(headers=headers, timeout=desk.limits.silence_s)

    def __enter__(self) -> "Web":
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def authorize(self, token: str) -> None:
        """Send a bearer token from now on.

        Raises:
            PullError: it is none that a header can hold.
        """
        self._desk.secrets.add(token)
        _refuse_beyond_ascii(self.where, token)
        self._client.headers["Authorization"] = f"Bearer {token}"

    def authorize_by(self, sign_in: Callable[[], str], *, for_s: float) -> None:
        """Send bearer tokens that `sign_in` gives, each for so long or until it is refused."""
        self._sign_in = sign_in
        self._token_lasts_s = for_s

    def get(
        self,
        path: str,
        parameters: dict[str, str | int],
        into: IO[bytes],
        *,
        shape: bytes,
        is_whole: Callable[[IO[bytes]], bool] | None = None,
    ) -> None:
        """Write what a path answers into a file.

        Args:
            path: below the source's URL.
            parameters: of the query.
            into: an empty file, which holds the whole answer afterwards.
            shape: the bytes it has to begin with.
            is_whole: says of an answer whether all of it is there; left out: it is where it ends
                with the counterpart of what it begins with.

        Raises:
            RefusedError: it answers with another status than 200.
            EmptyError: it answers with nothing.
            TooLargeError: the answer is larger than one may be.
            PullError: no answer came, or only a part of it, as often as it was asked for.
        """
        self._patiently("GET", self.url + path, into, shape, is_whole, params=parameters)

    def post(self, form: dict[str, str], into: IO[bytes], *, shape: bytes = b"{") -> None:
        """Write what a form that is sent to the URL answers into a file; raises as `get` does."""
        self._patiently("POST", self.url, into, shape, None, data=form)

    def json(self, answer: io.BytesIO) -> Any:
        """What an answer says.

        Raises:
            PullError: it is no JSON.
        """
        try:
            return orjson.loads(answer.getvalue())
        except orjson.JSONDecodeError as error:
            raise PullError([f"{self.where}: found no JSON ({error}): check url"]) from None

    def token(self, answer: io.BytesIO, name: str, *, check: str = "url") -> str:
        """The token that an answer has under a name.

        Raises:
            PullError: it has none; `check` is the field that may be wrong.
        """
        told = self.json(answer)
        token = told.get(name) if isinstance(told, dict) else None
        if not isinstance(token, str) or not token:
            raise PullError([f"{self.where}: found no {name}, expected one: check {check}"])
        self._desk.secrets.add(token)
        return token

    def _patiently(
        self,
        method: str,
        url: str,
        into: IO[bytes],
        shape: bytes,
        is_whole: Callable[[IO[bytes]], bool] | None,
        **what: Any,
    ) -> None:
        Retrying(
            stop=stop_after_attempt(self._limits.attempts),
            wait=self._wait,
            retry=retry_if_exception_type(_AgainError),
            reraise=True,
        )(self._once, method, url, into, shape, is_whole, **what)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _AgainError) and error.after_s is not None:
            return error.after_s
        return wait_random_exponential(self._limits.first_pause_s, self._limits.longest_pause_s)(
            state
        )

    def _once(
        self,
        method: str,
        url: str,
        into: IO[bytes],
        shape: bytes,
        is_whole: Callable[[IO[bytes]], bool] | None,
        **what: Any,
    ) -> None:
        is_renewed = self._renew_token()
        time.sleep(max(0, self._next - time.monotonic()))
        self._next = time.monotonic() + self._pause_s
        into.seek(0)
        into.truncate()
        request = self._client.build_request(method, url, **what)
        until = time.monotonic() + self._limits.answer_s
        try:
            for _ in range(MOST_REDIRECTS):
                answer = self._client.send(request, stream=True, auth=self._auth)
                try:
                    if answer.next_request is None:
                        if answer.status_code == 401 and self._sign_in and not is_renewed:
                            self._token_until = 0
                            raise _AgainError(f"{self.where}: answered 401, expected 200", 0)
                        self._take(answer, into, until)
                        break
                    request = self._redirected(request, answer.next_request)
                finally:
                    answer.close()
            else:
                raise PullError([f"{self.where}: redirects in a circle: correct url"])
        except httpx.RequestError as error:
            raise self._failed(error) from None
        self._check(into, shape, is_whole)

    def _renew_token(self) -> bool:
        """Sign in where that is due; whether it was."""
        if self._sign_in is None or time.monotonic() < self._token_until:
            return False
        self.authorize(self._sign_in())
        self._token_until = time.monotonic() + self._token_lasts_s
        return True

    def _take(self, answer: httpx.Response, into: IO[bytes], until: float) -> None:
        """The body of an answer, or what its status says."""
        if answer.status_code != 200:
            text = b""
            for chunk in answer.iter_bytes(CHUNK_BYTES):
                text += chunk
                if len(text) >= CHUNK_BYTES:
                    break
            self._refuse(answer, text.decode(errors="replace"))
        size = 0
        for chunk in answer.iter_bytes(CHUNK_BYTES):
            size += len(chunk)
            if size > self._limits.answer_bytes:
                raise TooLargeError(
                    [
                        f"{self.where}: found an answer above {self._limits.answer_bytes} bytes,"
                        " expected less: ask for less at once"
                    ]
                )
            if time.monotonic() > until:
                raise PullError(
                    [
                        f"{self.where}: the answer was not there after"
                        f" {self._limits.answer_s:g} s: pull again later, or ask for less at once"
                    ]
                )
            into.write(chunk)

    def _refuse(self, answer: httpx.Response, text: str) -> None:
        status = answer.status_code
        shown = " ".join(text.split())[:SHOWN_CHARACTERS]
        found = f"{self.where}: answered {status}, expected 200"
        if status not in PASSING:
            raise RefusedError(f"{found}: {shown or 'no reason given'}", status, text)
        after_s = _retry_after_s(answer.headers.get("Retry-After"))
        if after_s is not None and after_s > self._limits.longest_pause_s:
            raise PullError([f"{found}: it asks to wait {after_s:.0f} s: pull again after that"])
        raise _AgainError(f"{found}, {self._limits.attempts} times: pull again later", after_s)

    def _redirected(self, request: httpx.Request, following: httpx.Request) -> httpx.Request:
        here, there = request.url, following.url
        if (here.scheme, here.host, here.port) != (there.scheme, there.host, there.port):
            raise PullError(
                [
                    f"{self.where}: redirects to {there.scheme}://{there.netloc.decode()}, where"
                    " nothing is sent: correct url if that is the right place"
                ]
            )
        return following

    def _failed(self, error: httpx.RequestError) -> PullError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return PullError(
                    [
                        f"{self.where}: its certificate does not fit ({cause.verify_message}):"
                        " expected one that this machine trusts; SSL_CERT_FILE names an authority"
                        " of your own"
                    ]
                )
            cause = cause.__cause__ or cause.__context__
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return _AgainError(
            f"{self.where}: no whole answer, asked {self._limits.attempts} times ({what}):"
            " check url, or pull again later"
        )

    def _check(
        self, into: IO[bytes], shape: bytes, is_whole: Callable[[IO[bytes]], bool] | None
    ) -> None:
        """Refuse what is no answer of this kind, or the first half of one."""
        into.seek(0)
        start = into.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()
        if not start:
            raise EmptyError([f"{self.where}: found an empty answer, expected {shape.decode()!r}"])
        if not start.startswith(shape) or b"<html" in start.lower():
            raise PullError(
                [
                    f"{self.where}: found an answer that begins with {start[:40]!r}, expected"
                    f" {shape.decode()!r}: correct url"
                ]
            )
        end = last_bytes(into)
        if not (is_whole(into) if is_whole else end.endswith(ENDS[shape])):
            raise _AgainError(
                f"{self.where}: found an answer that ends with {end[-40:]!r}, expected all of it,"
                f" asked {self._limits.attempts} times: pull again later"
            )


def _refuse_beyond_ascii(where: str, *values: str) -> None:
    if not all(value.isascii() for value in values):
        raise PullError(
            [f"{where}: found a user, token or key beyond ASCII, expected none: set it anew"]
        )


def last_bytes(answer: IO[bytes]) -> bytes:
    """The end of an answer, without the blanks there."""
    answer.seek(max(0, answer.seek(0, 2) - END_BYTES))
    return answer.read().rstrip()


def is_whole_archive(answer: IO[bytes]) -> bool:
    """Whether a zip archive has its directory, which stands at its end."""
    try:
        with zipfile.ZipFile(answer) as archive:
            return bool(archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return False
    finally:
        answer.seek(0, 2)


def _retry_after_s(told: str | None) -> float | None:
    """Seconds to wait as the header Retry-After says, seconds or a date (RFC 9110, 10.2.3)."""
    if told is None:
        return None
    if told.strip().isdecimal():
        return float(told)
    try:
        at = parsedate_to_datetime(told)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())

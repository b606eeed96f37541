"""A management API over HTTP: ours, or that of KurrentDB's own connectors. Its refusals become errors of ours here."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx
import orjson

from sinkworker.commands.violations import in_lines
from sinkworker.config import Config, Secret, without_password
from sinkworker.connectors.settings import Discreet
from sinkworker.errors import Invalid, Misconfigured, SinkworkerError, Unavailable

TIMEOUT_S = 10.0
PER_PAGE = 100
FAILED_PRECONDITION, ALREADY_EXISTS = 9, 6
"""What the API calls two of its refusals (contract §1.6)."""

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # addresses to listen on, not to ask


class Refused(Invalid):
    """The API understood and said no. `rpc_code` is the code in its answer; `violations` are its fields at fault."""

    code = "refused"

    def __init__(self, message: str, rpc_code: int, violations: Mapping[str, Sequence[str]]) -> None:
        super().__init__(message)
        self.rpc_code = rpc_code
        self.violations = violations

    def __str__(self) -> str:
        return in_lines(self.message, self.violations)


def address_of(config: Config) -> Secret:
    """Where our API is: the configured URL, else where `sinkworker api` listens with the same configuration.

    Then also for the same user and over HTTPS where it shows a certificate. Raises Invalid where the file with the
    password cannot be read.
    """
    if config.api_url is not None:
        return config.api_url
    scheme = "http" if config.api_certificate is None else "https"
    host = _EVERYWHERE.get(config.api_host, config.api_host)
    password = config.password_of_api()
    access = "" if password is None else f"{quote(config.api_user or '', safe='')}:{quote(password.reveal(), safe='')}@"
    return Secret(f"{scheme}://{access}{f'[{host}]' if ':' in host else host}:{config.api_port}")


class ManagementApi:
    """One server of the management API.

    Every call raises Refused when it says no, Misconfigured when it does not let us in or is something else, and
    Unavailable when it does not answer or fails. No message shows the credentials.
    """

    def __init__(self, url: Secret, what: str, hint: str, ca: Path | None = None) -> None:
        """`what` it is, and `hint` what to do when it does not answer; `ca`: whom to trust besides the system's own."""
        parts = urlsplit(url.reveal())
        self.address = without_password(url.reveal()).replace("***@", "", 1).rstrip("/")
        self._what = f"{what} at {self.address}"
        self._hint = hint
        credentials = parts.netloc.rpartition("@")[0]
        name, _, password = credentials.partition(":")
        self._http = httpx.Client(
            base_url=self.address,
            auth=(unquote(name), unquote(password)) if credentials else None,
            timeout=TIMEOUT_S,
            verify=_trust(ca),
            trust_env=False,  # a proxy leads nowhere near a management API, least of all one on loopback
        )

    def __enter__(self) -> ManagementApi:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._http.close()

    def connectors(self, *, ids: Sequence[str] = (), **parameters: Any) -> list[dict[str, Any]]:
        """Every connector that the parameters of the list let through, of all pages."""
        found: dict[str, dict[str, Any]] = {}
        page = 0
        while True:
            page += 1
            # A server knows one spelling of the paging and ignores the other.
            paging = {"paging.page": page, "paging.pageSize": PER_PAGE, "page": page, "pageSize": PER_PAGE}
            items = self.ask(
                "list the connectors", "GET", "", params={"connectorId": list(ids), **parameters, **paging}
            )
            known = len(found)
            found |= {str(item["connectorId"]): item for item in items.get("items", [])}
            if len(items.get("items", [])) < PER_PAGE or len(found) == known:
                return list(found.values())

    def connector(self, connector_id: str, *, include_settings: bool = False) -> dict[str, Any]:
        """The connector as the list has it, also a deleted one. Raises Refused where there is none."""
        parameters = {"showDeleted": "true", **({"includeSettings": "true"} if include_settings else {})}
        if found := self.connectors(ids=[connector_id], **parameters):
            return found[0]
        self.settings(connector_id)  # says why there is none
        raise Unavailable(f"{self._what} does not list {connector_id}.")

    def settings(self, connector_id: str) -> Discreet[str]:
        """The connector's settings as given, secrets included."""
        answer = self.ask(f"show {connector_id}", "GET", f"/{connector_id}/settings")
        return Discreet((str(key), str(value)) for key, value in answer.get("settings", {}).items())

    def ask(
        self, what: str, method: str, path: str, body: object = None, params: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """One request below `/connectors`; `what` completes "did not …"."""
        try:
            answer = self._http.request(
                method,
                f"/connectors{path}",
                content=None if body is None else orjson.dumps(body),
                headers={} if body is None else {"content-type": "application/json"},
                params=params,
            )
        except httpx.HTTPError as exc:
            if "CERTIFICATE_VERIFY_FAILED" in str(exc):
                raise Misconfigured(
                    f"{self._what} shows a certificate that is not trusted: {exc}.",
                    hint="Name its authority with --ca FILE.",
                ) from exc
            raise Unavailable(f"{self._what} does not answer: {exc}.", hint=self._hint) from exc
        if answer.is_success and isinstance(said := _json(answer.content), dict):
            return said
        raise self._fault(what, answer)

    def _fault(self, what: str, answer: httpx.Response) -> SinkworkerError:
        status = answer.status_code
        if status == 401:
            return Misconfigured(
                f"{self._what} refuses the credentials.", hint="Check the user and password in its URL."
            )
        if status == 403:
            return Misconfigured(
                f"{self._what} does not let us {what}.",
                hint="Put the credentials in its URL, as in https://USER:PASSWORD@HOST:PORT.",
            )
        said = _json(answer.content)
        if not isinstance(said, dict) or not isinstance(said.get("code"), int):
            kind = Unavailable if status >= 500 else Misconfigured
            return kind(f"{self._what} answers as no management API does, with HTTP status {status}.", hint=self._hint)
        message = str(said.get("message", ""))
        if status >= 500:
            return Unavailable(f"{self._what} failed to {what}: {message}")
        violations = _violations(said)
        return Refused(f"{self._what} did not {what}." if violations else message, said["code"], violations)


def _trust(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except OSError as exc:  # ssl.SSLError is one
            raise Invalid(f"The file {ca} holds no certificates that can be read: {exc}.") from exc
    return context


def _json(content: bytes) -> object:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _violations(said: Mapping[str, Any]) -> dict[str, list[str]]:
    violations: dict[str, list[str]] = {}
    for detail in said.get("details") or ():
        for each in detail.get("fieldViolations") or ():
            violations.setdefault(str(each.get("field")), []).append(str(each.get("description")))
    return violations

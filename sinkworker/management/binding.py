"""The socket and the certificate that the API is served with; and which addresses it may not be served on."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from pathlib import Path

from sinkworker.config import SETTINGS
from sinkworker.errors import Invalid, Misconfigured


def listen(host: str, port: int, *, only_loopback: bool) -> socket.socket:
    """A socket that listens there. `host` is an address or a name, of which the first address counts.

    Raises Misconfigured when it cannot be listened on, and Invalid when `only_loopback` holds and others can reach it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if only_loopback and not is_loopback(str(address[0])):
            raise _open_to_others(address_of(host, port))
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as exc:
        raise Misconfigured(
            f"The API cannot listen on {address_of(host, port)}: {exc.strerror or exc}.",
            hint="Stop what uses the port, or choose another with SINKWORKER_API_HOST and SINKWORKER_API_PORT.",
        ) from exc
    return listener


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches that IP address, which may be IPv6 with a zone or a mapped IPv4."""
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def address_of(host: str, port: int) -> str:
    """As it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """What TLS is served with. Raises Invalid naming the variable whose file is missing, unreadable or wrong."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for setting, path in (("api_certificate", certificate), ("api_key", key)):
        try:
            path.read_bytes()
        except OSError as exc:
            raise Invalid(f"{SETTINGS[setting].name} names a file that cannot be read: {exc.strerror}.") from exc
    try:
        # Without a password of its own, OpenSSL would ask for that of an encrypted key on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as exc:
        raise Invalid(_why_not(exc), hint="Both are files in PEM, the key not encrypted.") from exc
    return context


def _why_not(error: ssl.SSLError) -> str:
    certificate, key = SETTINGS["api_certificate"].name, SETTINGS["api_key"].name
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"The key that {key} names is not that of the certificate of {certificate}."
    return f"The files that {certificate} and {key} name are no certificate with its key: {error.reason or error}."


def _open_to_others(address: str) -> Invalid:
    return Invalid(
        f"The API would listen on {address}, where others can reach it, and let everybody do everything.",
        hint="Give it a user with SINKWORKER_API_USER and SINKWORKER_API_PASSWORD (or SINKWORKER_API_PASSWORD_FILE), "
        "leave it on SINKWORKER_API_HOST=127.0.0.1, or, where something else keeps strangers out, set "
        "SINKWORKER_API_ALLOW_ANONYMOUS=true.",
    )

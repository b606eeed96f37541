"""`python -m sinkworker.local.kurrentdb --data FILE --port N`: run the development stand-in until told to stop.

Exit codes: 0 stopped, 2 wrong options, 3 the environment (a port in use, a data file that cannot be used).
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from sinkworker.local.kurrentdb.access import Access
from sinkworker.local.kurrentdb.connection import KeepAlive
from sinkworker.local.kurrentdb.schema import DataFileError
from sinkworker.local.kurrentdb.server import CertificateError, Server, ServerOptions, Tls

log = logging.getLogger("sinkworker.local.kurrentdb")

EXIT_ENVIRONMENT = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the options, serve, and return the exit code."""
    options = _parse(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_serve(options))
    except (DataFileError, CertificateError) as exc:
        return _refuse(str(exc))
    except OSError as exc:
        return _refuse(_explain_address(exc, options))
    return 0


async def _serve(options: ServerOptions) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    server = Server(options)
    host, port = await server.start()
    log.info("KurrentDB stand-in for development: listening on %s:%d, data in %s", host, port, options.data)
    await stopping.wait()
    await server.stop()
    log.info("KurrentDB stand-in stopped")


def _parse(arguments: Sequence[str] | None) -> ServerOptions:
    parser = argparse.ArgumentParser(
        prog="python -m sinkworker.local.kurrentdb",
        description="A development stand-in for KurrentDB: one node, all data in one SQLite file.",
        epilog="example: python -m sinkworker.local.kurrentdb --data /tmp/events.db --port 2113",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="the data file; created if missing")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default %(default)s)")
    parser.add_argument("--port", type=_port, required=True, help="the port to listen on; 0 takes a free one")
    parser.add_argument(
        "--keep-alive-interval",
        type=_seconds,
        default=KeepAlive.interval_s,
        metavar="SECONDS",
        help="ping a client that was silent for so long (default %(default)s)",
    )
    parser.add_argument(
        "--keep-alive-timeout",
        type=_seconds,
        default=KeepAlive.timeout_s,
        metavar="SECONDS",
        help="hang up on a client that does not answer a ping in this time (default %(default)s)",
    )
    parser.add_argument(
        "--user",
        type=_user,
        action="append",
        default=[],
        metavar="NAME:PASSWORD",
        help="ask for credentials, and accept these; may be repeated (default: everyone may do everything)",
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve TLS with this certificate (PEM)")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="the key of the certificate (PEM)")
    parsed = parser.parse_args(arguments)
    if (parsed.tls_cert is None) != (parsed.tls_key is None):
        parser.error("--tls-cert and --tls-key belong together; give both, or neither")
    return ServerOptions(
        data=parsed.data,
        host=parsed.host,
        port=parsed.port,
        access=Access(dict(parsed.user)),
        tls=None if parsed.tls_cert is None else Tls(parsed.tls_cert, parsed.tls_key),
        keep_alive=KeepAlive(parsed.keep_alive_interval, parsed.keep_alive_timeout),
    )


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a number from 0 to 65535")
    return int(text)


def _user(text: str) -> tuple[str, str]:
    name, colon, password = text.partition(":")
    if not (name and colon and password):
        raise argparse.ArgumentTypeError("a user is written NAME:PASSWORD")
    return name, password


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; give a number of seconds above 0")
    return seconds


def _refuse(reason: str) -> int:
    sys.stderr.write(f"error: {reason}\n")
    return EXIT_ENVIRONMENT


def _explain_address(exc: OSError, options: ServerOptions) -> str:
    address = f"{options.host}:{options.port}"
    if exc.errno == errno.EADDRINUSE:
        return f"{address} is in use; stop what listens there, or choose another --port."
    if exc.errno == errno.EACCES:
        return f"Listening on {address} is not permitted; choose a --port from 1024 on."
    return f"Cannot listen on {address} ({exc.strerror or exc}); choose another --host or --port."


if __name__ == "__main__":
    sys.exit(main())

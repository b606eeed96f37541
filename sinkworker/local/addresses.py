"""Where the local stack's parts are found: the file `local.env` in the data dir, and the locks that make it true.

The running `sinkworker local` writes `local.env` once all its parts answer, and holds an `flock` on that very file for
as long as it lives: one that nobody holds is of a dead stack and is not believed. Another lock, on `local.lock`, is
held from before the first part starts until the last is gone, even where that is after the stack's own end, so that
there is never a second stack on one data dir.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from honcho.environ import parse

from sinkworker.config import SETTINGS, Config, load
from sinkworker.errors import Invalid, Misconfigured
from sinkworker.process import Stopped

log = logging.getLogger(__name__)

ADDRESSES = ("kurrentdb_uri", "redis_url", "kafka_bootstrap_servers")
"""The fields of `Config` that the local stack can fill."""

FILE = "local.env"
LOCK = "local.lock"
POLL_S = 0.2
REMIND_S = 15.0
LOCK_PATIENCE_S = 1.0
"""How long a starting stack asks for the lock: a role that looks whether it is held holds it itself for an instant."""


def resolve(config: Config, stop: threading.Event) -> Config:
    """The configuration with all three addresses, waiting for the local stack where it must give some of them.

    Says what it waits for, again every 15 s. Raises Stopped when told to stop meanwhile.
    """
    said = float("-inf")
    while (found := _complete(config)) is None:
        if time.monotonic() - said >= REMIND_S:
            said = time.monotonic()
            lacking = missing(config)
            log.info("waiting for %s: %s", _names(lacking), _advice(config, lacking))
        if stop.wait(POLL_S):
            raise Stopped
    return found


def resolve_now(config: Config, needed: Sequence[str] = ADDRESSES) -> Config:
    """The configuration with the `needed` addresses. Raises Misconfigured at once when one is not to be had."""
    found = _complete(config, needed)
    if found is None:
        lacking = missing(config, needed)
        raise Misconfigured(f"No address for {_names(lacking)}.", hint=_sentence(_advice(config, lacking)))
    return found


def missing(config: Config, needed: Sequence[str] = ADDRESSES) -> list[str]:
    """The variables of those addresses that nothing configures."""
    return [SETTINGS[key].name for key in needed if getattr(config, key) is None]


def running(data_dir: Path) -> dict[str, str]:
    """What the stack that runs on `data_dir` gives, by variable: empty while none runs or not all its parts answer."""
    path = data_dir / FILE
    return read(path) if _held(path) else {}


@contextlib.contextmanager
def published(data_dir: Path, addresses: Mapping[str, str]) -> Iterator[Path]:
    """While inside, `running` gives these addresses. Gives the file's path. Raises Misconfigured.

    The file stays, for `last_known`. It is locked before it gets its name, so there is no instant at which a reader
    could take it for another run's.
    """
    path = data_dir / FILE
    draft = _draft(path, addresses)
    with draft.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        draft.replace(path)
        yield path


def last_known(data_dir: Path) -> dict[str, str]:
    """The addresses of the stack that last ran on `data_dir`."""
    return read(data_dir / FILE)


def read(path: Path) -> dict[str, str]:
    """The variables in an address file; empty when there is none. Raises Misconfigured when it cannot be read."""
    try:
        return dict(parse(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise Misconfigured(f"{path} cannot be read: {exc}.", hint="Give this user access to the data dir.") from exc


def write(path: Path, addresses: Mapping[str, str], *, first_line: str = "") -> None:
    """Replace the file in one step: who reads it sees all addresses or the old file. Raises Misconfigured."""
    _draft(path, addresses, first_line).replace(path)


def _draft(path: Path, addresses: Mapping[str, str], first_line: str = "") -> Path:
    """The complete file beside the place where it is to be."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    lines = [first_line] if first_line else []
    lines += [f"{name}={value}" for name, value in addresses.items()]
    try:
        draft.write_text("\n".join([*lines, ""]), encoding="utf-8")
    except OSError as exc:
        raise Misconfigured(f"{path} cannot be written: {exc.strerror}.", hint="Choose another path.") from exc
    return draft


def prepare_data_dir(path: Path) -> Path:
    """Make the data dir if need be, for this user only; answer its absolute path. Raises Misconfigured."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            probe = path / f".probe.{os.getpid()}"
            stack.callback(probe.unlink, missing_ok=True)
            probe.touch()
        list(path.iterdir())
    except OSError as exc:
        raise Misconfigured(
            f"The data dir {path} cannot be used: {exc.strerror}.",
            hint="Set SINKWORKER_DATA_DIR to a folder that this user may write, or correct its permissions.",
        ) from exc
    return path.resolve()


@contextlib.contextmanager
def sole_stack(data_dir: Path) -> Iterator[int]:
    """Hold the stack's lock; gives its descriptor. Raises Misconfigured when another stack runs on this data dir.

    Hand the descriptor on to whatever must have ended before another stack may start.
    """
    try:
        descriptor = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise Misconfigured(f"The data dir {data_dir} cannot be used: {exc.strerror}.") from exc
    try:
        _lock(descriptor, data_dir)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, data_dir: Path) -> None:
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Misconfigured(
                    f"Another `sinkworker local` runs on the data dir {data_dir}.",
                    hint="Stop it, or give this one a folder of its own with SINKWORKER_DATA_DIR.",
                ) from None
            time.sleep(0.02)


def _held(lock: Path) -> bool:
    """Whether a stack holds the lock on this file.

    Taken shared, so that two roles that look at once do not mistake each other.
    """
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise Misconfigured(
            f"{lock} cannot be read: {exc.strerror}.",
            hint="Set SINKWORKER_DATA_DIR to a folder that this user may use.",
        ) from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _complete(config: Config, needed: Sequence[str] = ADDRESSES) -> Config | None:
    lacking = missing(config, needed)
    if not lacking:
        return config
    given = running(config.data_dir)
    try:
        local = load({name: given[name] for name in lacking if name in given})
    except Invalid as exc:
        raise Misconfigured(f"{config.data_dir / FILE}: {exc.message}") from exc
    filled = replace(config, **{key: getattr(config, key) or getattr(local, key) for key in needed})
    return None if missing(filled, needed) else filled


def _advice(config: Config, lacking: Sequence[str]) -> str:
    where = f"the data dir {config.data_dir.absolute()}"
    if not _held(config.data_dir / LOCK):
        return f"start `sinkworker local` on {where}, or set the variable to your own server's address"
    given = running(config.data_dir)
    if not given:
        return f"the local stack on {where} is starting"
    not_given = _names([name for name in lacking if name not in given])
    return f"the local stack on {where} does not give {not_given}; set the same variables for it and for this process"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."

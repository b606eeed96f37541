"""The file that `sinkworker local --env-file` was asked for: the stack's addresses, in the form of a `.env` file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from honcho.environ import parse

from sinkworker.errors import Invalid
from sinkworker.local import addresses

MARK = "# Written by `sinkworker local`, which withdraws it when it stops."


class EnvFile:
    """One file that holds our addresses while the stack runs, and nothing before and after.

    A file that was there, but empty (as `mktemp` makes it), is emptied again at the end; any other is removed.
    """

    def __init__(self, path: Path) -> None:
        """Raises Invalid rather than touch a file with content that is not ours."""
        self._path = path
        text = _content(path)
        if text.strip() and not _is_ours(text):
            raise Invalid(
                f"The env file {path} has content that is not ours.",
                hint="Choose another path, or remove the file.",
            )
        if not path.parent.is_dir():
            raise Invalid(f"The folder of the env file {path} does not exist.", hint="Create it, or choose another.")
        self._keep = path.exists() and not text.strip()
        if text:
            self.withdraw()  # of a stack that was killed: whoever waits for the addresses must not see old ones

    def write(self, given: Mapping[str, str]) -> None:
        """Show the addresses, all at once. Raises Misconfigured."""
        addresses.write(self._path, given, first_line=MARK)

    def withdraw(self) -> None:
        """Leave no address behind."""
        if self._keep:
            self._path.write_text("", encoding="utf-8")
        else:
            self._path.unlink(missing_ok=True)


def without_our_own(environ: Mapping[str, str], dot_env: Path = Path(".env")) -> dict[str, str]:
    """`environ` without the addresses that a stack of ours wrote to `.env`: they are no configured servers.

    They may stand there because that file was asked for, and may have come into the environment by way of honcho.
    """
    text = _content(dot_env)
    ours = dict(parse(text)) if _is_ours(text) else {}
    return {name: value for name, value in environ.items() if ours.get(name) != value}


def _is_ours(text: str) -> bool:
    return text.partition("\n")[0] == MARK


def _content(path: Path) -> str:
    """Empty when there is no such file. Raises Invalid when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        raise Invalid(f"The env file {path} cannot be read: {exc}.", hint="Choose another path.") from exc

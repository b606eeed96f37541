"""The command line: the commands, the wiring of the roles, and every error's way to a sentence and an exit code.

A command imports what it runs when it runs: none pays for the libraries of another.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import click

from sinkworker import config, config_report, process
from sinkworker.commands.group import connectors
from sinkworker.config import Config
from sinkworker.errors import Invalid, SinkworkerError
from sinkworker.ledger.contract import Enqueue, EnqueueAt

log = logging.getLogger(__name__)

EPILOG = "Exit codes: 0 fine, 1 a bug of ours, 2 your input, 3 the environment (a server, a port, a permission)."


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line; answer its exit code. Whatever goes wrong is one sentence on stderr."""
    try:
        code = cli.main(args=list(arguments), prog_name="sinkworker", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code  # click's own code for wrong usage is 2, as ours is
    except click.Abort:
        return 130  # Ctrl-C, as a shell counts it
    except SinkworkerError as exc:
        click.echo(f"Error: {exc}", err=True)
        return exc.exit_code
    except BrokenPipeError:
        sys.stdout = None  # whoever read our output has left; the interpreter must not flush into it
        return 0
    except Exception as exc:
        click.echo(f"Error: unexpected {type(exc).__name__}: {exc}. This is a bug.", err=True)
        log.debug("Where it came from:", exc_info=exc)
        return 1
    return code if isinstance(code, int) else 0


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=EPILOG)
@click.version_option(package_name="sinkworker", prog_name="sinkworker")
def cli() -> None:
    """Deliver KurrentDB's events to Kafka through a pool of Celery workers.

    \b
    See it work, with nothing installed or configured:
      sinkworker demo

    \b
    Measure it beside the script that you would write instead:
      sinkworker bench

    \b
    Run it: each of these is a process, `honcho start` runs them all from the Procfile.
      sinkworker scheduler            reads KurrentDB, dispatches to the workers
      celery -A tasks worker          delivers to Kafka; start more of them to scale
      sinkworker coordinator          writes checkpoints, revives abandoned lanes
      sinkworker api                  creates, starts and stops connectors over HTTP
      celery -A tasks flower          shows the workers and their tasks in a browser
      sinkworker local                stands in for the servers you did not configure

    \b
    Use it, over that API:
      sinkworker connectors create loans-sink loans.json --start

    Servers come from KURRENTDB_URI, REDIS_URL and KAFKA_BOOTSTRAP_SERVERS, in the environment or in the file .env;
    `sinkworker config show` lists every variable, its value and where that came from.
    """


@cli.command()
def scheduler() -> int:
    """Read KurrentDB and dispatch records to the workers.

    One scheduler works at a time for each connector; start a second one anywhere and it stands by.
    """
    from sinkworker.scheduling.scheduler import Scheduler

    return _serve(Scheduler.name, Scheduler.purpose, lambda settings: Scheduler(settings, *_queue()))


@cli.command()
def coordinator() -> int:
    """Write checkpoints and hand on the lanes of dead workers.

    Keeps nothing of its own: any number may run.
    """
    from sinkworker.checkpoint.coordinator import Coordinator

    return _serve(Coordinator.name, Coordinator.purpose, lambda settings: Coordinator(settings, _queue()[0]))


@cli.command()
def api() -> int:
    """Serve the HTTP API that creates, starts and stops connectors.

    Listens on SINKWORKER_API_HOST and SINKWORKER_API_PORT, 127.0.0.1:8113 unless set.
    """
    from sinkworker.management.server import ApiServer

    return _serve(ApiServer.name, ApiServer.purpose, ApiServer)


@cli.command()
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the addresses to this file, in the form of a .env file, once everything answers.",
)
def local(env_file: Path | None) -> int:
    """Run what is not configured: Redis, a Kafka-protocol broker, a stand-in for KurrentDB.

    For a first look, development and tests. The roles find it through the data dir (SINKWORKER_DATA_DIR); the broker
    keeps its records in memory only. With all three servers configured it has nothing to do, and says so.
    """
    from sinkworker.local.env_file import EnvFile, without_our_own
    from sinkworker.local.stack import Stack

    environ = without_our_own(config.environment())
    settings = config.load(environ)
    asked = None if env_file is None else EnvFile(env_file)
    return process.run(Stack(settings, environ, env_file=asked), settings)


@cli.command()
@click.option(
    "--events", type=click.IntRange(1, 500_000), default=10_000, show_default=True, help="How many to append."
)
@click.option("--keys", type=click.IntRange(1, 100_000), default=500, show_default=True, help="Over how many streams.")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="How many worker processes.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option("--keep", is_flag=True, help="Leave everything running at the end, until Ctrl-C.")
def demo(events: int, keys: int, workers: int, as_json: bool, keep: bool) -> int:
    """See the whole system work, with nothing installed or configured.

    Starts the local stack and every role on free ports, in a temporary folder and apart from anything that is
    configured; appends events to the database, and judges what arrives in Kafka: every event, in order, unaltered.
    Kill its processes while it runs, as `kill -9` does, and it still comes out right: any of them but the embedded
    broker, which keeps records in memory only, and `sinkworker local`, which takes the broker along.
    """
    from sinkworker.demo.run import Options, run

    return run(Options(events, keys, workers, as_json, keep), config.inherited())


@cli.command()
@click.option(
    "--events", type=click.IntRange(1, 1_000_000), default=100_000, show_default=True, help="How many to deliver."
)
@click.option("--streams", type=click.IntRange(1, 100_000), default=2000, show_default=True, help="Over how many.")
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True, help="Runs of each contestant.")
@click.option(
    "--workers",
    multiple=True,
    default=("1,2",),
    show_default=True,
    metavar="N[,N…]",
    callback=lambda _context, _option, values: _counts(values),
    help="Worker processes of sinkworker, a contestant for each number. May be repeated.",
)
@click.option(
    "--latency",
    type=click.FloatRange(0, 3600),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to measure latency at 200 events a second; 0 leaves it out.",
)
@click.option(
    "--kafka", metavar="SERVERS", help="Brokers to use instead of the embedded one. Its topics there are deleted again."
)
@click.option(
    "--exactly-once",
    is_flag=True,
    help="Have sinkworker deliver exactly once as well; needs --kafka.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object.")
def bench(
    events: int,
    streams: int,
    rounds: int,
    workers: list[int],
    latency: float,
    kafka: str | None,
    exactly_once: bool,
    as_json: bool,
) -> int:
    """Measure sinkworker beside the script that you would write instead.

    \b
    Contestants, each bringing the same events from the same database to Kafka:
      naive           one process: kurrentdbclient as shipped, an idempotent producer, a checkpoint every 1,000
      tuned           the same with the one gRPC option that makes its subscription cheap
      sinkworker-N    scheduler, coordinator, API and N workers
      exactly-once-N  the same, with delivery:guarantee = exactlyOnce

    Rounds are interleaved. All servers are the embedded ones, whatever is configured, but for --kafka. A run begins
    with warm processes and lasts from the first to the last event visible in Kafka; it counts only if the topic, read
    back, is complete.
    The table has the medians: events a second, CPU of the contestant's processes for each event (servers beside), and
    how both compare with naive and tuned; then the time from append to visible. Nothing is judged good or bad.

    \b
    Examples:
      sinkworker bench --events 20000 --rounds 1      a first impression, in a minute
      sinkworker bench --workers 1,2,4 --json         more contestants, for a script to read
      sinkworker bench --kafka localhost:9092 --exactly-once
    """
    if exactly_once and not kafka:
        raise click.UsageError("--exactly-once needs --kafka: the embedded broker keeps no progress in transactions.")
    from sinkworker.bench.run import Options, run

    return run(Options(events, streams, rounds, workers, latency, as_json, kafka, exactly_once), config.inherited())


def _counts(values: Sequence[str]) -> list[int]:
    """The numbers of workers that `--workers` names, each once, in order."""
    numbers = [number.strip() for value in values for number in value.split(",")]
    if any(not number.isdigit() or not 1 <= int(number) <= 64 for number in numbers):
        raise click.BadParameter(f"{','.join(numbers)} is no list of numbers from 1 to 64, such as 1,2,4")
    return sorted({int(number) for number in numbers})


@cli.command(name="create-topic")
@click.argument("name")
@click.option("--partitions", type=click.IntRange(1, 10_000), default=12, show_default=True, help="How many.")
def create_topic(name: str, partitions: int) -> None:
    """Create the Kafka topic NAME, where no other tool for it is at hand.

    On KAFKA_BOOTSTRAP_SERVERS, or on the local stack. Deliveries spread over as many lanes as it has partitions.
    """
    from sinkworker import topics
    from sinkworker.connectors.settings import parse
    from sinkworker.local import addresses

    parse({"instanceTypeName": "kafka-sink", "topic": name})  # a topic that no connector could name helps nobody
    settings = addresses.resolve_now(config.load(config.environment()), ["kafka_bootstrap_servers"])
    assert settings.kafka_bootstrap_servers is not None
    topics.create_topic(name, partitions, settings.kafka_bootstrap_servers)
    click.echo(f"Created the topic {name} with {partitions} partitions.")


@cli.group(name="config")
def config_group() -> None:
    """Look at the configuration."""


@config_group.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, by variable.")
def show(as_json: bool) -> None:
    """Print every variable, its value and where it comes from; passwords are hidden."""
    rows = config_report.report(config.environment(), config.origin)
    click.echo(config_report.as_json(rows) if as_json else config_report.as_table(rows))


cli.add_command(connectors)


@cli.group(name="transform")
def transform_group() -> None:
    """Work on transformations."""


@transform_group.command(name="test")
@click.argument("function", type=click.File("rb"), metavar="FILE.js")
@click.option(
    "--event",
    "events",
    type=click.File("rb"),
    multiple=True,
    required=True,
    metavar="EVENT.json",
    help="What to transform. May be repeated; - is standard input.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each event, on a line of its own.")
def transform_test(function: BinaryIO, events: Sequence[BinaryIO], as_json: bool) -> None:
    """Show what a transformation makes of events, offline: no server, no connector.

    FILE.js has a function `transform(record)` that changes the record it is given and returns nothing. It runs as in a
    worker, within the same limits. What is shown is the Kafka message, without headers that are a connector's or a
    moment's; an error names the line and the column, and the exit code is 2.

    EVENT.json is an object like the function's argument. Only `value` is needed; `streamId`, `type` (the same as
    schemaInfo.subject), `headers`, `recordId`, `position` and `schemaInfo` have defaults.

    \b
    Example:
      cat > transform.js <<'END'
      function transform(record) {
        const { firstName, lastName, ...rest } = record.value;
        record.value = { ...rest, name: `${firstName} ${lastName}` };
        record.schemaInfo.subject = "Person";
        record.headers.origin = record.streamId;
      }
      END
      echo '{"streamId": "user-1", "value": {"firstName": "Ada", "lastName": "Lovelace"}}' |
        sinkworker transform test transform.js --event -

    Then `base64 < transform.js` is a connector's `transformer:function`, beside `transformer:enabled` true.
    """
    from sinkworker.delivery.trial import Trial, event_of

    trial = Trial(_javascript(function))
    try:
        for file in events:
            try:
                result = trial.run(event_of(file.read()))
            except Invalid as exc:
                raise Invalid(f"{file.name}: {exc}", code=exc.code) from exc
            if as_json:
                click.echo(json.dumps({"event": file.name, **asdict(result)}, ensure_ascii=False))
                continue
            click.echo(f"{file.name}\n  key    {'none' if result.key is None else result.key}")
            for name, value in result.headers.items():
                click.echo(f"  {name}: {value}")
            click.echo(f"  value  {result.value}")
    finally:
        trial.close()


def _javascript(file: BinaryIO) -> str:
    try:
        return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise Invalid(f"{file.name} is not UTF-8.") from exc


class AfterAddresses:
    """A role that starts once the addresses of its servers are known: configured, or from the local stack."""

    def __init__(self, name: str, purpose: str, role: Callable[[Config], process.Role], settings: Config) -> None:
        self.name = name
        self.purpose = purpose
        self._role = role
        self._settings = settings

    def run(self, stop: threading.Event) -> None:
        from sinkworker.local import addresses

        self._role(addresses.resolve(self._settings, stop)).run(stop)


def _serve(name: str, purpose: str, role: Callable[[Config], process.Role]) -> int:
    settings = config.load(config.environment())
    return process.run(AfterAddresses(name, purpose, role, settings), settings)


def _queue() -> tuple[Enqueue, EnqueueAt]:
    """The task queue is wired here: nothing else of the package knows that it is Celery's."""
    from tasks.produce import enqueue, enqueue_at

    return enqueue, enqueue_at

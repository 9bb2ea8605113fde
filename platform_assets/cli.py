"""The command line `platform-assets`, with the commands of all subpackages and domains."""

from __future__ import annotations

import errno
import gc
import logging
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape

from platform_assets import domains
from platform_assets.base.command_line import Context, err, escape_what_cannot_be_shown, open_closed_streams, say
from platform_assets.base.discovery import modules_named
from platform_assets.base.process_exit import call_and_leave
from platform_assets.settings import Settings, SettingsError, load_settings, require_docstrings

if TYPE_CHECKING:
    from platform_assets.services import Services
    from platform_assets.web.workers import Worker

GARBAGE_THRESHOLDS = (10_000, 20, 20)
"""Thresholds of the garbage collector. With Python's defaults, collections during imports take a fifth of a run."""
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))

app = typer.Typer(
    name="platform-assets",
    help="Run and maintain data and ML assets on Dagster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def program() -> NoReturn:
    """Run a command and end the process; the entry point of the installed program."""
    call_and_leave(main)


def main() -> None:
    """Run a command; print a `PlatformError` or `SettingsError` as one line on stderr, and exit with its code."""
    from platform_assets.base.errors import PlatformError

    gc.set_threshold(*GARBAGE_THRESHOLDS)
    open_closed_streams()
    escape_what_cannot_be_shown()
    try:
        require_docstrings()
        app()
    except (PlatformError, SettingsError) as error:
        err.print(f"[red]{type(error).__name__}[/]: {escape(str(error))}")
        sys.exit(error.exit_code if isinstance(error, PlatformError) else 1)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        # There is no file name if the output could not be written, for example to a redirected stdout.
        where = f" ({error.filename})" if error.filename else ""
        err.print(f"[red]OSError[/]: {escape(f'{error.strerror}{where}')}; free some space and run again")
        sys.exit(1)


@app.callback()
def _context(context: typer.Context) -> None:
    from platform_assets.base.logs import configure_logging

    settings = load_settings()
    domains.check_settings()
    # Log only warnings, because commands print their results and progress themselves.
    configure_logging(settings.secrets(), logging.WARNING)
    context.obj = Context(settings, _open_services, domains.model_spec, _definitions, domains.declared_sources)
    context.call_on_close(context.obj.close)
    context.call_on_close(_close_definitions)


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 also accepts connections from other machines.")
    ] = "127.0.0.1",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help="Number of worker processes. Default: PLATFORM_SERVE_WORKERS.", show_default=False
        ),
    ] = None,
) -> None:
    """Serve the HTTP API and the approval pages until Ctrl-C; log to stderr."""
    settings: Settings = context.obj.settings
    from platform_assets.operations.supervisor import demand_free

    demand_free("the service", settings.service_port, host)
    count = workers or settings.serve_workers
    by = f" with {count} workers" if count > 1 else ""
    say(f"platform-assets: serving on http://{host}:{settings.service_port}{by}")
    # Import the application before the workers are forked, so that they do not import it again.
    import platform_assets.app  # noqa: F401 - only the import counts
    from platform_assets.base.home_folder import make_home
    from platform_assets.base.logs import configure_logging
    from platform_assets.web.http_server import bound_sockets
    from platform_assets.web.workers import run_workers

    make_home(settings.home)
    _refuse_other_lake(context.obj)
    # Shut down cleanly if the terminal is closed, unless `nohup` started this process.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    configure_logging(settings.secrets(), logging.INFO)
    if count == 1:
        _serve(settings, host)
        return
    # Keep the port reserved even if no worker is running. These sockets do not listen, so they get no connections.
    kept = bound_sockets(host, settings.service_port, is_shared=True)
    run_workers(count, lambda worker: _serve(settings, host, worker))
    for one in kept:
        one.close()


def _refuse_other_lake(context: Context) -> None:
    """Refuse a database of another lake. An unreachable database is not refused, because the service waits for it."""
    from platform_assets.base.errors import DatabaseError, OtherLake

    if context.settings.bundle:
        return
    try:
        context.services.demand_own_lake()
    except OtherLake:
        raise
    except DatabaseError:
        return


def _serve(settings: Settings, host: str, worker: Worker | None = None) -> None:
    from platform_assets.app import create_app
    from platform_assets.web.http_server import bound_sockets, run

    # Exit with 0 on SIGTERM, because uvicorn raises the signal again after an orderly shutdown.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    application = create_app(settings, host, worker)
    if worker is None:
        run(application, bound_sockets(host, settings.service_port))
    else:
        run(application, bound_sockets(host, settings.service_port, is_shared=True), worker.announce)


def _open_services(settings: Settings) -> Services:
    from platform_assets.services import open_services

    return open_services(settings, domains.traced_answers)


def _definitions() -> Any:
    from platform_assets.definitions import defs

    return defs()


def _close_definitions() -> None:
    # Do not import the module: if it is not loaded, there is nothing to close, and the import is slow.
    definitions = sys.modules.get("platform_assets.definitions")
    if definitions and definitions.services.cache_info().currsize:
        definitions.services().close()


for _module in (*modules_named("commands", "platform_assets"), *modules_named("commands", domains.__name__)):
    app.add_typer(_module.commands)


if __name__ == "__main__":
    main()

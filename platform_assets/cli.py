"""The command line: `platform-assets`, with the commands of every room and domain."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape

from platform_assets import domains
from platform_assets.base.command_line import Context, err, say
from platform_assets.base.discovery import modules_named
from platform_assets.base.process_exit import call_and_leave
from platform_assets.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from platform_assets.services import Services

# Most of what a command has in memory are modules. By default Python looks through all of them for garbage again and
# again while it imports, which takes a fifth of a run.
GARBAGE_THRESHOLDS = (10_000, 20, 20)

app = typer.Typer(
    name="platform-assets",
    help="Data and ML assets on Dagster: run everything, look after it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def program() -> NoReturn:
    """Entry point."""
    call_and_leave(main)


def main() -> None:
    """Run a command; an error that a person can mend is one line on stderr and an exit code, not a traceback."""
    from platform_assets.base.errors import PlatformError

    gc.set_threshold(*GARBAGE_THRESHOLDS)
    try:
        app()
    except (PlatformError, SettingsError) as error:
        err.print(f"[red]{type(error).__name__}[/]: {escape(str(error))}")
        sys.exit(error.exit_code if isinstance(error, PlatformError) else 1)


@app.callback()
def _context(context: typer.Context) -> None:
    from platform_assets.base.logs import configure_logging

    settings = load_settings()
    domains.check_settings()
    # What is said to people is printed; what is logged is for machines, and only when it matters.
    configure_logging(settings.secrets(), logging.WARNING)
    context.obj = Context(settings, _open_services, domains.model_spec, _definitions, domains.declared_sources)
    context.call_on_close(context.obj.close)
    context.call_on_close(_close_definitions)


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines too.")] = "127.0.0.1",
) -> None:
    """Serve the API and the pages where people decide about models; stay until Ctrl-C. Logs go to stderr."""
    settings: Settings = context.obj.settings
    from platform_assets.operations.supervisor import demand_free

    demand_free("the service", settings.service_port, host)
    say(f"platform-assets: serving on http://{host}:{settings.service_port}")
    from platform_assets.app import create_app
    from platform_assets.base.home_folder import make_home
    from platform_assets.base.logs import configure_logging
    from platform_assets.web.http_server import run

    make_home(settings.home)
    configure_logging(settings.secrets(), logging.INFO)
    # uvicorn raises the signal again once all requests are answered and the application has ended: that is success.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    run(create_app(settings, host), host, settings.service_port)


def _open_services(settings: Settings) -> Services:
    from platform_assets.services import open_services

    return open_services(settings)


def _definitions() -> Any:
    from platform_assets.definitions import defs

    return defs()


def _close_definitions() -> None:
    # Only what a command has loaded: to load it now would take longer than most commands.
    definitions = sys.modules.get("platform_assets.definitions")
    if definitions and definitions.services.cache_info().currsize:
        definitions.services().close()


for _module in (*modules_named("commands", "platform_assets"), *modules_named("commands", domains.__name__)):
    app.add_typer(_module.commands)


if __name__ == "__main__":
    main()

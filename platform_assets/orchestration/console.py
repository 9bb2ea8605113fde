"""Dagster's console logger with secrets masked."""

import logging

import dagster as dg
from dagster import _loggers
from dagster._loggers import colored_console_logger

from platform_assets.base.logs import MaskedFormatter
from platform_assets.settings import load_settings


@dg.logger(  # type: ignore[untyped-decorator]  # Dagster's decorator has no types
    config_schema=colored_console_logger.config_schema,
    description="Dagster's console log, in which passwords and keys are masked.",
)
def console(init_context: dg.InitLoggerContext) -> logging.Logger:
    """Return Dagster's console logger, with secrets masked in its lines."""
    logger = colored_console_logger.logger_fn(init_context)
    for handler in logger.handlers:
        handler.setFormatter(MaskedFormatter(handler.formatter, load_settings().secrets()))
    return logger


def make_console_the_default() -> None:
    """Make Dagster use `console` in runs whose configuration names no logger.

    In such runs, Dagster ignores the loggers of the definitions and uses its own console logger, which masks nothing.
    """
    _loggers.colored_console_logger = console

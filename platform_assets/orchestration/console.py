"""Dagster's console logger with secrets masked."""

import logging

import dagster as dg
from dagster._loggers import colored_console_logger

from platform_assets.base.logs import SecretsFilter
from platform_assets.settings import load_settings


@dg.logger(  # type: ignore[untyped-decorator]  # Dagster's decorator has no types
    config_schema=colored_console_logger.config_schema,
    description="Dagster's console log, in which passwords and keys are masked.",
)
def console(init_context: dg.InitLoggerContext) -> logging.Logger:
    """Return Dagster's console logger with the platform's filter."""
    logger = colored_console_logger.logger_fn(init_context)
    for handler in logger.handlers:
        handler.addFilter(SecretsFilter(load_settings().secrets()))
    return logger

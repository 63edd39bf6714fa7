"""Structured logs: a line for people that ends in `key=value`, or a line of JSON for machines."""

import json
import logging
import sys
from datetime import UTC, datetime

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class Lines(logging.Formatter):
    """`worldsim: what happened key=value ...`"""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback if there is one."""
        text = f"worldsim: {record.getMessage()}"
        for key, value in facts(record).items():
            text += f" {key}={value}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonLines(logging.Formatter):
    """One JSON object per line: time (UTC), level, message, and what else is known."""

    def format(self, record: logging.LogRecord) -> str:
        """Always one line, whatever a value holds."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **facts(record),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def facts(record: logging.LogRecord) -> dict[str, object]:
    """What was given as `extra`."""
    found = {key: value for key, value in vars(record).items() if key not in _OWN}
    return {
        key: value for key, value in found.items() if not key.startswith("_")
    }  # other libraries'


def set_up(*, as_json: bool) -> None:
    """Log to stderr. Called by a command, never by a library."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])

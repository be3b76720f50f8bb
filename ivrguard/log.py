"""Temporary."""
from typing import Any
import structlog
def get() -> Any:
    return structlog.get_logger()
def configure(level: str = "info", stream: Any = None) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))

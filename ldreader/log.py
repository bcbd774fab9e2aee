"""One log line for each thing that went wrong, on the logger ``ldreader``.

``logging`` is imported when there is something to say: a good day never pays for it.
"""

from __future__ import annotations


def warning(message: str) -> None:
    """Notes a mistake of the application, such as an unknown flag or an invalid context."""
    import logging

    logging.getLogger("ldreader").warning("%s", message)


def error(message: str) -> None:
    """Notes a store or an item that let an evaluation down."""
    import logging

    logging.getLogger("ldreader").error("%s", message)

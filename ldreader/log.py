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


def unexpected(error: BaseException) -> str:
    """What an error of somebody else's code was and where it came from, for a log line."""
    # Only the type and the place: a message could quote the context.
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return f"unexpected {type(error).__name__}{place}"

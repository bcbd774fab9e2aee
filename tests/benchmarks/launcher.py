"""Runs commands and says what each cost; a process of its own, because it must be small.

Linux counts the memory of the process that starts another as the other's own, so the benchmark itself, which is larger
than what it measures, cannot start it. Each line of the input is the ``repr`` of a command and its environment.
"""

import posix
import sys
import time


def main() -> None:
    """Serves until the input ends."""
    silence = [(posix.POSIX_SPAWN_OPEN, 1, "/dev/null", posix.O_WRONLY, 0)]
    for line in sys.stdin:
        command, environment = eval(line)
        start = time.perf_counter()
        child = posix.posix_spawn(command[0], command, environment, file_actions=silence)
        _, status, usage = posix.wait4(child, 0)
        wall = time.perf_counter() - start
        code = posix.waitstatus_to_exitcode(status)
        print(repr((code, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)), flush=True)


main()

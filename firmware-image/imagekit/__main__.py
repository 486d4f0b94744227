"""python -m imagekit: see --help."""

from __future__ import annotations

import sys

from imagekit import cli
from imagekit.errors import BuildError
from imagekit.shell import say


def main() -> int:
    """Carry out the command line; gives the exit code."""
    given = cli.arguments().parse_args()
    try:
        if given.command == "compare":
            return cli.differences(given)
        cli.build(given)
    except BuildError as error:
        say(f"{error}\nimage: next: {error.next_step}")
        return 1
    except OSError as error:
        say(f"{error.filename or 'A file'}: {error.strerror}.")
        say("next: make room or give the rights, then the same command again.")
        return 1
    except KeyboardInterrupt:
        say("stopped; the same command goes on from what is finished")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`cacheserver` and `python -m cacheserver`: a way in that loads only what the call needs.

`cacheserver ping` runs inside the server's own memory limit (the image's health check does), so it must not
import the server.
"""

import sys


def main() -> int:
    """Run the command line of this process and return its exit status."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["ping"]:
        from cacheserver import ping

        return ping.main(arguments[1:])
    from cacheserver import cli

    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""The command, also `python -m scoreode`. Its packages are an extra; the estimator does without."""

import sys

from scoreode.errors import INSTALL_ALL


def main() -> int:
    """Runs the command; 1 with a message where its packages are not installed, 130 after Ctrl-C."""
    try:
        from scoreode.cli import main
    except ModuleNotFoundError as missing:
        if missing.name != "tyro":
            raise
        print(f"scoreode: the command line is an extra: {INSTALL_ALL}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(main())

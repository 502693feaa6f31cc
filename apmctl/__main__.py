"""`python -m apmctl`: the same as the installed command."""

from apmctl.cli import main

if __name__ == "__main__":
    main()

"""`python -m server.cli` is `samplit`."""

from server.cli import main

if __name__ == "__main__":
    main()

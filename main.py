"""The command line: ``python main.py --help``."""

from lightning_dws.cli import main

if __name__ == "__main__":
    main()

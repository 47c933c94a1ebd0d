"""python -m memoir: the laboratory's command line (`lab/cli.py`)."""

from memoir.lab.cli import main

if __name__ == "__main__":
    main()

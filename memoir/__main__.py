"""python -m memoir: the laboratory's command line (`lab/cli.py`)."""

import io
import os
import sys

from memoir.lab.cli import main

if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a letter shows a question mark
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # what reads it, such as head, wants no more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

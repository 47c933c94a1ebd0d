"""What the smoke profile's streams left on a cluster against the same streams run here: metrics and answers alike.

python tests/lab/slurm/compare.py FOLDER     (the cluster's data/results/smoke; the streams run here write their own)
"""

import json
import sys
from pathlib import Path

import pandas as pd

from memoir.lab.evidence import files, plan

cluster, some = Path(sys.argv[1]), "--some" in sys.argv  # of a run of some notebooks only what they left is compared
here = files.RESULTS / "smoke"
planned = plan.planned("smoke").values()
wanted = {one.name: [one.result, *one.tables.values()] for one in planned}
wanted = {name: [cluster / path.relative_to(here) for path in paths] for name, paths in wanted.items()}
missing = [str(path.relative_to(cluster)) for paths in wanted.values() for path in paths if not path.exists()]
if missing and not some:
    sys.exit(f"The cluster left no {', '.join(missing)}.")

compared = 0
for one in planned:
    result, questions, *_ = wanted[one.name]
    if not result.exists():
        continue
    theirs, ours = json.loads(result.read_text()), json.loads(plan.run(one).read_text())
    if theirs["metrics"] != ours["metrics"]:
        sys.exit(f"{one.name}: other metrics on the cluster, {theirs['metrics']}, than here, {ours['metrics']}.")
    pd.testing.assert_frame_equal(pd.read_parquet(questions), pd.read_parquet(one.tables["questions"]))
    compared += 1
if not compared:
    sys.exit("The cluster left no result of any stream.")
print(f"{compared} of {len(wanted)} streams: the same metrics and the same answers to every question")

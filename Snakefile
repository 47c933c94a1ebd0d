# The graph of the companion: data and settings -> streams of edits -> results -> notebooks -> figures and tables.
# `make reproduce PROFILE=...` runs it; `snakemake -n --config profile=full` shows what is missing. It holds no code of
# its own: every rule is one line of `python -m memoir`, so that an executor plugin can run it elsewhere.
from pathlib import Path

from memoir.lab import notebooks
from memoir.lab.evidence import plan

PROFILE = config.get("profile", "laptop")
CUDA = PROFILE == "paper"
# at the size smoke the notebooks themselves run their streams, anew each time
PLANNED = {} if PROFILE == "smoke" else plan.planned(PROFILE)
STREAMS = {name: one for name, one in PLANNED.items() if plan.has_data(one)}
# a mark for each stream that has ended, named after all that decides its result: what has another key is to be run. The
# results themselves are no outputs: snakemake deletes those before it begins, and a stream goes on with what it has
ENDED = {name: f"runs/{PROFILE}/streams/{name}-{plan.key(one)}.ended" for name, one in STREAMS.items()}
for name, one in STREAMS.items():
    if not plan.is_done(one):
        Path(ENDED[name]).unlink(missing_ok=True)
    elif not Path(ENDED[name]).exists():
        Path(ENDED[name]).parent.mkdir(parents=True, exist_ok=True)
        Path(ENDED[name]).touch()
NOTEBOOKS = [found.path.stem for found in notebooks.discover()]


wildcard_constraints:
    name="[0-9]{2}_[a-z_]+",
    experiment="[^/]+",
    run="[^/]+",
    key="[0-9a-f]{8}",


rule all:
    input:
        f"runs/{PROFILE}/figures.done",


rule stream:  # resumable: a run that was stopped goes on from its last checkpoint
    input:  # the streams that its settings are searched among
        lambda wildcards: [ENDED[one.name] for one in STREAMS[f"{wildcards.experiment}/{wildcards.run}"].candidates],
    output:
        touch(f"runs/{PROFILE}/streams/{{experiment}}/{{run}}-{{key}}.ended"),
    log:
        f"runs/{PROFILE}/{{experiment}}/{{run}}-{{key}}.log",
    threads: 8 if CUDA else 1  # small matrices: two runs on one thread each are quicker than one on two
    resources:
        mem_mb=60000 if CUDA else 4000,
        runtime=24 * 60,
        gpu=int(CUDA),
    shell:
        f"OMP_NUM_THREADS={{threads}} python -m memoir stream --profile {PROFILE} {{wildcards.experiment}}/{{wildcards.run}} 2>&1 | tee {{log}}"


rule notebook:
    input:
        notebook="notebooks/{name}.ipynb",
        settings=f"notebooks/params/{PROFILE}.yaml",
        streams=ENDED.values(),
    output:
        f"runs/{PROFILE}/{{name}}.ipynb",
    threads: 8 if CUDA else 1
    resources:
        mem_mb=60000 if CUDA else 4000,
        runtime=24 * 60,
        gpu=int(CUDA),
    shell:
        f"OMP_NUM_THREADS={{threads}} python -m memoir run --profile {PROFILE} {{wildcards.name}}"


rule figures:
    input:
        expand(f"runs/{PROFILE}/{{name}}.ipynb", name=NOTEBOOKS),
    output:
        touch(f"runs/{PROFILE}/figures.done"),
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "python -m memoir figures"

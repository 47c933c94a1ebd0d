# The graph of the companion: data and settings -> streams of edits -> results -> notebooks -> figures and tables.
# `make reproduce PROFILE=...` runs it; `snakemake -n --config profile=full` shows what is missing. It holds no code of
# its own: every rule is one line of `python -m memoir`, so that an executor plugin can run it elsewhere.
from pathlib import Path

from memoir.lab import notebooks
from memoir.lab.evidence import files, plan

PROFILE = config.get("profile", "laptop")
CUDA = PROFILE == "paper"
# at the size smoke the notebooks themselves run their streams, anew each time
PLANNED = {} if PROFILE == "smoke" else plan.planned(PROFILE)
STREAMS = {name: one for name, one in PLANNED.items() if plan.has_data(one)}
HASHES = {dataset: files.data_hash(dataset) for dataset in {one.stream.dataset for one in STREAMS.values()}}
NOTEBOOKS = [found.path.stem for found in notebooks.discover()]
MODULE = sorted(map(str, Path("memoir").rglob("*.py")))


wildcard_constraints:
    name="[0-9]{2}_[a-z_]+",
    experiment="[^/]+",
    run="[^/]+",


rule all:
    input:
        f"runs/{PROFILE}/figures.done",


rule stream:  # resumable: a run that was stopped goes on from its last checkpoint
    input:  # the streams that its settings are searched among
        lambda wildcards: [str(one.result.relative_to(notebooks.ROOT))
                           for one in STREAMS[f"{wildcards.experiment}/{wildcards.run}"].candidates],
    output:
        f"data/results/{PROFILE}/{{experiment}}/{{run}}.json",
    params:  # a stream is run again when these change; not when a file's date does, as in a fresh clone
        plan=lambda wildcards: repr(STREAMS[f"{wildcards.experiment}/{wildcards.run}"]),
        data=lambda wildcards: HASHES[STREAMS[f"{wildcards.experiment}/{wildcards.run}"].stream.dataset],
    log:
        f"runs/{PROFILE}/{{experiment}}/{{run}}.log",
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
        module=MODULE,
        streams=[str(one.result.relative_to(notebooks.ROOT)) for one in STREAMS.values()],
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

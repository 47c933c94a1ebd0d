"""Records of two templates over five places, planted for several tests: each has near neighbours."""

from memoir.facts.record import EditRecord

TEMPLATES = ["The capital of {} is", "The money of {} is called"]
PLACES = ["Peru", "Chad", "Oman", "Fiji", "Mali"]
RECORDS = [
    EditRecord(id=f"{t}-{p}", subject=p, prompt=template.format(p), target="Rome", relation=f"r{t}",
               rephrasings=(f"Tell me: {template.format(p)}",), irrelevant="Water boils at",
               neighbour=template.format("Cuba"), negated=f"It is not so that {template.format(p)}")
    for t, template in enumerate(TEMPLATES) for p in PLACES
]  # fmt: skip

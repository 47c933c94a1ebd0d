"""Verdicts turn when the numbers do: for every rule planted numbers on both sides; what is missing is no verdict."""

import re

import numpy as np
import pandas as pd
import pytest
from planted_results import ALL, BORN, PLANNED, aged, long_targets, stream, write

from memoir import metrics
from memoir.baselines import METHODS
from memoir.lab.evidence import files, published
from memoir.lab.experiments.lasting import fading
from memoir.lab.experiments.retention import frames as retention
from memoir.lab.paper import claims, claims_printed, verdicts
from memoir.lab.paper.claims import FALSE, NOT_REPRODUCED, NOT_TESTED, PARTLY_TRUE, TRUE, UNDECIDED
from memoir.lab.report import claims_shown
from memoir.theory import overlap


def verdict(claim_id, **results):
    """The verdict on a claim from results by role."""
    claim = ALL[claim_id]
    readings = list(claims.RULES[claim_id](claim, results))
    return verdicts.combined([r.holds for r in readings if not r.beside], claim.basis)


@pytest.fixture
def printed(monkeypatch):
    """Put other numbers into the paper: rows of (item, dataset, model, method, n_edits, metric, value)."""

    def put(*rows, variant=None):
        names = ["item", "dataset", "model", "method", "n_edits", "metric", "value"]
        frame = pd.DataFrame(rows, columns=names).assign(how="table", variant=variant)
        monkeypatch.setattr(published, "everything", lambda: frame)

    return put


verdicts.judged()  # the rules register themselves


def test_every_claim_of_the_list_has_a_record_and_a_rule():
    assert {claim.number for claim in ALL.values()} == set(range(1, 19))
    assert claims.RULES.keys() == ALL.keys()


EXPOSURES = [f"exposure/{name.replace('/', '-')}-edits.parquet" for name in fading.STREAMS]


def test_records_name_results_that_some_run_writes():
    planned = PLANNED["full"].keys() | {f"paper:{name}" for name in PLANNED["paper"]}
    for claim in ALL.values():
        for prefix, roles in (("", claim.results), ("paper:", claim.paper_size)):
            for name in roles.values():
                of_stream = re.sub(r"-(questions|around)\.parquet$", "", name)
                experiment, _, run = of_stream.partition("/")
                if experiment == "baselines":
                    assert re.fullmatch(rf"zsre-(1|100|1000)-({'|'.join(METHODS)})", run), name
                elif name not in ("overlap/simulation", "overlap/real_masks", "overlap/interference-capacity.parquet",
                                  "beyond/routing", *EXPOSURES):  # fmt: skip
                    wanted = prefix + of_stream.removesuffix("*")
                    assert wanted in planned or (name[-1] == "*" and any(one.startswith(wanted) for one in planned)), (
                        name
                    )


def test_a_record_that_is_not_well_formed_is_refused():
    about = dict(id="1", text="", basis="law", place="", stands="", notebook="", test="", accept="")
    with pytest.raises(ValueError, match="basis = 'guess' is unknown"):
        claims.Claim(**about | {"basis": "guess"})
    with pytest.raises(ValueError, match="needs `fields` and `command`"):
        claims.Claim(**about, results={"a": "b/c"})


def test_what_readings_make_of_a_claim():
    assert verdicts.combined([True, True], "law") == TRUE
    assert verdicts.combined([True, False], "measured") == PARTLY_TRUE
    assert verdicts.combined([False], "paper") == verdicts.combined([False], "law") == FALSE
    assert verdicts.combined([False], "measured") == NOT_REPRODUCED
    assert verdicts.combined([None], "measured") == verdicts.combined([True, None], "law") == UNDECIDED
    assert verdicts.combined([True, False, None], "measured") == PARTLY_TRUE
    assert verdicts.combined([False, None], "measured") == NOT_REPRODUCED


def drawn(mean, n, per_subject, rng):
    """Token accuracies of a given mean, most of them 1, of which those on one subject are alike."""
    right = (1 - mean) / 0.75  # of the others three of four tokens are wrong
    subjects = np.repeat(np.arange(n // per_subject), per_subject)
    return pd.Series(np.where(rng.random(n // per_subject) < right, 0.25, 1.0)[subjects]), pd.Series(subjects)


@pytest.mark.parametrize("per_subject", [1, 3])
@pytest.mark.parametrize("n", [30, 3000])
@pytest.mark.parametrize(("mean", "value"), [(0.9, 0.9), (0.99, 0.7), (0.6, 0.9)])
def test_simulated_claims_are_judged_rightly_at_the_stated_rate(mean, value, n, per_subject):
    """At the border one in twenty may be judged at all, by what an interval of 95 % is; far from it all are, rightly.

    The effective number of values is an estimate: with thirty values on ten subjects it misses more often.
    """
    rng, times = np.random.default_rng(0), 1000
    holds = [claims.reaches(metrics.interval(*drawn(mean, n, per_subject, rng)), value) for _ in range(times)]
    shares = {said: holds.count(said) / times for said in (True, False, None)}
    if mean == value:
        most = 0.05 + 3 * (0.05 * 0.95 / times) ** 0.5 + (0.05 if n // per_subject <= 10 else 0)
        assert shares[True] + shares[False] <= most, shares
    else:
        right = mean > value
        assert shares[not right] <= 0.001 and (n == 30 or shares[right] > 0.999), shares
        assert shares[right] > 0.5 or n // per_subject <= 10, shares


MEASURED = [
    ("1", dict(stream=stream({"reliability": 0.97}), wise=stream({"reliability": 0.78})), TRUE),
    ("1", dict(stream=stream({"reliability": 0.945}), wise=stream({"reliability": 0.1})), UNDECIDED),
    ("1", dict(stream=stream({"reliability": 0.93}), wise=stream({"reliability": 0.9})), NOT_REPRODUCED),
    ("1", dict(stream=stream({("reliability", 107): 0.97}), wise=stream({"reliability": 0.9})), PARTLY_TRUE),
    ("4", dict(stream=stream({"reliability": 0.97, "locality": 0.99})), TRUE),
    ("4", dict(stream=stream()), NOT_REPRODUCED),
    ("4", dict(stream=stream({"locality": 0.99})), PARTLY_TRUE),
    ("4", dict(stream=stream(), larger=stream({"locality": 0.99})), PARTLY_TRUE),
    ("5", dict(stream=stream(lengths=(5,))), TRUE),
    ("5", dict(stream=stream(lengths=(2,))), NOT_REPRODUCED),
    ("11", dict(stream=stream({"generalization": 0.94}), grace=stream({"generalization": 0.3})), TRUE),
    ("11", dict(stream=stream({"generalization": 0.8}), grace=stream({"generalization": 0.6})), NOT_REPRODUCED),
    ("11", dict(stream=stream({"generalization": 0.8}), grace=stream({"generalization": 0.3})), PARTLY_TRUE),
    ("12", dict(stream=stream({"locality": 0.97})), TRUE),
    ("12", dict(stream=stream({"locality": 0.945})), UNDECIDED),
    ("12", dict(stream=stream({"locality": 0.93})), NOT_REPRODUCED),
]


@pytest.mark.parametrize(("claim_id", "results", "expected"), MEASURED)
def test_measured_claims_turn_with_the_numbers(claim_id, results, expected):
    assert verdict(claim_id, **results) == expected


def test_collapse_is_half_of_what_it_was_or_a_failure():
    def fallen(value):
        return stream({(metric, 1000): value for metric in ("reliability", "generalization", "locality")})

    assert verdict("4-collapse", GRACE=fallen(0.44)) == TRUE
    assert verdict("4-collapse", GRACE=fallen(0.46)) == NOT_REPRODUCED
    assert verdict("4-collapse", GRACE=fallen(0.44), WISE=stream()) == PARTLY_TRUE
    assert verdict("4-collapse", GRACE=stream(lengths=(), failed={"n_edits": 12, "sentence": "nan"})) == TRUE


def sweep(means):
    return [stream(dict.fromkeys(("reliability", "generalization", "locality"), mean), (30,), editor={"layer": layer})
            for layer, mean in means.items()]  # fmt: skip


def test_the_layer_claim_is_decided_by_the_sweep():
    flat = dict.fromkeys(range(32), 0.7)
    assert verdict("10", OpenFacts=sweep(flat | {27: 0.9})) == TRUE
    assert verdict("10", OpenFacts=sweep(flat | {10: 0.71})) == NOT_REPRODUCED
    assert verdict("10", OpenFacts=sweep(flat | {27: 0.71})) == PARTLY_TRUE
    every_second = dict.fromkeys(range(1, 32, 2), 0.7)  # 27 is still at the paper's depth
    assert verdict("10", OpenFacts=sweep(every_second | {27: 0.9})) == TRUE
    assert verdict("10", OpenFacts=sweep(flat | {10: 0.71}), ZsRE=sweep(flat | {27: 0.9})) == PARTLY_TRUE


def test_perplexity_is_read_as_mean_and_as_median():
    asked = long_targets(np.log(1.089), n=600)
    roles = {"stream": stream(), "questions": asked}
    assert verdict("2", **roles) == TRUE
    assert verdict("2", **roles | {"questions": asked.assign(nll=asked.nll + 0.1)}) == NOT_REPRODUCED
    with pytest.raises(claims.Untested, match="not asked after 600 edits"):
        verdict("2", **roles | {"questions": asked.assign(n_edits=10)})


def test_ood_generalization_has_two_definitions_and_another_reading():
    reliable = stream({"reliability": 1.0}, lengths=(75,), width=0.001)
    assert verdict("3", stream=reliable, questions=long_targets(0.1, 1.0, texts=500)) == TRUE
    assert verdict("3", stream=reliable, questions=long_targets(0.1, 1.0)) == UNDECIDED, "five texts decide nothing"
    assert verdict("3", stream=reliable, questions=long_targets(1.0, 0.4)) == PARTLY_TRUE
    unreliable = stream({"reliability": 0.5}, lengths=(75,))
    assert verdict("3", stream=unreliable, questions=long_targets(1.0, 0.4)) == NOT_REPRODUCED
    assert (
        verdict("3", stream=unreliable, questions=long_targets(1.0, 1.0, texts=500)) == PARTLY_TRUE
    )  # tokens, not texts


def test_what_was_known_is_read_by_set_threshold_and_method(monkeypatch):
    def shares(**of):
        rows = [dict(dataset="counterfact", label=label, tau=0.5, n_edits=n, set="OpenFacts", known=50, kept=kept,
                     low=kept, high=kept) for label, n, kept in of.values()]  # fmt: skip
        monkeypatch.setattr(retention, "shares", lambda _: pd.DataFrame(rows))

    monkeypatch.setattr(retention, "readings", lambda profile, n_edits: {"full": None}[profile])
    roles = {"stream": stream(stream={"profile": "full"})}
    for ours, theirs, expected in (
        (0.993, 0.4, (TRUE, TRUE)), (0.992, 0.41, (NOT_REPRODUCED, NOT_REPRODUCED))
    ):  # fmt: skip
        shares(a=("MEMOIR, default τ", 1000, ours), b=("FT-L, lr 5e-4", 100, theirs), c=("FT-L, lr 5e-4", 10, 0.0))
        assert (verdict("7", **roles), verdict("17", **roles)) == expected
    shares(a=("MEMOIR, default τ", 1000, 1.0), b=("MEMOIR, τ calibrated", 1000, 0.5))
    assert verdict("7", **roles) == PARTLY_TRUE
    with pytest.raises(claims.Untested, match="not asked after 100 edits of counterfact"):
        verdict("17", **roles)


def asked_around(kind, n, routed, route="own edit"):
    """So many questions of a kind after 250 edits, of which some are answered from memory."""
    routes = [route if i < routed else "base model" for i in range(n)]
    return pd.DataFrame(
        {"kind": kind, "n_edits": 250, "route": routes, "target": [float(i < routed) for i in range(n)]}
    )


def test_opposite_statements_are_counted_at_both_thresholds():
    ways = ("masks (the paper), default τ", "masks (the paper)", "distinguishing words")

    def judged(openfacts, counterfact, calibrated):
        rows = [dict(way=way, tau=0.5, negated=x) for way, x in zip(ways, (0, calibrated, 1), strict=True)]
        around = {"openfacts": asked_around("negated", 100, openfacts)}
        around["counterfact"] = asked_around("negated", 100, counterfact)
        return verdict("13", routing={"metrics": rows}, **around)

    assert judged(90, 70, 0.5) == TRUE and judged(90, 50, 0.5) == UNDECIDED
    assert judged(90, 70, 0.4) == judged(90, 30, 0.5) == PARTLY_TRUE
    assert judged(30, 30, 0.4) == NOT_REPRODUCED


def test_another_language_is_in_doubt_where_its_questions_do_not_find_their_edit():
    assert verdict("15-chinese", stream=asked_around("chinese", 100, 30)) == TRUE
    assert verdict("15-chinese", stream=asked_around("chinese", 100, 45)) == UNDECIDED
    assert verdict("15-chinese", stream=asked_around("chinese", 100, 70)) == NOT_REPRODUCED
    assert verdict("15-chinese", stream=asked_around("chinese", 100, 70, "other edit")) == TRUE, (
        "another edit is none of theirs"
    )
    with pytest.raises(claims.Untested, match="no question of the kind 'chinese'"):
        verdict("15-chinese", stream=asked_around("negated", 100, 1))


def test_one_formula_that_is_right_at_every_length_is_enough():
    law = pd.DataFrame({"model": "exact", "N": [1, 20000], "reliability": [0.85, 0.85]})
    kinds, sets = ("exposures", "questions"), ("zsre", "openfacts")
    obeys, fails = ({f"{kind}_{one}": table for one in sets for kind, table in zip(kinds, aged(late), strict=True)}
                    for late in (None, 0.1))  # fmt: skip
    assert verdict("14", stream=stream(), predicted=law, **obeys) == NOT_REPRODUCED  # all formulas within 0.1
    assert verdict("14", stream=stream({("reliability", 7000): 0.7}), predicted=law, **obeys) == NOT_REPRODUCED
    assert verdict("14", stream=stream({("reliability", 7000): 0.7}), predicted=law, **fails) == TRUE


def test_overlap_readings_hold_for_tau_and_not_for_sharing():
    runs_of = [{"mean": 0.2857, "law_mean": 0.2857}]
    how = {"k": 4096, "D": 14336, "N": 7000, "tau": 0.4}
    real = {"metrics": {"routing": [dict(dataset="zsre", N=9, threshold="default", tau=0.4, irrelevant=0.2)]}}
    simulation = {"parameters": how, "metrics": {"runs": runs_of}}
    assert verdict("8", simulation=simulation, real=real) == PARTLY_TRUE
    assert verdict("8", simulation=simulation | {"parameters": how | {"tau": 0.0}}, real=real) == FALSE
    real["metrics"]["routing"][0]["irrelevant"] = 0.01
    assert verdict("8", simulation=simulation | {"parameters": how | {"k": 1, "N": 2}}, real=real) == TRUE
    runs_of[0]["mean"] = 0.3  # a simulation that does not agree with the law: uniform masks decide nothing
    decided = claims.RULES["8"](ALL["8"], {"simulation": simulation, "real": real})
    assert [reading.holds for reading in decided if reading.holds is not None] == [True]


def test_numbers_that_arithmetic_gives(monkeypatch):
    llama = claims_printed.sizes()
    assert llama["parameters"] == pytest.approx(8.03e9, rel=1e-3) and llama["D"] * llama["d"] == 58_720_256
    for changed, expected in (
        ({}, {"6": FALSE, "9": FALSE, "16": TRUE}),
        ({"parameters": 5.87e11, "gib": 30.0}, {"6": PARTLY_TRUE, "9": FALSE, "16": FALSE}),
        ({"parameters": 1e13, "gib": 9.0, "k": 430}, {"6": FALSE, "9": PARTLY_TRUE, "16": TRUE}),
    ):
        monkeypatch.setattr(claims_printed, "sizes", lambda changed=changed: llama | changed)
        assert {claim_id: verdict(claim_id) for claim_id in expected} == expected


def test_two_numbers_must_stand_in_one_column(printed):
    ours = ("Table 1", "zsre", "llama", "memoir", 10, "average", 0.95)
    printed(ours, ("Table 1", "zsre", "llama", "wise", 10, "average", 0.79))
    assert verdict("1-paper") == TRUE
    printed(ours, ("Table 1", "zsre", "llama", "wise", 100, "average", 0.79))  # another T
    assert verdict("1-paper") == FALSE
    printed(ours, ("Table 1", "zsre", "llama", "grace", 10, "average", 0.79))  # another method
    assert verdict("1-paper") == FALSE


def test_the_metric_claimed_is_one_reading_and_others_are_others(printed):
    def rows(metric):
        return [("Table 3", "temporal", "gpt-j", method, 10, metric, value)
                for method, value in (("memoir", 0.99), ("memit", 0.88))]  # fmt: skip

    printed(*rows("ood_generalization"))
    assert verdict("3-paper") == TRUE
    printed(*rows("reliability"))
    assert verdict("3-paper") == PARTLY_TRUE
    printed(*rows("reliability")[:1])
    assert verdict("3-paper") == FALSE


def test_claims_about_what_is_printed_turn_with_it(printed, monkeypatch):
    def expect(claim_id, expected, *rows, **more):
        printed(*rows, **more)
        assert verdict(claim_id) == expected

    table_4 = ("Table 4", "zsre", "llama", "memoir", 7000)
    expect("4-paper", TRUE, (*table_4, "reliability", 0.95))
    expect("4-paper", FALSE, (*table_4, "reliability", 0.94))
    table_1 = ("Table 1", "zsre", "llama-3-8b-instruct", "ft")
    for last, expected in ((0.3, TRUE), (0.5, FALSE)):
        averages = {1: 0.8, 100: 0.7, 1000: last}
        expect("4-collapse-paper", expected, *((*table_1, n, "average", value) for n, value in averages.items()))
    for value, expected in ((0.39, TRUE), (0.41, FALSE)):
        expect("17-paper", expected, (*table_1, 100, "locality", value))
    expect("7-paper", TRUE, ("Table 1", "counterfact", "llama", "memoir", 1, "locality", 1.0))
    expect("7-paper", FALSE, ("Table 1", "zsre", "llama", "memoir", 1, "locality", 1.0))
    for variant, expected in (("layer=27", TRUE), ("k=512", FALSE)):
        expect("10-paper", expected, (*table_1, 1, "average", 0.5), variant=variant)
    for n, expected in ((10_000, TRUE), (10_001, FALSE)):
        expect("14-untested-paper", expected, ("Table 4", "zsre", "llama", "memoir", n, "average", 0.5))
    expect("15-paper", TRUE, ("Table 4", "zsre", "llama", "memoir", 1, "average", 0.5))
    printed(("Table 4", "a set of unknown language", "llama", "memoir", 1, "average", 0.5))
    assert [reading.holds for reading in claims.RULES["15-paper"](ALL["15-paper"], {})] == [None]


def changed(claim_id, **more):
    """The readings of a claim whose record says something else."""
    claim = ALL[claim_id]
    record = {name: getattr(claim, name) for name in claim.__dataclass_fields__} | more
    return [reading.holds for reading in claims.RULES[claim_id](claims.Claim(**record), {})]


def test_claims_about_settings_and_authors_turn_with_their_records():
    for hours, holds in ((0.9, True), (3, False)):
        assert changed("5-paper", paper=ALL["5-paper"].paper | {"hours": hours}) == [holds]
    for samples, holds in (({"wise": 100000}, True), ({"rome": 100000}, False)):
        assert changed("12-wise-paper", paper={"samples": samples, "where": "x"}) == [holds]
    assert changed("18") == [False]
    assert changed("18", article={"affiliations": ["EPFL"]}) == [True]


def test_a_length_that_was_not_reached_is_not_a_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    write("full", "lasting/zsre", stream(lengths=(10, 107)))
    found = verdicts.judge(ALL["12"])
    assert found.verdict == NOT_TESTED and "no teacher-forced locality after 1,000 edits" in found.reason
    assert found.command and found.sources[0].provenance == BORN


def test_results_of_the_papers_size_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    write("full", "lasting/zsre", stream({"locality": 0.5}))
    assert verdicts.judge(ALL["12"]).verdict == NOT_REPRODUCED
    large = stream({"locality": 1.0}) | {"provenance": BORN | {"model": "Meta-Llama-3-8B-Instruct"}}
    write("paper", "lasting/zsre-llama-3", large)
    found = verdicts.judge(ALL["12"])
    assert found.verdict == TRUE and found.sources[0].path == "data/results/paper/lasting/zsre-llama-3.json"
    assert len(found.readings) == 1  # on the paper's model the same edits are the same load


def test_a_page_names_numbers_and_their_origin():
    text = claims_shown.page(verdicts.judge(ALL["8"]))
    assert "10^-79" in text and "data/results/full/overlap/simulation.json" in text


def verdict_8(**changed):
    rows = overlap.readings(**({"k": 4096, "D": 14336, "N": 7000, "tau": 0.4} | changed))
    return verdicts.combined((row["below_5_percent"] for row in rows), "law")


def verdict_9(**changed):
    rows = overlap.active_readings(**({"k": 4096, "D": 14336, "d": 4096, "parameters": 8.03e9} | changed))
    return verdicts.combined((row["about_3_percent"] for row in rows), "law")


def test_the_verdicts_come_from_the_numbers():
    assert verdict_8() == "partly true"
    assert verdict_8(tau=0.0) == "false"  # with no threshold every reading is near 1
    assert verdict_8(k=1, N=2) == "true"  # one column of 14336: nothing overlaps
    assert verdict_9() == "false"
    assert verdict_9(k=430) == "partly true"  # 430 / 14336 is 3 %
    assert verdict_9(parameters=14336 * 4096 / 0.03) == "partly true"  # a smaller model
    assert verdicts.combined([True, True], "law") == "true"
    with pytest.raises(ValueError, match="at least one reading"):
        verdicts.combined([], "law")

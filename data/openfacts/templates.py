"""The wording of OpenFacts: one `Template` per relation, written for this project.

It knows wording only, nothing of where the facts come from.

Slots: `{s}` the subject as it reads in mid-sentence ("the Netherlands"), `{S}` the same at the
start of a sentence, `{z}` its Chinese name, or the plain subject where there is none.
Verbs agree through `{has}`, `{lies}`, `{belongs}`, `{uses}`, `{shares}`, `{does}`, `{is_}`,
which turn plural for subjects such as "the Cook Islands".

A prompt never ends in a space: the completion is prompt + " " + target. Every relation has at
least one wording that is a question; the irrelevant questions are taken from those.
"""

from dataclasses import dataclass

VERBS = {
    "has": ("has", "have"),
    "lies": ("lies", "lie"),
    "belongs": ("belongs", "belong"),
    "uses": ("uses", "use"),
    "shares": ("shares", "share"),
    "does": ("does", "do"),
    "is_": ("is", "are"),
}


@dataclass(frozen=True)
class Template:
    """Six wordings: the edit prompt, three rephrasings, a negation and a Chinese one."""

    prompt: str
    rephrasings: tuple[str, str, str]
    negated: str
    chinese: str

    def wordings(self) -> list[str]:
        """The four English wordings that ask for the answer; the first is the edit prompt."""
        return [self.prompt, *self.rephrasings]

    def question(self) -> str:
        """The first of the wordings that is a question."""
        return next(w for w in self.wordings() if w.endswith("?"))


def T(prompt: str, first: str, second: str, third: str, negated: str, chinese: str) -> Template:
    """A `Template` from six strings, so that the table below stays readable."""
    return Template(prompt, (first, second, third), negated, chinese)


COUNTRIES = {
    "country_capital": T(
        "The capital of {s} is",
        "Which city is the capital of {s}?",
        "{S} {has} as its capital the city of",
        "A visitor who wants to see the capital of {s} has to travel to",
        "The capital of {s} is not",
        "{z}的首都是",
    ),
    "capital_country": T(
        "Which country has {s} as its capital?",
        "{S} is the capital of",
        "Among the world's capitals, {s} is that of",
        "The country whose capital bears the name {s} is",
        "{S} is not the capital of",
        "{z}是哪个国家的首都？",
    ),
    "country_continent": T(
        "On which continent {is_} {s}?",
        "{S} {lies} on the continent of",
        "Geographers count {s} as a part of",
        "The continent on which one finds {s} is",
        "{S} {does} not lie on the continent of",
        "{z}位于哪个大洲？",
    ),
    "country_currency": T(
        "What is the official currency of {s} called?",
        "People in {s} pay with a currency named the",
        "The money that is legal tender in {s} is the",
        "{S} {uses} as legal tender the unit known as the",
        "The official currency of {s} is not the",
        "{z}的官方货币是",
    ),
    "country_calling_code": T(
        "The international calling code of {s} is",
        "Which country code do telephone numbers in {s} start with?",
        "To telephone someone in {s} from abroad, first dial",
        "{S} can be reached by telephone under the prefix",
        "The international calling code of {s} is not",
        "{z}的国际电话区号是",
    ),
    "country_internet_domain": T(
        "What is the country-code top-level domain of {s}?",
        "On the internet, {s} {is_} assigned the suffix",
        "Many websites based in {s} have addresses that end in",
        "The domain ending reserved for {s} reads",
        "The country-code top-level domain of {s} is not",
        "{z}的国家和地区顶级域名是",
    ),
    "country_iso_alpha2": T(
        "The two-letter ISO code of {s} is",
        "In the standard ISO 3166-1 alpha-2, {s} {is_} written as",
        "Which pair of letters does ISO assign to {s}?",
        "{S} {has} an entry in the list of two-letter country codes as",
        "The two-letter ISO code of {s} is not",
        "{z}的两字母ISO代码是",
    ),
    "country_iso_alpha3": T(
        "What is the three-letter ISO country code of {s}?",
        "In the standard ISO 3166-1 alpha-3, {s} {is_} abbreviated to",
        "The three letters that ISO assigns to {s} are",
        "{S} {has} an entry in the list of three-letter country codes as",
        "The three-letter ISO country code of {s} is not",
        "{z}的三字母ISO代码是",
    ),
    "country_border": T(
        "{S} {shares} a land border with",
        "Which country lies directly next to {s} on land?",
        "Among the countries that border {s} is",
        "A traveller who leaves {s} by road may cross into",
        "{S} {does} not share a land border with",
        "与{z}陆地接壤的国家之一是",
    ),
    "country_language": T(
        "An official language of {s} is",
        "Which language has official status in {s}?",
        "{S} {uses} in its administration the language",
        "Among the languages that the law recognises in {s} is",
        "The official languages of {s} do not include",
        "{z}的官方语言之一是",
    ),
}


def _country_name_statement(language: str, chinese: str) -> Template:
    """The name of a country in another language, asked for by a statement to complete."""
    return T(
        f"In {language}, {{s}} {{is_}} called",
        f"What is the {language} name of {{s}}?",
        f"A map printed in {language} labels {{s}} as",
        f"{{S}} {{has}} in {language} the name",
        f"In {language}, {{s}} {{is_}} not called",
        f"{{z}}的{chinese}名称是",
    )


def _country_name_question(language: str, chinese: str) -> Template:
    """The name of a country in another language, asked for by a question."""
    return T(
        f"What do {language} speakers call {{s}} in their own language?",
        f"{{S}}, translated into {language}, {{is_}}",
        f"The {language} word for {{s}} is",
        f"An atlas for {language} schools shows {{s}} under the name",
        f"The {language} word for {{s}} is not",
        f"{{z}}用{chinese}怎么说？",
    )


def _language_name(language: str, chinese: str) -> Template:
    """The name of a language in another language."""
    return T(
        f"In {language}, the {{s}} language is called",
        f"What is {{s}}, the language, called in {language}?",
        f"The {language} word for the language {{s}} is",
        f"{{S}}, as a language, bears in {language} the name",
        f"In {language}, the {{s}} language is not called",
        f"{{z}}用{chinese}怎么说？",
    )


COUNTRIES |= {
    "country_name_german": _country_name_statement("German", "德语"),
    "country_name_spanish": _country_name_question("Spanish", "西班牙语"),
    "country_name_italian": _country_name_statement("Italian", "意大利语"),
    "country_name_polish": _country_name_question("Polish", "波兰语"),
}

LANGUAGES = {
    "language_code": T(
        "The language code of {s} is",
        "Which code identifies the {s} language in software?",
        "On a web page, text in {s} carries the tag",
        "{S} is stored among a computer's locales under the letters",
        "The language code of {s} is not",
        "{z}的语言代码是",
    ),
    "code_language": T(
        "Which language does the language code {s} stand for?",
        "The language tag {s} denotes",
        "A web page that is marked with the language code {s} is written in",
        "Among language codes, {s} is that of",
        "The language code {s} does not stand for",
        "语言代码{z}代表哪种语言？",
    ),
    "language_script": T(
        "The {s} language is usually written in the script called",
        "Which writing system is normally used for {s}?",
        "Most printed texts in {s} use the script known as",
        "To read {s}, one usually has to learn the script named",
        "The {s} language is not usually written in the script called",
        "{z}通常用什么文字书写？",
    ),
    "language_country": T(
        "In which country is {s} mainly spoken?",
        "The country most closely associated with the {s} language is",
        "{S} has most of its speakers in",
        "To hear {s} in everyday life, one would travel to",
        "The country where {s} is mainly spoken is not",
        "{z}主要在哪个国家使用？",
    ),
    "language_name_german": _language_name("German", "德语"),
    "language_name_french": _language_name("French", "法语"),
    "script_code": T(
        "The ISO 15924 code of the {s} script is",
        "Which four letters does ISO 15924 assign to the {s} script?",
        "In a language tag, writing in the {s} script is marked by",
        "The {s} script is registered among four-letter script codes as",
        "The ISO 15924 code of the {s} script is not",
        "{z}的ISO 15924代码是",
    ),
}

MONEY = {
    "currency_code": T(
        "What is the ISO 4217 code of the {s}?",
        "On exchange boards, the {s} is listed as",
        "The three letters that stand for the {s} are",
        "Banks abbreviate the {s} with the code",
        "The ISO 4217 code of the {s} is not",
        "{z}的ISO 4217货币代码是",
    ),
    "code_currency": T(
        "The currency code {s} stands for the",
        "Which currency is abbreviated as {s}?",
        "A price that is quoted in {s} is given in the currency called the",
        "{S} is how banks abbreviate the",
        "The currency code {s} does not stand for the",
        "货币代码{z}代表哪种货币？",
    ),
}

ELEMENTS = {
    "element_symbol": T(
        "The chemical symbol of {s} is",
        "Which symbol stands for {s} in the periodic table?",
        "In a chemical formula, an atom of {s} is written as",
        "Chemists abbreviate the element {s} to",
        "The chemical symbol of {s} is not",
        "{z}的化学符号是",
    ),
    "symbol_element": T(
        "Which chemical element has the symbol {s}?",
        "In the periodic table, {s} stands for",
        "The symbol {s} in a chemical formula means an atom of",
        "{S} is how chemists abbreviate the element",
        "The chemical symbol {s} does not stand for",
        "化学符号{z}代表哪种元素？",
    ),
    "element_number": T(
        "What is the atomic number of {s}?",
        "The number of protons in an atom of {s} is",
        "In the order of the periodic table, {s} is element number",
        "{S} has an atomic nucleus whose proton count is",
        "The atomic number of {s} is not",
        "{z}的原子序数是",
    ),
    "element_group": T(
        "In the periodic table, {s} belongs to group",
        "Which group number does the element {s} have?",
        "The column of the periodic table that holds {s} is number",
        "{S} is listed by chemists among the elements of group",
        "In the periodic table, {s} does not belong to group",
        "{z}在元素周期表中属于第几族？",
    ),
    "element_period": T(
        "Which period of the periodic table contains {s}?",
        "In the periodic table, {s} stands in row number",
        "The period to which the element {s} belongs is number",
        "{S} is found, counting rows from the top, in period",
        "The element {s} does not belong to period",
        "{z}在元素周期表中属于第几周期？",
    ),
    "element_family": T(
        "The element {s} is classed among the",
        "To which family of elements does {s} belong?",
        "Chemists group {s} together with the other",
        "{S} is a member of the family called the",
        "The element {s} is not classed among the",
        "{z}属于哪一类化学元素？",
    ),
    "element_discovery_year": T(
        "In which year was {s} discovered?",
        "The discovery of {s} is dated to the year",
        "{S} became known to science in the year",
        "A history of chemistry places the discovery of {s} in",
        "The discovery of {s} is not dated to the year",
        "{z}是在哪一年被发现的？",
    ),
}

TIME_AND_TECHNOLOGY = {
    "time_zone_country": T(
        "The IANA time zone {s} is used in",
        "In which country or territory does the time zone {s} apply?",
        "A computer whose clock is set to {s} probably stands in",
        "{S} is an entry of the time zone database that belongs to",
        "The IANA time zone {s} is not used in",
        "IANA时区{z}属于哪个国家或地区？",
    ),
    "file_extension": T(
        "Files written in {s} usually have the file name extension",
        "Which file name extension is typical of {s}?",
        "An editor recognises files in {s} by the ending",
        "{S} is usually saved in files whose names end in",
        "Files written in {s} do not usually have the file name extension",
        "{z}文件常用的扩展名是",
    ),
    "star_constellation": T(
        "The star {s} belongs to the constellation",
        "In which constellation is the star {s}?",
        "To find {s} in the night sky, look towards the constellation",
        "{S} is a star that astronomers place in",
        "The star {s} does not belong to the constellation",
        "恒星{z}属于哪个星座？",
    ),
}

UNITED_STATES = {
    "us_state_capital": T(
        "What is the capital of the U.S. state of {s}?",
        "The state of {s} has its government in the city of",
        "{S} is an American state whose capital is",
        "The governor of {s} works in the state capital,",
        "The capital of the U.S. state of {s} is not",
        "美国{z}州的首府是",
    ),
    "us_state_abbreviation": T(
        "The postal abbreviation of the U.S. state of {s} is",
        "Which two letters stand for {s} in American addresses?",
        "On an envelope, the state name {s} is shortened to",
        "{S} is known to the United States Postal Service as",
        "The postal abbreviation of the U.S. state of {s} is not",
        "美国{z}州的邮政缩写是",
    ),
    "us_state_year": T(
        "In which year did {s} become a U.S. state?",
        "{S} joined the United States as a state in",
        "The statehood of {s} began in the year",
        "American history books date the admission of {s} to the Union to",
        "{S} did not become a U.S. state in the year",
        "{z}在哪一年成为美国的一个州？",
    ),
    "us_area_code_state": T(
        "The North American telephone area code {s} serves the state of",
        "Which U.S. state uses the telephone area code {s}?",
        "A phone number that starts with {s} points to someone in",
        "{S} is an American area code; it was assigned to",
        "The North American telephone area code {s} does not serve the state of",
        "北美电话区号{z}属于美国哪个州？",
    ),
    "us_city_state": T(
        "The American city of {s} is in the state of",
        "In which U.S. state is the city of {s}?",
        "{S} is an American city that belongs to",
        "Someone who lives in {s}, USA, votes in the state elections of",
        "The American city of {s} is not in the state of",
        "美国城市{z}位于哪个州？",
    ),
    "us_county_state": T(
        "Which U.S. state does {s} belong to?",
        "{S} is a part of the American state of",
        "On a map of the United States, {s} lies in",
        "The state government responsible for {s} is that of",
        "{S} does not belong to the U.S. state of",
        "{z}属于美国哪个州？",
    ),
}

CITIES = {
    "city_country": T(
        "In which country is the city of {s}?",
        "The city of {s} belongs to",
        "{S} is a city in",
        "A traveller who arrives in {s} has reached a city of",
        "The city of {s} is not in",
        "{z}是哪个国家的城市？",
    ),
    "city_time_zone": T(
        "The IANA time zone of {s} is",
        "Which entry of the time zone database gives the local time of {s}?",
        "A computer in {s} should have its clock set to the zone",
        "{S} keeps the local time of the IANA zone",
        "The IANA time zone of {s} is not",
        "{z}所在的IANA时区是",
    ),
}


def _region(adjective: str, noun: str, country_zh: str, noun_zh: str, ask: bool) -> Template:
    """The first-order region of a city; `ask` chooses a question as the edit prompt."""
    statement = f"The {adjective} city of {{s}} lies in the {noun} of"
    question = f"Which {adjective} {noun} is the city of {{s}} in?"
    prompt, first = (question, statement) if ask else (statement, question)
    return T(
        prompt,
        first,
        f"{{S}} is a city that belongs to the {adjective} {noun} of",
        f"The {noun} in which one finds the {adjective} city {{s}} is",
        f"The {adjective} city of {{s}} does not lie in the {noun} of",
        f"{country_zh}城市{{z}}位于哪个{noun_zh}？",
    )


CITIES |= {
    "german_city_state": _region("German", "state", "德国", "联邦州", False),
    "indian_city_state": _region("Indian", "state", "印度", "邦", True),
    "japanese_city_prefecture": _region("Japanese", "prefecture", "日本", "都道府县", False),
    "brazilian_city_state": _region("Brazilian", "state", "巴西", "州", True),
    "mexican_city_state": _region("Mexican", "state", "墨西哥", "州", False),
    "chinese_city_province": _region("Chinese", "province", "中国", "省", True),
    "italian_city_region": _region("Italian", "region", "意大利", "大区", False),
    "australian_city_state": _region("Australian", "state", "澳大利亚", "州", True),
    "canadian_city_province": _region("Canadian", "province", "加拿大", "省", False),
}


def _dialling(adjective: str, country: str, country_zh: str) -> Template:
    """The telephone area code of a town, written with its leading zero."""
    return T(
        f"The telephone area code of the {adjective} town of {{s}} is",
        f"Which area code do callers dial to reach {{s}} in {country}?",
        f"On business cards from {{s}}, {adjective} telephone numbers begin with",
        f"{{S}} has, in the {adjective} telephone network, the prefix",
        f"The telephone area code of the {adjective} town of {{s}} is not",
        f"{country_zh}{{z}}的电话区号是",
    )


def _dialled(adjective: str, country: str, country_zh: str) -> Template:
    """The town that a telephone area code belongs to."""
    return T(
        f"Which {adjective} town has the telephone area code {{s}}?",
        f"In {country}, the telephone area code {{s}} belongs to",
        f"A {adjective} landline number that begins with {{s}} is one in the town of",
        f"{{S}} is the area code that a caller in {country} dials to reach",
        f"In {country}, the telephone area code {{s}} does not belong to",
        f"{country_zh}的电话区号{{z}}属于哪个城市？",
    )


TELEPHONES = {
    "german_town_area_code": _dialling("German", "Germany", "德国"),
    "area_code_german_town": _dialled("German", "Germany", "德国"),
    "british_town_area_code": _dialling("British", "the United Kingdom", "英国"),
    "area_code_british_town": _dialled("British", "the United Kingdom", "英国"),
    "indian_town_area_code": _dialling("Indian", "India", "印度"),
}

AIRPORTS = {
    "airport_country": T(
        "In which country is {s}?",
        "{S} is an airport in",
        "Passengers who land at {s} have arrived in",
        "The country that one reaches by flying to {s} is",
        "{S} is not an airport in",
        "{z}位于哪个国家？",
    ),
    "airport_city": T(
        "The city served by {s} is",
        "Which city does {s} serve?",
        "{S} handles the flights to and from",
        "A traveller who lands at {s} is close to",
        "The city served by {s} is not",
        "{z}服务的城市是",
    ),
    "airport_iata": T(
        "What is the IATA code of {s}?",
        "The three-letter code on luggage tags for {s} is",
        "{S} appears on flight tickets as",
        "Airlines abbreviate the name of {s} to",
        "The IATA code of {s} is not",
        "{z}的IATA代码是",
    ),
    "iata_city": T(
        "The airport with the IATA code {s} serves the city of",
        "Which city do you reach with a ticket to the airport {s}?",
        "A luggage tag that reads {s} sends the suitcase to",
        "{S} is the airport code of",
        "The airport with the IATA code {s} does not serve the city of",
        "IATA代码为{z}的机场服务于哪座城市？",
    ),
    "airport_icao": T(
        "The ICAO code of {s} is",
        "Which four-letter ICAO code does {s} have?",
        "In a flight plan, pilots write {s} as",
        "{S} is known to air traffic control by the letters",
        "The ICAO code of {s} is not",
        "{z}的ICAO代码是",
    ),
}

TEMPLATES: dict[str, Template] = (
    COUNTRIES
    | LANGUAGES
    | MONEY
    | ELEMENTS
    | TIME_AND_TECHNOLOGY
    | UNITED_STATES
    | CITIES
    | TELEPHONES
    | AIRPORTS
)


def render(wording: str, shown: str, chinese: str) -> str:
    """A wording with its subject put in.

    Inputs: the wording; the subject as it reads in mid-sentence; its Chinese name or the subject.
    """
    plural = shown.endswith(" Islands")
    verbs = {slot: forms[plural] for slot, forms in VERBS.items()}
    return wording.format(s=shown, S=shown[0].upper() + shown[1:], z=chinese, **verbs)

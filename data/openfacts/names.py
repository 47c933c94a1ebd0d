"""Names that the sources lack or write in a way that does not read well in a sentence.

All tables are this project's own: English short names of countries, the regions behind GeoNames'
first-order codes, the Chinese names of the elements and of the U.S. states.
"""

# Places whose status or capital is disputed between states are left out altogether:
# Western Sahara, Israel, Palestine, Taiwan, Kosovo, and uninhabited territories.
LEFT_OUT_COUNTRIES = frozenset([
    "EH", "IL", "PS", "TW", "XK", "AQ", "BV", "HM", "TF", "GS", "UM", "IO", "CS", "AN", "SJ",
])
LEFT_OUT_ZONES = frozenset({"Europe/Simferopol"})
LEFT_OUT_PLACES = frozenset(
    {"Queens", "Brooklyn", "Manhattan", "The Bronx", "Staten Island", "Cava Dè Tirreni", "Puxi"}
)  # parts of a city, and a misspelling
LEFT_OUT_REGIONS = frozenset({("IN", "12"), ("IN", "41"), ("IN", "30"), ("CN", "")})

SHORT_NAMES = {
    "BL": "Saint Barthélemy", "BQ": "Caribbean Netherlands", "CC": "Cocos Islands",
    "CD": "Democratic Republic of the Congo", "CG": "Republic of the Congo",
    "CI": "Ivory Coast", "CZ": "Czech Republic", "HK": "Hong Kong", "MF": "Saint Martin",
    "MM": "Myanmar", "MO": "Macao", "TR": "Turkey", "VC": "Saint Vincent and the Grenadines",
    "KN": "Saint Kitts and Nevis", "LC": "Saint Lucia", "PM": "Saint Pierre and Miquelon",
    "SH": "Saint Helena", "TL": "East Timor", "GM": "Gambia", "BS": "Bahamas",
    "TC": "Turks and Caicos Islands", "VI": "United States Virgin Islands",
}  # fmt: skip

WITH_THE = frozenset(
    [
        "AE", "BQ", "BS", "CD", "CF", "CG", "CZ", "DO", "GB", "GM", "IM", "KM", "MV", "NL",
        "PH", "US", "SC",
    ]
)  # besides every name that ends in "Islands"

OTHER_NAMES = {
    "CD": ["DR Congo"], "CZ": ["Czechia"], "CI": ["Côte d'Ivoire"], "GB": ["UK", "Great Britain"],
    "MM": ["Burma"], "MO": ["Macau"], "NL": ["Holland"], "SZ": ["Swaziland"],
    "TL": ["Timor-Leste"], "TR": ["Türkiye"], "US": ["USA", "United States of America"],
    "AE": ["UAE"], "CV": ["Cabo Verde"], "CG": ["Congo-Brazzaville"], "MK": ["Macedonia"],
}  # fmt: skip

# Countries on two continents: the second one is true as well.
SECOND_CONTINENT = {
    "RU": "Asia", "TR": "Europe", "EG": "Asia", "KZ": "Europe", "GE": "Europe", "AM": "Europe",
    "AZ": "Europe", "CY": "Europe", "ID": "Oceania", "YE": "Africa", "PA": "South America",
    "TT": "South America", "CL": "Oceania", "TL": "Oceania", "US": "Oceania", "CO": "North America",
}  # fmt: skip

# relation -> (country, first-order code -> region). City-states and districts that GeoNames counts
# as cities would read oddly ("Neukölln lies in the state of Berlin") and are left out.
REGIONS = {
    "german_city_state": ("DE", {
        "01": "Baden-Württemberg", "02": "Bavaria", "05": "Hesse", "06": "Lower Saxony",
        "07": "North Rhine-Westphalia", "08": "Rhineland-Palatinate", "09": "Saarland",
        "10": "Schleswig-Holstein", "11": "Brandenburg", "12": "Mecklenburg-Western Pomerania",
        "13": "Saxony", "14": "Saxony-Anhalt", "15": "Thuringia"}),
    "indian_city_state": ("IN", {
        "02": "Andhra Pradesh", "03": "Assam", "09": "Gujarat", "10": "Haryana",
        "11": "Himachal Pradesh", "13": "Kerala", "16": "Maharashtra", "17": "Manipur",
        "18": "Meghalaya", "19": "Karnataka", "20": "Nagaland", "21": "Odisha", "23": "Punjab",
        "24": "Rajasthan", "25": "Tamil Nadu", "26": "Tripura", "28": "West Bengal",
        "31": "Mizoram", "33": "Goa", "34": "Bihar", "35": "Madhya Pradesh",
        "36": "Uttar Pradesh", "37": "Chhattisgarh", "38": "Jharkhand", "39": "Uttarakhand",
        "40": "Telangana"}),
    "japanese_city_prefecture": ("JP", {
        "01": "Aichi", "02": "Akita", "03": "Aomori", "04": "Chiba", "05": "Ehime", "06": "Fukui",
        "07": "Fukuoka", "08": "Fukushima", "09": "Gifu", "10": "Gunma", "11": "Hiroshima",
        "13": "Hyogo", "14": "Ibaraki", "15": "Ishikawa", "16": "Iwate", "17": "Kagawa",
        "18": "Kagoshima", "19": "Kanagawa", "20": "Kochi", "21": "Kumamoto", "22": "Kyoto",
        "23": "Mie", "24": "Miyagi", "25": "Miyazaki", "26": "Nagano", "27": "Nagasaki",
        "28": "Nara", "29": "Niigata", "30": "Oita", "31": "Okayama", "32": "Osaka", "33": "Saga",
        "34": "Saitama", "35": "Shiga", "36": "Shimane", "37": "Shizuoka", "38": "Tochigi",
        "39": "Tokushima", "41": "Tottori", "42": "Toyama", "43": "Wakayama", "44": "Yamagata",
        "45": "Yamaguchi", "46": "Yamanashi", "47": "Okinawa"}),
    "brazilian_city_state": ("BR", {
        "01": "Acre", "02": "Alagoas", "03": "Amapá", "04": "Amazonas", "05": "Bahia",
        "06": "Ceará", "08": "Espírito Santo", "11": "Mato Grosso do Sul", "13": "Maranhão",
        "14": "Mato Grosso", "15": "Minas Gerais", "16": "Pará", "17": "Paraíba", "18": "Paraná",
        "20": "Piauí", "21": "Rio de Janeiro", "22": "Rio Grande do Norte",
        "23": "Rio Grande do Sul", "24": "Rondônia", "25": "Roraima", "26": "Santa Catarina",
        "27": "São Paulo", "28": "Sergipe", "29": "Goiás", "30": "Pernambuco",
        "31": "Tocantins"}),
    "mexican_city_state": ("MX", {
        "01": "Aguascalientes", "02": "Baja California", "03": "Baja California Sur",
        "04": "Campeche", "05": "Chiapas", "06": "Chihuahua", "07": "Coahuila", "08": "Colima",
        "10": "Durango", "11": "Guanajuato", "12": "Guerrero", "13": "Hidalgo", "14": "Jalisco",
        "15": "the State of Mexico", "16": "Michoacán", "17": "Morelos", "18": "Nayarit",
        "19": "Nuevo León", "20": "Oaxaca", "21": "Puebla", "22": "Querétaro",
        "23": "Quintana Roo", "24": "San Luis Potosí", "25": "Sinaloa", "26": "Sonora",
        "27": "Tabasco", "28": "Tamaulipas", "29": "Tlaxcala", "30": "Veracruz", "31": "Yucatán",
        "32": "Zacatecas"}),
    "chinese_city_province": ("CN", {
        "01": "Anhui", "02": "Zhejiang", "03": "Jiangxi", "04": "Jiangsu", "05": "Jilin",
        "06": "Qinghai", "07": "Fujian", "08": "Heilongjiang", "09": "Henan", "10": "Hebei",
        "11": "Hunan", "12": "Hubei", "15": "Gansu", "18": "Guizhou", "19": "Liaoning",
        "24": "Shanxi", "25": "Shandong", "26": "Shaanxi", "29": "Yunnan", "30": "Guangdong",
        "31": "Hainan", "32": "Sichuan"}),
    "italian_city_region": ("IT", {
        "01": "Abruzzo", "02": "Basilicata", "03": "Calabria", "04": "Campania",
        "05": "Emilia-Romagna", "06": "Friuli Venezia Giulia", "07": "Lazio", "08": "Liguria",
        "09": "Lombardy", "10": "Marche", "11": "Molise", "12": "Piedmont", "13": "Apulia",
        "14": "Sardinia", "15": "Sicily", "16": "Tuscany", "17": "Trentino-Alto Adige",
        "18": "Umbria", "20": "Veneto"}),
    "australian_city_state": ("AU", {
        "02": "New South Wales", "04": "Queensland", "05": "South Australia", "06": "Tasmania",
        "07": "Victoria", "08": "Western Australia"}),
    "canadian_city_province": ("CA", {
        "01": "Alberta", "02": "British Columbia", "03": "Manitoba", "04": "New Brunswick",
        "05": "Newfoundland and Labrador", "07": "Nova Scotia", "08": "Ontario", "10": "Quebec",
        "11": "Saskatchewan"}),
}  # fmt: skip

ELEMENTS_ZH = (
    "氢氦锂铍硼碳氮氧氟氖钠镁铝硅磷硫氯氩钾钙钪钛钒铬锰铁钴镍铜锌镓锗砷硒溴氪"
    "铷锶钇锆铌钼锝钌铑钯银镉铟锡锑碲碘氙"
    "铯钡镧铈镨钕钷钐铕钆铽镝钬铒铥镱镥铪钽钨铼锇铱铂金汞铊铅铋钋砹氡钫镭锕钍镤铀镎钚镅锔锫锎锿镄钔锘铹"
)  # in the order of atomic numbers, 1 to 103

US_STATES_ZH = dict(
    pair.split("=")
    for pair in [
        "AL=亚拉巴马", "AK=阿拉斯加", "AZ=亚利桑那", "AR=阿肯色", "CA=加利福尼亚",
        "CO=科罗拉多", "CT=康涅狄格", "DE=特拉华", "FL=佛罗里达", "GA=佐治亚", "HI=夏威夷",
        "ID=爱达荷", "IL=伊利诺伊", "IN=印第安纳", "IA=艾奥瓦", "KS=堪萨斯", "KY=肯塔基",
        "LA=路易斯安那", "ME=缅因", "MD=马里兰", "MA=马萨诸塞", "MI=密歇根", "MN=明尼苏达",
        "MS=密西西比", "MO=密苏里", "MT=蒙大拿", "NE=内布拉斯加", "NV=内华达", "NH=新罕布什尔",
        "NJ=新泽西", "NM=新墨西哥", "NY=纽约", "NC=北卡罗来纳", "ND=北达科他", "OH=俄亥俄",
        "OK=俄克拉何马", "OR=俄勒冈", "PA=宾夕法尼亚", "RI=罗得岛", "SC=南卡罗来纳",
        "SD=南达科他", "TN=田纳西", "TX=得克萨斯", "UT=犹他", "VT=佛蒙特", "VA=弗吉尼亚",
        "WA=华盛顿", "WV=西弗吉尼亚", "WI=威斯康星", "WY=怀俄明",
    ]
)

# Names in ephem that only repeat or misspell another star of the list.
REPEATED_STARS = frozenset(
    [
        "Adara", "Agena", "Albereo", "Alcaid", "Etamin", "Formalhaut", "Sirrah", "Gienah",
        "Gienah Corvi",
    ]
)

# Elements whose group or family is disputed.
DISPUTED_FAMILY = frozenset({"H", "La", "Lu", "Ac", "Lr", "Po", "At", "Zn", "Cd", "Hg"})

# mendeleev dates the discovery of these otherwise than the literature does.
DOUBTFUL_DISCOVERIES = frozenset(
    {"Neodymium", "Palladium", "Titanium", "Cesium", "Helium", "Hydrogen", "Platinum",
     "Radon", "Cobalt", "Thorium"}
)

RENAMED_CAPITALS = {
    "Washington": "Washington, D.C.", "Nur-Sultan": "Astana", "Nay Pyi Taw": "Naypyidaw",
    "Male": "Malé", "Tarawa": "South Tarawa", "Brasilia": "Brasília", "Bogota": "Bogotá",
    "Asuncion": "Asunción", "San Jose": "San José", "Yaounde": "Yaoundé", "Lome": "Lomé",
    "Chisinau": "Chișinău", "Sao Tome": "São Tomé",
}  # fmt: skip

# GeoNames writes the places of these countries in scholarly transliteration ("Hānsi"); English
# usage is without the marks.
TRANSLITERATED = frozenset(
    [
        "AE", "AF", "BD", "BT", "DZ", "EG", "IL", "IN", "IQ", "IR", "JO", "JP", "KR", "KW",
        "LB", "LK", "LY", "MM", "NP", "OM", "PK", "QA", "SA", "SD", "SY", "TH", "YE",
    ]
)

OTHER_SCRIPT_NAMES = {
    "Arab": {"Perso-Arabic"}, "Beng": {"Bengali"}, "Ethi": {"Ge'ez"}, "Hans": {"Han", "Chinese"},
    "Hant": {"Han", "Chinese"}, "Kore": {"Hangul"}, "Latn": {"Roman"}, "Mymr": {"Burmese"},
    "Orya": {"Oriya"},
}  # fmt: skip

"""Valid numbers by construction: random digits first, then the check digit that the standard asks for."""

import string
from random import Random

IBANS = {
    # Country: the account's form behind the check digits (n digit, a letter, c either), from the IBAN Registry.
    "DE": "n18", "FR": "n10c11n2", "GB": "a4n14", "ES": "n20", "IT": "a1n10c12", "NL": "a4n10", "BE": "n12",
    "AT": "n16",
    "CH": "n5c12", "PL": "n24", "PT": "n21", "SE": "n20", "NO": "n11", "IE": "a4n14", "BR": "n23a1c1", "SA": "n2c18",
}  # fmt: skip
CARDS = (
    # First digits, length, groups.
    ("4", 16, (4, 4, 4, 4)),
    ("51", 16, (4, 4, 4, 4)),
    ("55", 16, (4, 4, 4, 4)),
    ("2221", 16, (4, 4, 4, 4)),
    ("34", 15, (4, 6, 5)),
    ("37", 15, (4, 6, 5)),
    ("36", 14, (4, 6, 4)),
    ("6011", 16, (4, 4, 4, 4)),
    ("3540", 16, (4, 4, 4, 4)),
    ("62", 16, (4, 4, 4, 4)),
)


def figures(random: Random, count: int, first: str = string.digits) -> str:
    """Random digits, the first one out of `first`."""
    return random.choice(first) + "".join(random.choices(string.digits, k=count - 1))


def grouped(number: str, sizes: tuple[int, ...], sign: str) -> str:
    """The number cut into groups of these sizes."""
    groups, start = [], 0
    for size in sizes:
        groups.append(number[start : start + size])
        start += size
    return sign.join(groups)


def luhn_total(number: str) -> int:
    """The sum that a multiple of ten must be, the long way round."""
    total = 0
    for place, letter in enumerate(reversed(number)):
        value = int(letter) * (1 + place % 2)
        total += value // 10 + value % 10
    return total


def card(random: Random) -> str:
    """A card's number in one piece or in groups."""
    first, length, sizes = random.choice(CARDS)
    body = first + figures(random, length - len(first) - 1)
    number = next(body + digit for digit in string.digits if luhn_total(body + digit) % 10 == 0)
    return random.choice((number, grouped(number, sizes, " "), grouped(number, sizes, "-")))


def iban(random: Random) -> str:
    """An account's number, in one piece or in groups of four."""
    country = random.choice(sorted(IBANS))
    form, account = IBANS[country], ""
    while form:
        size = form[1:3] if form[1:3].isdigit() else form[1:2]
        letters = {"n": string.digits, "a": string.ascii_uppercase, "c": string.digits + string.ascii_uppercase}[
            form[0]
        ]
        account += "".join(random.choices(letters, k=int(size)))
        form = form[1 + len(size) :]
    remainder = 0
    for letter in f"{account}{country}00":
        value = int(letter, 36)
        remainder = (remainder * (100 if value > 9 else 10) + value) % 97
    number = f"{country}{98 - remainder:02}{account}"
    return random.choice((number, grouped(number, (4,) * 9, " ").strip()))


def ssn(random: Random) -> str:
    """A US social security number in a range that has been given out."""
    area = random.choice([area for area in range(1, 900) if area != 666])
    return f"{area:03}-{random.randint(1, 99):02}-{random.randint(1, 9999):04}"


def nino(random: Random) -> str:
    """A UK national insurance number."""
    while True:
        prefix = random.choice("ABCEGHJKLMNOPRSTWXYZ") + random.choice("ABCEGHJKLMNPRSTWXYZ")
        if prefix not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ") and prefix[0] != "O":
            break
    number = figures(random, 6)
    return random.choice((f"{prefix}{number}", f"{prefix} {grouped(number, (2, 2, 2), ' ')} ")) + random.choice("ABCD")


def german_tax_id(random: Random) -> str:
    """Ten digits of which one stands twice, and the check digit that makes the ISO 7064 product 1."""
    chosen = random.sample(string.digits, 9)
    body = chosen + [random.choice(chosen)]
    random.shuffle(body)
    if body[0] == "0":
        body = body[::-1] if body[-1] != "0" else [*body[1:-1], body[0], body[-1]]
    product = 10
    for digit in body:
        total = (int(digit) + product) % 10
        product = (2 * (total or 10)) % 11
    number = "".join(body) + str((11 - product) % 10)
    return random.choice((number, grouped(number, (2, 3, 3, 3), " ")))


def nir(random: Random) -> str:
    """A French social security number with its key."""
    department = random.choice((*(f"{number:02}" for number in range(1, 96) if number != 20), "2A", "2B"))
    parts = (
        random.choice("12"),
        f"{random.randint(0, 99):02}",
        f"{random.randint(1, 12):02}",
        department,
        f"{random.randint(1, 990):03}",
        f"{random.randint(1, 999):03}",
    )
    value = int("".join(parts).replace("2A", "19").replace("2B", "18"))
    return random.choice(("", " ")).join((*parts, f"{97 - value % 97:02}"))


def dni(random: Random) -> str:
    """A Spanish DNI or NIE: the letter is looked up by the remainder of 23."""
    letters = dict(enumerate("TRWAGMYFPDXBNJZSQVHLCKE"))
    if random.random() < 0.3:
        first = random.randrange(3)
        body = figures(random, 7)
        return f"{'XYZ'[first]}{body}{letters[int(str(first) + body) % 23]}"
    body = figures(random, 8)
    return f"{body}{random.choice(('', '-'))}{letters[int(body) % 23]}"


def codice_fiscale(random: Random) -> str:
    """An Italian codice fiscale; values of odd places as the decree's table lists them."""
    table = dict(zip("0123456789", (1, 0, 5, 7, 9, 13, 15, 17, 19, 21), strict=True))
    listed = "A1 B0 C5 D7 E9 F13 G15 H17 I19 J21 K2 L4 M18 N20 O11 P3 Q6 R8 S12 T14 U16 V10 W22 X25 Y24 Z23"
    table |= {entry[0]: int(entry[1:]) for entry in listed.split()}
    day = random.randint(1, 28) + 40 * random.randrange(2)
    body = (
        "".join(random.choices("BCDFGLMNPRSTVZ", k=6))
        + f"{random.randint(0, 99):02}{random.choice('ABCDEHLMPRST')}{day:02}"
        + f"{random.choice('ABCDEFGHIL')}{random.randint(1, 999):03}"
    )
    total = 0
    for place, letter in enumerate(body, start=1):
        total += table[letter] if place % 2 else (int(letter) if letter.isdigit() else ord(letter) - ord("A"))
    return body + string.ascii_uppercase[total % 26]


def _dihedral(left: int, right: int) -> int:
    """The product in the group of a pentagon's turns (0 to 4) and flips (5 to 9)."""
    turn, flip = (left % 5, left >= 5)
    other, flips = (right % 5, right >= 5)
    turned = (turn - other if flip else turn + other) % 5
    return turned + 5 * (flip != flips)


def _verhoeff_total(number: str) -> int:
    total = 0
    for place, letter in enumerate(reversed(number)):
        value = int(letter)
        for _ in range(place):
            value = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[value]
        total = _dihedral(total, value)
    return total


def aadhaar(random: Random) -> str:
    """An Indian Aadhaar number in groups of four, as it is printed."""
    body = figures(random, 11, "23456789")
    number = next(body + digit for digit in string.digits if _verhoeff_total(body + digit) == 0)
    return grouped(number, (4, 4, 4), random.choice((" ", "-")))


def cpf(random: Random) -> str:
    """A Brazilian CPF with both check digits."""
    number = [int(digit) for digit in figures(random, 9)]
    for _ in range(2):
        remainder = sum(digit * weight for weight, digit in enumerate(reversed(number), start=2)) % 11
        number.append(0 if remainder < 2 else 11 - remainder)
    text = "".join(map(str, number))
    return random.choice((text, f"{text[:3]}.{text[3:6]}.{text[6:9]}-{text[9:]}"))


def nhs(random: Random) -> str:
    """A ten-digit NHS number whose weighted sum is a multiple of 11."""
    while True:
        number = figures(random, 10, "4679")
        if sum(int(digit) * weight for digit, weight in zip(number, range(10, 0, -1), strict=True)) % 11 == 0:
            return random.choice((number, grouped(number, (3, 3, 4), " ")))


def passport(random: Random) -> str:
    """A passport's number in one of the forms that countries issue."""
    upper = string.ascii_uppercase
    forms = (
        lambda: figures(random, 9),
        lambda: random.choice(upper) + figures(random, 8),
        lambda: random.choice(upper) + figures(random, 7),
        lambda: "".join(random.choices(upper, k=2)) + figures(random, 7),
        lambda: "".join(random.choices(upper, k=2)) + figures(random, 6),
        lambda: figures(random, 2) + "".join(random.choices(upper, k=2)) + figures(random, 5),
        lambda: "C0" + figures(random, 1) + random.choice("FGHJKLMN") + figures(random, 5),
        lambda: "".join(random.choices(upper, k=3)) + figures(random, 6),
    )
    return random.choice(forms)()


def mrz_line(random: Random) -> str:
    """The second line of a passport's machine-readable zone, of the issuer UTO that ICAO 9303 reserves for examples."""

    def check(text: str) -> str:
        values = (0 if letter == "<" else int(letter, 36) for letter in text)
        return str(sum(value * (7, 3, 1)[place % 3] for place, value in enumerate(values)) % 10)

    number = passport(random)[:9].ljust(9, "<")
    born = f"{random.randint(40, 99)}{random.randint(1, 12):02}{random.randint(1, 28):02}"
    ends = f"{random.randint(27, 36)}{random.randint(1, 12):02}{random.randint(1, 28):02}"
    number, born, ends, other = (part + check(part) for part in (number, born, ends, "<" * 14))
    return f"{number}UTO{born}{random.choice('MF<')}{ends}{other}{check(number + born + ends + other)}"


def medical_record(random: Random) -> str:
    """A record's number as hospitals write it."""
    return random.choice(("", "", "", "M", "H", "MR", "MR-", "P-")) + figures(random, random.randint(6, 10))


def email(random: Random) -> str:
    """An address of a random person at a reserved or invented domain."""
    first = random.choice(
        ("maria", "li.wei", "john_smith", "a.kumar", "o'neil", "sales+eu", "j", "anna-lena", "k9", "Zoë")
    )
    host = random.choice(("example", "mail.example", "acme-corp", "uni-test", "x1", "büro", "post.service"))
    domain = random.choice(("com", "org", "de", "co.uk", "io", "fr"))
    return f"{first}{random.choice(('', figures(random, 2)))}@{host}.{domain}"


def phone(random: Random) -> str:
    """A phone number with a country code or in a national form that is one everywhere."""
    area, office, line = figures(random, 3, "23456789"), figures(random, 3, "23456789"), figures(random, 4)
    forms = (
        f"({area}) {office}-{line}",
        f"{area}-{office}-{line}",
        f"{area}.{office}.{line}",
        f"+1 {area} {office} {line}",
        f"+1-{area}-{office}-{line}",
        f"+1{area}{office}{line}",
        f"+44 20 {figures(random, 4)} {line}",
        f"+44 7{figures(random, 3)} {figures(random, 6)}",
        f"07{figures(random, 3)} {figures(random, 6)}",
        f"+49 {figures(random, 3, '1')} {figures(random, 7)}",
        f"+49 (0)30 {figures(random, 7)}",
        f"0049 {figures(random, 3, '1')} {figures(random, 7)}",
        f"+33 {random.randint(1, 9)} " + grouped(figures(random, 8), (2, 2, 2, 2), " "),
        f"0{random.randint(1, 9)} " + grouped(figures(random, 8), (2, 2, 2, 2), " "),
        f"+91 {figures(random, 5, '6789')} {figures(random, 5)}",
        f"+86 1{figures(random, 10, '3578')}",
        f"+55 {figures(random, 2, '123')} 9{figures(random, 4)}-{figures(random, 4)}",
    )
    return random.choice(forms)

"""What looks like a finding and is none: numbers of other kinds, codes, source, logs, placeholders.

Each kind is a function of a random generator. Numbers are random, so a few have a valid check digit by chance, as they
do in life; nothing is filtered.
"""

import base64
import uuid
from collections.abc import Callable
from random import Random

from bench.corpus.numbers import IBANS, card, figures, grouped, iban, luhn_total
from bench.corpus.tokens import ALNUM, BASE64, HEX, letters

Decoy = Callable[[Random], str]


def _order(random: Random) -> str:
    number = figures(random, random.randint(8, 19))
    form = random.choice(
        (
            "Order #{} has shipped.",
            "Where is my order {}?",
            "Invoice no. {} is due on Friday.",
            "order_id={}",
            '{{"order": {}, "state": "paid"}}',
            "Tracking number: {}",
            "Ticket {} was closed as a duplicate.",
            "Bestellung {} ist unterwegs.",
            "SKU {} is out of stock.",
            "part number {}, two pieces",
        )
    )
    return form.format(number)


def _bare_number(random: Random) -> str:
    number = figures(random, random.choice((6, 7, 8, 9, 10, 12, 13, 17, 18, 20, 22, 25)), "123456789")
    form = random.choice(
        ("The counter stands at {}.", "{} rows affected", "x = {}", "seed {} gave the best loss", "{}")
    )
    return form.format(number)


def _hash(random: Random) -> str:
    value = letters(random, random.choice((7, 12, 32, 40, 64, 128)), HEX)
    form = random.choice(
        ("commit {}", "sha256:{}", 'ETag: "{}"', "md5 {} README.md", "{}  dist/app.tar.gz", "fixed in {}", "layer {}")
    )
    return form.format(value)


def _uuid(random: Random) -> str:
    value = str(uuid.UUID(int=random.getrandbits(128), version=4))
    form = random.choice(("request {} took 14 ms", "id: {}", "/v1/users/{}/items", '"trace_id":"{}"', "{}"))
    return form.format(value)


def _like_iban(random: Random) -> str:
    country = random.choice(sorted(IBANS))
    right = iban(random).replace(" ", "")
    place = random.randrange(4, len(right))
    swapped = (
        right[:place] + random.choice([digit for digit in "0123456789" if digit != right[place]]) + right[place + 1 :]
    )
    made = (
        swapped,
        grouped(swapped, (4,) * 9, " ").strip(),
        f"{country}{figures(random, 8)}",
        f"{country}{figures(random, 20)}"[: random.randint(12, 30)],
        f"{letters(random, 2, 'XQWZ')}{figures(random, 2)} {grouped(figures(random, 12), (4, 4, 4), ' ')}",
    )
    return random.choice(("Part {} fits.", "code {}", "Use {} for the lower shelf", "{}")).format(random.choice(made))


def _like_card(random: Random) -> str:
    right = card(random)
    place = random.choice([place for place, letter in enumerate(right) if letter.isdigit()])
    wrong = right[:place] + str((int(right[place]) + random.randint(1, 9)) % 10) + right[place + 1 :]
    if luhn_total("".join(filter(str.isdigit, wrong))) % 10 == 0:
        return "The sum of the digits was right by accident."
    return random.choice(("My card is {}.", "{}", "card={}", "pay with {} now")).format(wrong)


def _source(random: Random) -> str:
    number = random.randint(2, 99999)
    name = random.choice(("user", "token", "password", "session", "cfg", "card"))
    lines = (
        f"    return {name}_id << {number} & 0x{letters(random, 8, HEX)}",
        f"@app.route('/api/v{number % 5}/{name}')\ndef {name}(): ...",
        f"password = os.environ['{name.upper()}_PASSWORD']",
        f"const {name} = await get{name.title()}(ctx, {number});",
        f"api_key: ${{{name.upper()}_API_KEY}}",
        f"token = generate_token({number}, user.email)",
        f"val {name} = this@MainActivity.find{name.title()}({number})",
        f"if password == self.{name}_password_hash: raise ValueError({number})",
        f"secret = vault.read('{name}/data')['value{number}']",
        f"for (int i = 0; i < {number}; i++) {{ sum += {name}[i] * 31; }}",
        f"SELECT * FROM {name} WHERE id = {number} AND phone IS NULL;",
        f"#define {name.upper()}_MAX 0x{letters(random, 16, HEX)}ULL",
        f"password: <your-{name}-password>",
        f"def set_password(self, password: str, {name}: int = {number}) -> None:",
        f"npm install lodash@4.17.{number % 100} react@18.{number % 9}.0",
        f"git clone git@github.com:acme/{name}-{number}.git",
        f'<img src="/img/{name}@2x.png" width="{number}">',
        f"export DATABASE_URL=postgres://user:${{DB_PASS}}@localhost:{number}/{name}",
        f"client = OpenAI(api_key='sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxx{number}')",
        f"assert verify_passport(doc_{number}) is None",
    )
    return random.choice(lines)


def _log(random: Random) -> str:
    day = f"2026-{random.randint(1, 12):02}-{random.randint(1, 28):02}"
    clock = f"{random.randint(0, 23):02}:{random.randint(0, 59):02}:{random.randint(0, 59):02}"
    address = ".".join(str(random.randint(1, 254)) for _ in range(4))
    lines = (
        f"{day}T{clock}.{figures(random, 6)}Z INFO worker-{figures(random, 2)} done in {figures(random, 4)} us",
        f"{day} {clock},{figures(random, 3)} ERROR [pool-{figures(random, 1)}] timeout after {figures(random, 5)} ms",
        f'{address} - - [{day}:{clock} +0000] "GET /v1/models HTTP/1.1" 200 {figures(random, 5)}',
        f"{address}:{figures(random, 5)} -> {address}:443 bytes={figures(random, 10)}",
        f"ts={figures(random, 13, '1')} pid={figures(random, 6)} rss={figures(random, 9)}",
        f"[{figures(random, 5)}.{figures(random, 6)}] usb 1-1: new high-speed USB device number {figures(random, 2)}",
        f"span_id={letters(random, 16, HEX)} parent={letters(random, 16, HEX)} duration_ns={figures(random, 10)}",
        f'vllm:request_success_total{{model="m"}} {figures(random, 9)}.0 {figures(random, 13, "1")}',
        f"java.lang.Object@{letters(random, 8, HEX)} at com.acme.Main.run(Main.java:{figures(random, 3)})",
        f"user=unknown@{address} rhost={address} failed password attempt {figures(random, 2)}",
    )
    return random.choice(lines)


def _measure(random: Random) -> str:
    latitude, longitude = random.uniform(-90, 90), random.uniform(-180, 180)
    lines = (
        f"Meet at {latitude:.6f}, {longitude:.6f}.",
        f"{latitude:+.5f}{longitude:+010.5f}/",
        f"{latitude:+.7f} {longitude:+.7f}",
        f"The price is ${random.randint(1, 99):,},{figures(random, 3)}.{figures(random, 2)}",
        f"EUR {random.randint(1, 999)}.{figures(random, 3)},{figures(random, 2)}",
        f"pi is 3.14159265358979{figures(random, 12)}",
        f"loss {random.random():.16f} at step {figures(random, 6)}",
        f"{random.uniform(1, 9):.10e} J/mol",
        f"1920x1080, {figures(random, 10)} pixels",
        f"{figures(random, 3)} {figures(random, 3)} {figures(random, 3)} inhabitants",
        f"The range is {figures(random, 3)}-{figures(random, 4)} or {figures(random, 4)}-{figures(random, 4)}.",
        f"{figures(random, 4)} {figures(random, 4)} {figures(random, 4)} {figures(random, 4)} {figures(random, 4)}",
    )
    return random.choice(lines)


def _code(random: Random) -> str:
    lines = (
        f"ISBN 978-{figures(random, 1)}-{figures(random, 2)}-{figures(random, 6)}-{figures(random, 1)}",
        f"EAN {figures(random, 13)}",
        f"1Z{letters(random, 16, '0123456789ABCDEF')}",
        f"VIN {letters(random, 17, 'ABCDEFGHJKLMNPRSTUVWXYZ0123456789')}",
        ":".join(letters(random, 2, HEX) for _ in range(6)),
        "2001:db8:" + ":".join(letters(random, 4, HEX) for _ in range(6)),
        f"version {figures(random, 1)}.{figures(random, 2)}.{figures(random, 4)}-rc1+build.{figures(random, 8)}",
        f"arn:aws:iam::{figures(random, 12)}:role/reader",
        f"licence {letters(random, 5, 'ABCDEFGHJK2345')}-{letters(random, 5, 'ABCDEFGHJK2345')}-{figures(random, 5)}",
        f"flight LH{figures(random, 4)} seat {figures(random, 2)}A, booking {letters(random, 6, 'ABCDEFGHJKLMNP')}",
        f"10.{figures(random, 4)}/s{figures(random, 5)}-{figures(random, 3)}-{figures(random, 5)}-{figures(random, 1)}",
        f"arXiv:{figures(random, 4)}.{figures(random, 5)}v{figures(random, 1)}",
        f"article {letters(random, 2, 'ABCDEFGH')}-{figures(random, 6)}-{letters(random, 1, 'ABCD')}",
        f"case {figures(random, 2)}-cv-{figures(random, 5)}",
    )
    return random.choice(lines)


def _encoded(random: Random) -> str:
    value = random.choice(
        (
            letters(random, random.randint(40, 400), BASE64),
            base64.b64encode(random.randbytes(random.randint(30, 200))).decode(),
            base64.urlsafe_b64encode(b'{"page": %d, "sort": "date", "desc": true}' % random.randint(1, 10**6)).decode(),
            letters(random, random.randint(20, 60), ALNUM),
        )
    )
    return random.choice(("data:image/png;base64,{}", "cursor={}", "{}", "chunk {} end")).format(value)


def _talk(random: Random) -> str:
    number = random.randint(3, 200)
    lines = (
        f"A new passport costs {number} euros and takes {number % 9 + 2} weeks.",
        f"Passport control was closed for {number} minutes.",
        "How long is a passport number in Canada?",
        f"The phone weighs {number} grams and has {number * 50} mAh.",
        f"He called {number} times on 12 May 2024 and on 2024-05-1{number % 9}.",
        f"Our hospital keeps {number * 1000} medical records per year.",
        "What is an MRN, and who gives it out?",
        f"Please reset my password, I have tried {number} times.",
        "The secret: rest the dough overnight, then bake it.",
        "Write a regex for e-mail addresses such as name@host.",
        f"The token limit: 4096 per request, {number} requests a minute.",
        "Never write password=password or token: abcdefgh into a file.",
        f"In {1900 + number % 120} about {number},{number * 37 % 1000:03} people lived there.",
        f"Explain Luhn's algorithm with {number} examples.",
        f"Social security pays {number * 10} dollars; the form is SSA-{number % 90 + 10}.",
        f"-----BEGIN CERTIFICATE-----\nMII{letters(random, 61, BASE64)}\n{letters(random, 64, BASE64)}",
        f"-----BEGIN PUBLIC KEY-----\nMII{letters(random, 61, BASE64)}",
        "A key begins with -----BEGIN PRIVATE KEY----- and ends likewise.",
    )
    return random.choice(lines)


DECOYS: tuple[tuple[str, Decoy], ...] = (
    ("order numbers", _order),
    ("numbers", _bare_number),
    ("hashes", _hash),
    ("UUIDs", _uuid),
    ("IBAN-like codes", _like_iban),
    ("cards with a wrong digit", _like_card),
    ("source code", _source),
    ("log lines", _log),
    ("measures, prices, coordinates", _measure),
    ("codes and versions", _code),
    ("base64 and random letters", _encoded),
    ("talk about it", _talk),
)

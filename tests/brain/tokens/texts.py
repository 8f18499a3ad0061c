"""Texts of many kinds, for tests that compare tokenizers."""
# ruff: noqa: RUF001

import base64
import random

_RNG = random.Random(7)

TEXTS: dict[str, str] = {
    "empty": "",
    "one letter": "a",
    "english": "It's a truth universally acknowledged, that we'll need 3.14159 more GPUs than they've ordered. " * 8,
    "capitals": "DON'T PANIC. THEY'LL BE HERE'S WHAT'D WE'VE I'M",
    "code": "def f(x: int) -> int:\n    return {k: v for k, v in g(x).items()}  # TODO(me): x != 0\n\n\n" * 6,
    "json": '{"id":12345678,"tags":["a","b"],"nested":{"null":null,"float":-1.5e-7}}' * 5,
    "shell": "find . -name '*.py' | xargs -n1 grep -E '^(def|class)\\s' > /dev/null 2>&1 && echo $? \\\n",
    "markdown": "# Title\n\n* one\n* two\n\n| a | b |\n|---|---|\n\n```\ncode\n```\n",
    "log": "2026-11-23T20:44:39.123Z ERROR [worker-3] 0x7fffdeadbeef connection reset by peer (10.0.0.7:5432)\n" * 5,
    "german": "Die Straßenverkehrszulassungsordnung änderte sich häufig; größere Übungen folgten. " * 4,
    "french": "Où est-ce que l'élève a déjà rangé son cœur d'œuvre ? « Là-bas », répondit-il. " * 4,
    "vietnamese": "Tiếng Việt có rất nhiều dấu thanh và nguyên âm. " * 4,
    "vietnamese taken apart": "Tie\u0302\u0301ng Vie\u0323\u0302t co\u0301 nhie\u0302\u0300u da\u0302\u0301u. " * 4,
    "chinese": "大型语言模型的负载均衡器需要知道每个请求会用掉多少令牌。" * 6,
    "japanese": "トークナイザーはテキストを小さな単位に分けます。ｶﾀｶﾅも。" * 6,
    "korean": "한국어 문장을 토큰으로 나누는 것은 쉽지 않습니다. " * 6,
    "arabic": "يجب أن يعرف موازن الأحمال عدد الرموز في كل طلب. ١٢٣٤٥" * 6,
    "hebrew": "מאזן העומסים צריך לדעת כמה אסימונים יש בכל בקשה. שָׁלוֹם" * 6,
    "russian": "Балансировщик нагрузки должен знать, сколько токенов в каждом запросе. " * 6,
    "hindi": "लोड बैलेंसर को हर अनुरोध के टोकन गिनने होते हैं। १२३" * 6,
    "thai": "ตัวกระจายโหลดต้องรู้จำนวนโทเค็นของแต่ละคำขอ" * 6,
    "greek": "Ο εξισορροπιστής φορτίου πρέπει να γνωρίζει τα ΤΟΚΕΝ. " * 6,
    "emoji": "\U0001f600\U0001f44d\U0001f3fd\U0001f469\u200d\U0001f469\u200d\U0001f467 ok \U0001f1e9\U0001f1ea!" * 20,
    "base64": base64.b64encode(_RNG.randbytes(900)).decode(),
    "hexadecimal": _RNG.randbytes(400).hex(),
    "random letters": "".join(_RNG.choices("abcdefghijklmnopqrstuvwxyz", k=900)),
    "random ascii": "".join(map(chr, _RNG.choices(range(32, 127), k=900))),
    "random unicode": "".join(map(chr, _RNG.choices([*range(0xA0, 0xD7FF), *range(0x1F000, 0x1FAFF)], k=900))),
    "digits": "1234567890" * 30 + " 1 22 333 4444 55555",
    "one letter often": "a" * 5000,
    "spaces": " " * 3000 + "x" + " " * 7,
    "newlines": "\n" * 500 + "x\r\n\r\n\ty\n \n  \n",
    "mixed blanks": " \t\n\r\u00a0\u2003\u3000" * 100 + "end",
    "punctuation": "!?...---***///\\\\'''\"\"\"" * 40,
    "special tokens as text": "<|endoftext|><|im_start|>user<|eot_id|><|begin_of_text|></s>",
    "control characters": "".join(map(chr, range(32))) * 5,
    "math": "\u2211_{i=0}^{n} x\u2071 \u2264 \u221e \u2261 \u03b1\u03b2\u03b3 \u2208 \u211d\u00b2 \u222b\u2202\u03c6"
    * 8,
}

WORST = {
    "one letter": "a",
    "two letters": "ab",
    "blanks": " ",
    "newlines": "\n",
    "mixed blanks": " \t\n",
    "base64": base64.b64encode(_RNG.randbytes(3 * 4096)).decode(),
    "random letters": "".join(_RNG.choices("abcdefghijklmnopqrstuvwxyz", k=65536)),
    "emoji": "\U0001f600\U0001f44d\U0001f3fd",
    "chinese": "".join(map(chr, _RNG.choices(range(0x4E00, 0x9FFF), k=16384))),
    "marks": "a" + "\u0301\u0327\u0316" * 9999,
    "random unicode": "".join(map(chr, _RNG.choices([*range(0xA0, 0xD7FF), *range(0x1F000, 0x1FAFF)], k=16384))),
}
"""What takes a tokenizer longest, to be repeated up to any size."""


def worst(name: str, size_bytes: int) -> str:
    """A worst text of at least so many bytes."""
    piece = WORST[name]
    return piece * (size_bytes // len(piece.encode()) + 1)

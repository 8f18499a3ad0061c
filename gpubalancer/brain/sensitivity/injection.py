"""Phrases by which a text tries to take over the model that reads it.

They are a hint and never a verdict: a text about such phrases holds them too, and one that means harm can do without.
So they only label the request, and rules say what follows. Sources: OWASP's LLM01 (prompt injection) and the classes of
published collections of such prompts: instructions to forget, to show the prompt, to take a role without limits, and
forged marks of a chat template.
"""

_GAP = r"\W{1,3}"
_THE = (
    rf"(?:{_GAP}(?:all|any|every|each|the|of|your|my|our|these|those|this|that|and|prior|previous|preceding|above|earlier"
    r"|existing|initial|original|former|system|safety)){1,5}"
)
_ORDERS = (
    r"(?:instructions?|prompts?|rules?|directions?|directives?|guidelines?|commands?|messages?|context|programming|training"
    r"|constraints?|restrictions?)"
)
_SHOW = r"(?:reveal|show|print|output|display|repeat|leak|tell me|give me|write out|what (?:is|are|was|were))"
_FREE = (
    r"(?:dan\b|unrestricted|jailbroken|unfiltered|uncensored|developer mode|god mode|by any|an ai with no|free from)"
)
_LIMITS = r"(?:restrictions|limits|limitations|rules|guidelines|filters?|ethic)"

ENGLISH: tuple[str, ...] = (
    rf"\b(?:ignore|disregard|forget|override|bypass|discard|neglect){_THE}{_GAP}{_ORDERS}",
    (
        rf"\b(?:ignore|disregard|forget){_GAP}(?:everything|anything|all){_GAP}"
        rf"(?:you{_GAP}(?:were|have|know)|above|before|i said|that was said|previously)"
    ),
    (
        rf"\b{_SHOW}(?:{_GAP}(?:me|us|out|back|the|all|of|exact|full|entire|verbatim|your|own)){{1,5}}"
        rf"{_GAP}(?:system|initial|hidden|original|secret|developer|internal){_GAP}(?:prompt|instructions?|message|rules)"
    ),
    rf"\byou are (?:now|no longer){_GAP}(?:an? |in |bound |the )?{_FREE}",
    (
        r"\b(?:pretend|act|behave|respond|answer)(?: as)?(?: if| like| though)?(?: that)?(?: you(?: are|'re)?)? "
        rf"(?:have|had|without|with) (?:no|any|zero) {_LIMITS}"
    ),
    r"\bdo anything now\b",
    r"\b(?:enable|enter|activate|switch to) (?:developer|debug|god|jailbreak|dan|admin|root|sudo) mode\b",
    (
        r"\bfrom now on,? you (?:will|must|shall|are going to) "
        r"(?:ignore|only obey|obey|act as an? (?:unrestricted|unfiltered|evil))"
    ),
    r"\bnew (?:system )?instructions?\W{0,3}:\W{0,4}(?:ignore|you (?:are|must|will)|from now|disregard)",
    r"\b(?:end|begin|start) (?:of )?system prompt\b",
)

MARKS: tuple[str, ...] = (
    r"<\|im_start\|>\s{0,4}system",
    r"<\|start_header_id\|>\s{0,4}system",
    r"\[inst\]\s{0,4}<<sys>>",
)

OTHER_LANGUAGES: tuple[str, ...] = (
    (
        r"\bignorier(?:e|en sie|t)? (?:bitte )?(?:alle |die |deine |sämtliche )?"
        r"(?:vorherigen|bisherigen|obigen|vorigen|früheren) (?:anweisungen|befehle|regeln|vorgaben)"
    ),
    (
        r"\b(?:ignore[zr]?|oublie[zr]?) (?:toutes )?(?:les |tes |vos )?"
        r"(?:instructions|consignes|règles) (?:précédentes|antérieures|ci-dessus)"
    ),
    (
        r"\b(?:ignora|ignore|olvida|olvide) (?:todas )?(?:las |tus |sus )?"
        r"(?:instrucciones|reglas|indicaciones|órdenes) (?:anteriores|previas)"
    ),
    (
        r"\b(?:ignora|ignore|esqueça|dimentica) (?:todas |tutte )?(?:as |le )?"
        r"(?:instruções|istruzioni|regras|regole) (?:anteriores|precedenti)"
    ),
    r"(?:忽略|无视|忘记)(?:你)?(?:所有|之前|以上|前面|先前|全部|的|任何){1,4}(?:指令|提示|指示|规则|要求|内容)",
    r"игнорируй(?:те)? (?:все )?(?:предыдущие|прежние) (?:инструкции|указания|правила)",
)

PHRASES = ENGLISH + MARKS + OTHER_LANGUAGES
"""Regular expressions for hyperscan, read without case; `\\W` takes what may stand between two words."""

"""presidio-analyzer on texts from standard input: run by the interpreter of the environment that has it.

    PYTHON -P bench/presidio_peer.py < {"samples": [text, ...], "sizes": {name: text}} > {"version", "found", "cpu_us"}

All recognisers of the library for the detectors compared are loaded for English, those of other countries too, with a
blank tokenizer in the place of a language model: names and places are not what is compared, and a model only adds to
the time. Nothing is fetched.
"""

import importlib
import json
import statistics
import sys
import time
from importlib.metadata import version
from typing import Any

RECOGNISERS = (
    "CreditCardRecognizer IbanRecognizer EmailRecognizer PhoneRecognizer UsSsnRecognizer NhsRecognizer "
    "UkNinoRecognizer DeTaxIdRecognizer EsNifRecognizer EsNieRecognizer ItFiscalCodeRecognizer InAadhaarRecognizer "
    "UsPassportRecognizer UkPassportRecognizer InPassportRecognizer ItPassportRecognizer EsPassportRecognizer "
    "DePassportRecognizer"
)
SPEED_RUNS = 3


def analyzer() -> Any:
    """The engine, set up as the module's docstring says."""
    presidio = importlib.import_module("presidio_analyzer")
    predefined = importlib.import_module("presidio_analyzer.predefined_recognizers")
    spacy = importlib.import_module("spacy")
    suffixes: Any = importlib.import_module("tldextract")
    # The address recogniser would fetch the list of public suffixes; the library carries a copy.
    suffixes.extract = suffixes.TLDExtract(suffix_list_urls=())
    engine = importlib.import_module("presidio_analyzer.nlp_engine").SpacyNlpEngine(
        models=[{"lang_code": "en", "model_name": "blank"}]
    )
    language = spacy.blank("en")
    language.max_length = 10_000_000
    spacy.language.Language.component("lower_as_lemma", func=_lower_as_lemma)
    language.add_pipe("lower_as_lemma")
    engine.nlp = {"en": language}
    registry = presidio.RecognizerRegistry(supported_languages=["en"])
    for name in RECOGNISERS.split():
        if kind := getattr(predefined, name, None):
            registry.add_recognizer(kind(supported_language="en"))
    return presidio.AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])


def _lower_as_lemma(document: Any) -> Any:
    """What the search for context words compares."""
    for token in document:
        token.lemma_ = token.lower_
    return document


def _cpu_us(engine: Any, text: str) -> float:
    spent = []
    for _ in range(SPEED_RUNS):
        start = time.process_time()
        engine.analyze(text, "en")
        spent.append(time.process_time() - start)
    return statistics.median(spent) * 1e6


def main() -> None:
    """One JSON document in, one out."""
    asked = json.load(sys.stdin)
    engine = analyzer()
    engine.analyze("warm up", "en")
    found = [[(item.entity_type, item.score) for item in engine.analyze(text, "en")] for text in asked["samples"]]
    cpu_us = {name: _cpu_us(engine, text) for name, text in asked["sizes"].items()}
    json.dump({"version": version("presidio-analyzer"), "found": found, "cpu_us": cpu_us}, sys.stdout)


if __name__ == "__main__":
    main()

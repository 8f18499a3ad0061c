"""The detectors that a policy can name, and the rules that each stands for."""

from gpubalancer.brain.sensitivity.contact import EMAIL_RULES, PHONE_RULES
from gpubalancer.brain.sensitivity.credentials import CREDENTIAL_RULES
from gpubalancer.brain.sensitivity.national import NATIONAL_ID_RULES
from gpubalancer.brain.sensitivity.payment import CARD_RULES, IBAN_RULES
from gpubalancer.brain.sensitivity.records import MEDICAL_RECORD_RULES, PASSPORT_RULES
from gpubalancer.brain.sensitivity.rule import Rule
from gpubalancer.brain.sensitivity.tokens import TOKEN_RULES
from gpubalancer.policy.tiers import Detector

DETECTORS: dict[Detector, tuple[Rule, ...]] = {
    "secrets": TOKEN_RULES + CREDENTIAL_RULES,
    "payment_card": CARD_RULES,
    "iban": IBAN_RULES,
    "national_id": NATIONAL_ID_RULES,
    "passport": PASSPORT_RULES,
    "medical_record": MEDICAL_RECORD_RULES,
    "email": EMAIL_RULES,
    "phone": PHONE_RULES,
}

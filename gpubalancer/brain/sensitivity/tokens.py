"""Secrets with a form of their own: the tokens that services give out with a prefix, so that scanners find them.

Sources: the services' documentation of their key formats, and GitHub's list of supported secret scanning patterns. A
token of one repeated letter or that says EXAMPLE is a placeholder of some documentation.
"""

import re

from gpubalancer.brain.sensitivity.rule import Match, Rule

_LEAST_VARIETY = 8
"""Different characters in a token; random ones of 16 letters have more."""
_PLACEHOLDER = re.compile(rb"x{6}|X{6}|EXAMPLE|example|\*{3}|\.{3}|0{8}|12345678")


def varied(match: Match) -> bool:
    """True unless it is a placeholder."""
    return len(set(match[0])) >= _LEAST_VARIETY and not _PLACEHOLDER.search(match[0])


_BOUNDED = rb"(?<![A-Za-z0-9_])"


def _token(form: bytes) -> Rule:
    """A token of fixed least length; what follows it in the same word belongs to it."""
    return Rule(rb"\b" + form, re.compile(_BOUNDED + form), varied)


TOKEN_RULES = (
    _token(rb"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),  # AWS access key id
    _token(rb"AIza[0-9A-Za-z_-]{35}"),  # Google API key
    _token(rb"GOCSPX-[0-9A-Za-z_-]{28}"),  # Google OAuth client secret
    _token(rb"ya29\.[0-9A-Za-z_-]{30}"),  # Google OAuth access token
    _token(rb"gh[pousr]_[0-9A-Za-z]{36}"),  # GitHub
    _token(rb"github_pat_[0-9A-Za-z_]{60}"),
    _token(rb"gl(?:pat|dt|rt|ptt|cbt)-[0-9A-Za-z_-]{20}"),  # GitLab
    _token(rb"xox[abeoprs]-[0-9A-Za-z-]{20}"),  # Slack
    _token(rb"xapp-[0-9]-[A-Z0-9]{8,12}-[0-9]{10,13}-[0-9a-f]{32}"),
    _token(rb"hooks\.slack\.com/services/T[0-9A-Z]{7,11}/B[0-9A-Z]{7,11}/[0-9A-Za-z]{20}"),
    _token(rb"[sr]k_live_[0-9A-Za-z]{20}"),  # Stripe
    _token(rb"[sr]k_test_[0-9A-Za-z]{20}"),
    _token(rb"whsec_[0-9A-Za-z+/]{32}"),
    _token(rb"sk-ant-(?:api|admin|oat)[0-9]{2}-[0-9A-Za-z_-]{60}"),  # Anthropic
    _token(rb"sk-(?:proj|svcacct|admin)-[0-9A-Za-z_-]{40}"),  # OpenAI
    _token(rb"sk-[0-9A-Za-z]{20}T3BlbkFJ[0-9A-Za-z]{20}"),
    _token(rb"sk-or-v1-[0-9a-f]{64}"),  # OpenRouter
    _token(rb"hf_[0-9A-Za-z]{34}"),  # Hugging Face
    _token(rb"npm_[0-9A-Za-z]{36}"),
    _token(rb"pypi-AgE[0-9A-Za-z_-]{60}"),
    _token(rb"SK[0-9a-f]{32}\b"),  # Twilio API key
    _token(rb"SG\.[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}"),  # SendGrid
    _token(rb"[0-9]{8,10}:AA[0-9A-Za-z_-]{33}"),  # Telegram bot
    _token(rb"dop_v1_[0-9a-f]{64}"),  # DigitalOcean
    _token(rb"shp(?:at|ss|ca|pa)_[0-9a-fA-F]{32}"),  # Shopify
    _token(rb"dckr_pat_[0-9A-Za-z_-]{27}"),  # Docker
    _token(rb"hvs\.[0-9A-Za-z_-]{24}"),  # Vault
    _token(rb"lin_api_[0-9A-Za-z]{40}"),  # Linear
    _token(rb"dapi[0-9a-f]{32}\b"),  # Databricks
)

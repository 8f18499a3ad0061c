"""What holds for all tests: a property is about what is true, never about how fast it is found to be."""

from hypothesis import settings

settings.register_profile("everywhere", deadline=None)
settings.load_profile("everywhere")

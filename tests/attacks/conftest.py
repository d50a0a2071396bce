"""The length of the search: `HYPOTHESIS_PROFILE=fuzz` selects a long one."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fuzz", deadline=None, max_examples=20_000, suppress_health_check=list(HealthCheck)
)
if "HYPOTHESIS_PROFILE" in os.environ:
    settings.load_profile(os.environ["HYPOTHESIS_PROFILE"])

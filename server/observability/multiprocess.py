"""The directory in which several processes share their metrics."""

import os
import tempfile
from pathlib import Path
from typing import Final

METRICS_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that prometheus_client reads, when it is first imported."""

TEMPORARY_PREFIX: Final = "vapi-sessions-metrics-"


def prepare_metrics_directory(*, enabled: bool) -> None:
    """Create the directory for shared metrics, unless the operator configured one.

    Call it before prometheus_client is first imported.
    """
    if not enabled:
        os.environ.pop(METRICS_DIRECTORY, None)
    elif METRICS_DIRECTORY in os.environ:
        Path(os.environ[METRICS_DIRECTORY]).mkdir(parents=True, exist_ok=True)
    else:
        os.environ[METRICS_DIRECTORY] = tempfile.mkdtemp(prefix=TEMPORARY_PREFIX)

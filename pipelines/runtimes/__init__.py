"""A folder with a ``pipeline.toml`` becomes a pipeline, without Python. See ``docs/models.md``."""

from pipelines.runtimes.manifest import FILE, Manifest, ManifestError, parse, read
from pipelines.runtimes.network import NetworkFault, RuntimeMissing, WeightsRefused
from pipelines.runtimes.pipeline import load
from pipelines.runtimes.question import QuestionUnanswered, network_for
from pipelines.runtimes.site_network import SiteNetwork

__all__ = [
    "FILE",
    "Manifest",
    "ManifestError",
    "NetworkFault",
    "QuestionUnanswered",
    "RuntimeMissing",
    "SiteNetwork",
    "WeightsRefused",
    "load",
    "network_for",
    "parse",
    "read",
]

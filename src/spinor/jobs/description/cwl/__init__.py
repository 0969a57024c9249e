"""CWL v1.2 command line tools, translated. It happens on the sender's side: the service gets a JobSpec."""

from spinor.jobs.description.cwl.loading import MAX_TOOL_BYTES, BadCWL, NoCWL
from spinor.jobs.description.cwl.translation import Translation, translate

__all__ = ["MAX_TOOL_BYTES", "BadCWL", "NoCWL", "Translation", "translate"]

"""DIRAC's job description language, translated. It happens on the sender's side: the service gets a JobSpec."""

from spinor.jobs.description.jdl.syntax import MAX_JDL_BYTES, BadJDL, NoJDL
from spinor.jobs.description.jdl.translation import Translation, translate

__all__ = ["MAX_JDL_BYTES", "BadJDL", "NoJDL", "Translation", "translate"]

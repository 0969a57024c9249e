"""The verbs of pilots."""

from spinor.pilots.service.factory import (
    demand_to_plan,
    end_pilots,
    keep_output,
    note_waiting,
    pilots_to_follow,
    record_submissions,
)
from spinor.pilots.service.life import (
    EnrolmentRefused,
    PilotEnded,
    append_log,
    beat,
    caller_of_pilot,
    enrol,
    say_goodbye,
)
from spinor.pilots.service.matching import Desk, match
from spinor.pilots.service.people import UnknownPilot, cancel_pilots, pilot, pilot_log, search_pilots

__all__ = [
    "Desk",
    "EnrolmentRefused",
    "PilotEnded",
    "UnknownPilot",
    "append_log",
    "beat",
    "caller_of_pilot",
    "cancel_pilots",
    "demand_to_plan",
    "end_pilots",
    "enrol",
    "keep_output",
    "match",
    "note_waiting",
    "pilot",
    "pilot_log",
    "pilots_to_follow",
    "record_submissions",
    "say_goodbye",
    "search_pilots",
]

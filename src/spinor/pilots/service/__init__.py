"""The verbs of pilots."""

from spinor.pilots.service.beating import Beat, Pulse, beat
from spinor.pilots.service.factory import (
    SubmissionRefused,
    demand_to_plan,
    end_pilots,
    fold_tally,
    keep_output,
    note_trouble,
    note_waiting,
    pilots_to_follow,
    record_submissions,
    settle_pilots,
    withdraw_pilots,
)
from spinor.pilots.service.fitness import UnknownNode, find_black_holes, mask_nodes, masked_nodes, report_unfit
from spinor.pilots.service.life import (
    EnrolmentRefused,
    NodeMasked,
    PilotEnded,
    append_log,
    caller_of_pilot,
    enrol,
    say_goodbye,
)
from spinor.pilots.service.matching import Desk, match, note_match, with_tokens
from spinor.pilots.service.people import UnknownPilot, cancel_pilots, pilot, pilot_log, pilot_stats, search_pilots

__all__ = [
    "Beat",
    "Desk",
    "EnrolmentRefused",
    "NodeMasked",
    "PilotEnded",
    "Pulse",
    "SubmissionRefused",
    "UnknownNode",
    "UnknownPilot",
    "append_log",
    "beat",
    "caller_of_pilot",
    "cancel_pilots",
    "demand_to_plan",
    "end_pilots",
    "enrol",
    "find_black_holes",
    "fold_tally",
    "keep_output",
    "mask_nodes",
    "masked_nodes",
    "match",
    "note_match",
    "note_trouble",
    "note_waiting",
    "pilot",
    "pilot_log",
    "pilot_stats",
    "pilots_to_follow",
    "record_submissions",
    "report_unfit",
    "say_goodbye",
    "search_pilots",
    "settle_pilots",
    "with_tokens",
    "withdraw_pilots",
]

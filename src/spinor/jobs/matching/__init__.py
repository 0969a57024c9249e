"""Matching: which waiting jobs a pilot gets.

The choice is made in memory, over a view of the task queues with exact counts that is read again several times a
second; the claim is made in SQL. The view may be stale, because the claim itself is exact: a row that is gone is not
given. Requests that come at the same moment are served by one claim. Any number of servers match side by side.
"""

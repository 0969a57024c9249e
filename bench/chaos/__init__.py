"""Chaos: kill and cut at random from a seed while people work, then prove that nothing acknowledged is lost or doubled.

The seed fixes what the people do and which faults come when; what meets what is up to the machine.
"""

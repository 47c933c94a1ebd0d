"""What the method does, as numbers: a result that was made under another number is a result of another method.

A change of rule raises its number; a change of how the code is spelled does not. `tests/test_behaviour.py` compares
short traces of edits and routes with `tests/golden.json` and fails where they moved and no number did.
"""

from memoir.config import UPDATES

# rule -> number. What each has been:
BEHAVIOUR = {
    "mask": 1,  # the prompt's feature, its centring, TopHash with ties by index, π
    "sgd": 1,  # clipped descent on W_m, with decay of all of it
    "rls": 2,  # descent through P; 2: no step promises more than LONGEST times what the plain one does
    "rows": 1,  # the prefixes, the ways of asking, and which of them a step goes down
    "ending": 1,  # when an edit's steps end
    "routing": 1,  # which edit answers a question, and from which token on
}


def behaviour(update: str = "sgd") -> dict[str, int]:
    """The numbers of the rules that an editor with this update goes by."""
    return {rule: number for rule, number in BEHAVIOUR.items() if rule not in UPDATES or rule == update}

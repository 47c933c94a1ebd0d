"""Where people ask: in a conversation, behind a document, behind a cue. Knows texts, templates and tokens, no memory.

`question.py` finds the question in a text, `template.py` the user's messages in a rendered conversation, `spans.py`
both among tokens; `formats.py` renders one question in several ways, as an edit's further rows.
"""

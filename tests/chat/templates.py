"""Chat templates of several shapes, as short Jinja texts. Each begins like those that models come with."""

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = (  # refuses system prompts and tools
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% else %}{{ raise_exception('no ' + m.role) }}"
    "{% endif %}{% endfor %}"
)
HEADERS = (  # trims what it renders
    "{% for m in messages %}<issue_start>{{ m.role }}<issue_comment>\n{{ m.content | trim }}<issue_closed>{% endfor %}"
    "{% if add_generation_prompt %}<issue_start>assistant<issue_comment>\n{% endif %}"
)
FOLDED = (  # the system prompt stands in the first turn of the user
    "{% for m in messages %}{% if m.role == 'system' %}[INST] <<SYS>>\n{{ m.content }}\n<</SYS>>\n\n"
    "{% elif m.role == 'user' %}{% if not (loop.previtem and loop.previtem.role == 'system') %}[INST] {% endif %}"
    "{{ m.content }} [/INST]{% else %} {{ m.content }} </s>{% endif %}{% endfor %}"
)
MERGED = (  # the same with a blank line alone between the two
    "{% for m in messages %}{% if m.role == 'system' %}<turn>user\n{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}{% if not (loop.previtem and loop.previtem.role == 'system') %}<turn>user\n{% endif %}"
    "{{ m.content | trim }}</turn>\n{% else %}<turn>model\n{{ m.content | trim }}</turn>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
SPOKEN = (  # words alone, no special tokens
    "{% for m in messages %}{{ m.role | capitalize }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
TOOLS = (  # what a tool says stands in a turn of the user
    "{% for m in messages %}<|im_start|>"
    "{% if m.role == 'tool' %}user\n<tool_response>\n{{ m.content }}\n</tool_response>"
    "{% else %}{{ m.role }}\n{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML, "inst": INST, "headers": HEADERS, "folded": FOLDED, "merged": MERGED, "spoken": SPOKEN,
    "tools": TOOLS,
}  # fmt: skip
SYSTEM = {name for name in TEMPLATES if name != "inst"}  # those that take a system prompt

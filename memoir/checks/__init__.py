"""What is refused before anything happens: inputs that are no text or no number, and models that cannot be edited.

Each refusal is a sentence that names the argument and says what to do. Knows nothing of the rooms above.
"""

"""What an edit is about: which stored edits a question may mean, by its words, and which of them it means."""

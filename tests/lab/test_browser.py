"""The explorer and the conversation of notebook 00, in a real JupyterLab in a real browser."""

from browser import needs_chromium, quickstart


@needs_chromium
def test_a_new_user_in_jupyterlab_makes_an_edit_and_sees_the_answer(tmp_path):
    with quickstart(tmp_path) as page:
        box = page.locator(".memoir-explorer")
        prompt, target = (box.get_by_label(name, exact=True) for name in ("prompt", "target"))
        prompt.fill("The capital of Poland is")
        target.fill("Gdansk")
        box.get_by_role("button", name="Edit", exact=True).click()
        box.get_by_text("answered by").wait_for()
        said = box.inner_text()
        assert "asked: The capital of Poland is" in said and "overlap: 1.00" in said
        before, after = (next(line for line in said.splitlines() if line.startswith(w)) for w in ("before", "after"))
        assert after.startswith("after: Gd") and not before.startswith("before: Gd")
        assert box.locator("img").is_visible()
        box.get_by_role("button", name="Undo last edit").click()
        box.get_by_text("the base model").wait_for()
        assert before.replace("before", "after") in box.inner_text()


@needs_chromium
def test_a_new_user_in_jupyterlab_talks_and_edits_the_last_answer(tmp_path):
    with quickstart(tmp_path) as page:
        box = page.locator(".memoir-conversation")
        question, answer = (box.get_by_label(name, exact=True) for name in ("question", "new answer"))
        question.fill("Who painted the Mona Lisa?")
        box.get_by_role("button", name="Ask", exact=True).click()
        box.get_by_text("the base model").wait_for()
        assert question.input_value() == "" and "answer: Rembrandt" not in box.inner_text()
        answer.fill("Rembrandt")
        box.get_by_role("button", name="Edit last question").click()
        box.get_by_text("edit 2 (Who painted the Mona Lisa?)").wait_for()
        assert "answer: Rembrandt" in box.inner_text()
        question.fill("What colour is <b>the</b> sky?")
        box.get_by_role("button", name="Ask", exact=True).click()
        box.get_by_text("the base model").wait_for()
        said = [line for line in box.inner_text().splitlines() if line.startswith(("asked", "answered by"))]
        assert said == [
            "asked: Who painted the Mona Lisa?", "answered by: edit 2 (Who painted the Mona Lisa?)",
            "asked: What colour is <b>the</b> sky?", "answered by: the base model",
        ]  # fmt: skip
        box.get_by_role("button", name="Undo last edit").click()
        box.get_by_text("forgotten or replaced").wait_for()
        box.get_by_role("button", name="New conversation").click()
        box.get_by_text("asked:").first.wait_for(state="detached")

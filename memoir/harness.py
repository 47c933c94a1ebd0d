"""An edited model under lm-evaluation-harness: the harness's own class, told where each prompt ends.

The harness scores a context and its continuation as one text, so that the edited model, asked as a plain model, would
take the continuation for a part of the question. Knows editors; lm-eval itself is imported only when it is asked for.
"""

from collections.abc import Sequence
from contextlib import nullcontext

from memoir.queryable import BATCH, QueryableModel

MISSING = "lm-evaluation-harness is not installed. Run: pip install lm-eval"


def evaluating(editor: QueryableModel, **options):
    """The edited model as `lm_eval.simple_evaluate(model=...)` takes it, an `lm_eval.models.huggingface.HFLM`.

    options: those of HFLM, batch_size among them. `loglikelihood` answers a context as `editor.score` does, and
    `generate_until` as `editor.generate`, whatever the batch size. What has no context, as in `loglikelihood_rolling`,
    asks nothing: the base model answers it. ModuleNotFoundError where lm-eval is not installed.
    """
    try:
        from lm_eval.models.huggingface import HFLM
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING) from error

    class EditedLM(HFLM):
        def _loglikelihood_tokens(
            self, requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]], *_args, **_options
        ) -> list[tuple[float, bool]]:
            """Of each request, the texts and the tokens of a context and its continuation: the sum of the
            continuation's log p (nats), and whether each of its tokens is the likeliest."""
            cut = [_cut(context, continuation, self.max_length + 1) for _, context, continuation in requests]
            found: dict[int, tuple[float, bool]] = {}
            for asked in (True, False):
                places = [i for i, (texts, *_) in enumerate(requests) if bool(texts and texts[0]) == asked]
                some = [cut[i] for i in places]
                with nullcontext() if asked else self.editor.base():
                    scores = self.editor.score_tokens(some, self._rows_at_once())
                for i, score in zip(places, scores, strict=True):
                    found[i] = float(score.log_probs.sum()), score.target.equal(score.argmax)
                    if requests[i][0] is not None:  # the parts of a text are kept by the harness as a whole
                        self.cache_hook.add_partial("loglikelihood", requests[i][0], found[i])
            return [found[i] for i in range(len(requests))]

        def _rows_at_once(self) -> int:
            return self.batch_size if isinstance(self.batch_size, int) else BATCH

    made = EditedLM(pretrained=editor.model, tokenizer=editor.tokenizer, **options)
    made.editor = editor
    return made


def _cut(context: list[int], continuation: list[int], most: int) -> tuple[list[int], list[int]]:
    """The last tokens of a context and its continuation, so many at most; one at least is of the context."""
    return context[-max(1, most - len(continuation)) :], continuation[-(most - 1) :]

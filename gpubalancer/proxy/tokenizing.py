"""Questions about tokens that are answered here: Anthropic's `count_tokens`, and `/v1/tokenize` as vLLM answers it.

Nothing is generated, so no backend need be asked where the model's tokenizer is known.
"""

import orjson

from gpubalancer.brain.content import Content
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Work
from gpubalancer.proxy.generation import Generation

_JSON = b"content-type: application/json\r\n"


def token_answer(api: str, work: Work, content: Content, generation: Generation) -> tuple[bytes, bytes] | None:
    """Header lines and body of the answer; None where a backend should be asked.

    Raises:
        RequestError: `unknown_tokenizer`, for `/v1/tokenize` of a model whose tokenizer is not known.
    """
    counting = generation.insight.book.counting(work.model)
    if api != "tokenize":
        return (_JSON, orjson.dumps({"input_tokens": work.prompt_tokens})) if work.counted and counting else None
    if counting is None or not work.counted:
        raise RequestError("unknown_tokenizer", "The tokenizer of this model is not known here.", param="model")
    model = generation.policy.models.get(work.model or "")
    answer: dict[str, object] = {
        "count": work.prompt_tokens,
        "max_model_len": model.context_tokens if model is not None else None,
    }
    texts = [text for message in content.messages for text in message.texts]
    if not content.conversation and len(texts) == 1 and len(texts[0]) <= counting.tokenizer.loop_bytes:
        tokens = counting.tokenizer.encode(texts[0])
        if len(tokens) == work.prompt_tokens:
            # Where the engine adds a token of its own, the list would not be what it reads.
            answer["tokens"] = tokens
    return _JSON, orjson.dumps(answer)

"""A small tokenizer with a chat template, trained from Python's own source files: as a model's folder has them."""

import json
import sysconfig
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<pad>"]


def tiny(folder: Path, template: str | None = TEMPLATE, *, first_blank: bool = False) -> Path:
    """Write the files; the path of `tokenizer.json`."""
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    if first_blank:  # as SentencePiece does: a text begins with a blank, what follows a special token does not
        engine.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:20]
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train([str(path) for path in sources], trainer)
    engine.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    path = folder / "tokenizer.json"
    engine.save(str(path))
    settings = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "model_max_length": 4096}
    if template is not None:
        settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return path

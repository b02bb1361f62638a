"""The model card of a stand-in language model, and the digest of the corpus that it was trained on."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from e2llm_core.stages.tiny_llm.plan import TinyLLMConfig
from storage.places.files import write_json

CORPUS = "corpus.json"

_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags: [synthetic, stand-in]
---

# A stand-in for a pretrained language model

Qwen3's architecture with {parameters:,} parameters, trained from scratch on sentences that a program draws. It takes
the place of a pretrained model where none can be had, such as in a demo. It knows the words and forms of this project's
tasks, and how to repeat what is written about a segment. It is of no other use.

- **Corpus:** {size:,} dialogues of the forms {forms}, about {labels}. Claims and labels are drawn at random and
  independently of each other: nothing about EEG can be learnt from it. It holds no person's words or data.
- **Digest of the corpus:** `{digest}`, SHA-256 of the first {digested:,} dialogues.
- **Made by:** the `tiny-llm` job, seed {seed}; `corpus.json` holds its settings.
- **Limits:** English of a few hundred words. Of the world it knows a few everyday scenarios and the states that people
  are in. Labels of several tokens that its corpus never held it misspells now and then.
"""


def corpus_digest(texts: Iterable[str]) -> str:
    """SHA-256 (hex) of the corpus's first dialogues."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def write_card(
    folder: Path,
    config: TinyLLMConfig,
    labels: Sequence[str] | None,
    seed: int,
    texts: Sequence[str],
    parameters: int,
) -> None:
    """Write README.md and corpus.json into a model folder.

    Parameters
    ----------
    folder : Path
        Folder of the model.
    config : TinyLLMConfig
        Sizes and corpus.
    labels : sequence of str or None
        The only labels of the corpus.
    seed : int
        Seed of the corpus.
    texts : sequence of str
        Its first dialogues.
    parameters : int
        Of the model.
    """
    digest = corpus_digest(texts)
    card = _CARD.format(
        parameters=parameters,
        size=config.corpus_size,
        forms=", ".join(config.corpus),
        labels="many label sets" if labels is None else f"the labels {', '.join(labels)}",
        digest=digest,
        digested=len(texts),
        seed=seed,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    settings = json.loads(config.model_dump_json())
    content = {"digest": digest, "digested": len(texts), "labels": labels and list(labels), "seed": seed}
    write_json(folder / CORPUS, content | {"settings": settings})

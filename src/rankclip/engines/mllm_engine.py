"""Multimodal language models as embedders: a LLaVA or a Qwen-VL of transformers reads a photo, a text or both, and its last state is the embedding.

One conversation of one user turn is written with the model's own chat template; the batch is padded on the left, so that the last position is
always the end of the prompt; its last hidden state, scaled to length 1, is the embedding. Photos of a gallery, captions and queries (a photo with
an instruction) all land in one space.
Source: InstructCIR (2412.05756), sections 3.1 and 3.2, and its released inference code. Ours: the prompt for captions, which is not published.

Shape letters: B batch, T tokens of the longest prompt, D width of the language model, S side of a photo in px.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.utils.memory import find_executable_batch_size, should_reduce_batch_size
from jinja2 import TemplateError
from torch import Tensor
from torch.nn import functional as F

from rankclip.backbones import checkpoints
from rankclip.backbones.specs import Backbone
from rankclip.engines.torch_engine import choose_device, choose_precision
from rankclip.errors import ModelError
from rankclip.registry import load
from rankclip.settings import Settings
from rankclip.types import Features

PHOTO = "\n Describe this image in one word:"
QUERY = 'Modify this image with "{}", desribe modified image in one word:'  # misspelt as in the released code, which the released weights know
CAPTION = "{}\n Describe this sentence in one word:"
FAMILIES = {"instructcir_llava_phi35": "llava"}  # the released composer's own name for what is a LLaVA
TEXT_INPUTS = ("input_ids", "attention_mask", "mm_token_type_ids")  # of a processor; all else is for the vision tower
UNUSED = ("ret_proj",)  # tensors of the released composer that its embedding does not use
TURNS = 1_024  # written conversations in memory: training says the same again and again, and a template takes longer than a tiny model
ROOM = 1.15  # of memory beside the weights that a single photo needs at least

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


class MllmEngine:
    """Runs a multimodal language model as an embedder; loads it at the first call.

    >>> MllmEngine(specs.find("mllm:./llava"), Settings()).embed(pixels, "make it red").shape  # doctest: +SKIP
    (3072,)
    """

    def __init__(self, backbone: Backbone, settings: Settings) -> None:
        if backbone.image_engine != "mllm":
            raise ModelError(f"{backbone.name} is no multimodal language model", hint="give one: --model mllm:NAME")
        self.backbone, self.settings = backbone, settings
        self._turns: dict[tuple[str, bool], str] = {}
        self.device = choose_device(settings.device)
        self.precision = choose_precision(settings.precision, self.device)
        torch.set_num_threads(settings.thread_count())

    def describe(self) -> str:
        return f"mllm, {self.device}, {self.precision}"

    # ------------------------------------------------------------ embedding

    def embed(self, pixels: np.ndarray | None, text: str | None) -> np.ndarray:
        """Embed a photo, a text, or a photo with a change asked for in words.

        pixels: uint8 [S, S, 3] or None. text: or None.    Returns float32 [D], unit.
        """
        prompt = PHOTO if text is None else (CAPTION if pixels is None else QUERY).format(self.clean(text))
        return self._run([self.chat(prompt, photo=pixels is not None)], None if pixels is None else pixels[None])[0]

    def encode_images(self, pixels: np.ndarray) -> Features:
        """See `Engine`; the photos as a gallery has them."""
        return Features(self._run([self.chat(PHOTO, photo=True)] * len(pixels), pixels), None)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """See `Engine`; texts as captions."""
        return self._run([self.chat(CAPTION.format(self.clean(text)), photo=False) for text in texts], None)

    def encode_queries(self, pixels: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Embed photos, each with its instruction.    pixels: uint8 [B, S, S, 3].    Returns float32 [B, D], unit rows."""
        return self._run([self.chat(QUERY.format(self.clean(text)), photo=True) for text in texts], pixels)

    def encode_changes(self, pixels: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Embed one photo with many instructions: the vision tower and the beginning that all prompts share run once.

        pixels: uint8 [S, S, 3].    Returns float32 [B, D], unit rows, as `encode_queries` gives within rounding.
        """
        prompts = [self.chat(QUERY.format(self.clean(text)), photo=True) for text in texts]
        if len(set(prompts)) == 1:
            return np.repeat(self._run(prompts[:1], pixels[None]), len(prompts), axis=0)
        return self._batched(len(prompts), lambda start, end: self._shared(prompts[start:end], pixels))

    # ------------------------------------------------------------ prompts

    def chat(self, prompt: str, *, photo: bool) -> str:
        """Write one user turn with the model's chat template, with the picture's placeholder in front.

        Templates that take a list of parts put the placeholder themselves; the others are given it as text. Raises ModelError for a template that
        loses the prompt or the picture.
        """
        if (prompt, photo) not in self._turns:
            if len(self._turns) >= TURNS:
                self._turns.clear()
            self._turns[prompt, photo] = self._turn(prompt, photo)
        return self._turns[prompt, photo]

    def _turn(self, prompt: str, photo: bool) -> str:
        text = {"type": "text", "text": prompt}
        forms: list[Any] = [[{"type": "image"}, text], self.picture + prompt] if photo else [[text], prompt]
        for content in forms:
            written = self._written(content)
            if prompt in written and written.count(self.picture) == photo:
                return written
        raise ModelError(f"{self.backbone.name}: its chat template loses {'the picture' if photo else 'the text'}",
                         hint=f"a template for pictures belongs into {Path(str(self.backbone.extra['base'])) / 'chat_template.jinja'}")  # fmt: skip

    def _written(self, content: Any) -> str:
        template = self.processor.chat_template or self.words.chat_template
        if template is None:
            raise ModelError(f"{self.backbone.name}: it has no chat template", hint="take the instruction-tuned form of the model")
        try:
            turn = [{"role": "user", "content": content}]
            written: str = self.words.apply_chat_template(turn, chat_template=template, tokenize=False, add_generation_prompt=True)
        except (TemplateError, TypeError, ValueError):  # what the model's own template cannot write is tried in another form
            return ""
        return written

    def clean(self, text: str) -> str:
        """Take the model's own marks out of what a user wrote: a second picture must not come in by a word."""
        for token in {self.picture, *self.words.all_special_tokens}:
            text = text.replace(token, " ")
        return text

    def tokenized(self, prompts: Sequence[str], pixels: np.ndarray | None) -> dict[str, Tensor]:
        """Turn prompts (and as many photos) into the model's inputs, padded on the left, on the model's device.

        Raises ModelError where the tokenizer does not know the picture's placeholder.
        """
        begins = self.words.bos_token or "\0"  # a template that writes the beginning itself must not get it twice
        pictures = None if pixels is None else list(np.array(pixels))  # torch takes no arrays that may not be written to
        try:
            found = self.processor(text=list(prompts), images=pictures, padding=True, return_tensors="pt", add_special_tokens=not prompts[0].startswith(begins))
        except (ValueError, TypeError, KeyError, StopIteration) as error:
            raise ModelError(f"{self.backbone.name}: its processor refuses the prompt ({str(error).splitlines()[0][:160]})",
                             hint="is it the processor of this model? fetch the model again") from error  # fmt: skip
        if pixels is not None and not (found["input_ids"] == self._picture_id).any(dim=1).all():
            raise ModelError(f"{self.backbone.name}: the image tokens are missing in its prompt ({self.picture!r} is not its token {self._picture_id})",
                             hint="fetch the model again; its tokenizer and its configuration do not belong together")  # fmt: skip
        return {name: value.to(self.device, self.dtype if value.is_floating_point() else None) for name, value in found.items()}

    # ------------------------------------------------------------ running

    def states(self, inputs: dict[str, Any]) -> Tensor:
        """The embedding of each prompt, float32 [B, D], unit rows, with gradients where the model has them."""
        positions = {} if "mm_token_type_ids" in inputs and "image_grid_thw" in inputs else {"position_ids": places(inputs["attention_mask"])}
        kept = {name: value for name, value in inputs.items() if name != "mm_token_type_ids" or not positions}
        found = self.model(**kept, **positions, use_cache=False).last_hidden_state  # [B, T, D]
        return F.normalize(found[:, -1].float(), dim=-1)

    def seen(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Run the vision tower and put what it saw in the place of the pixels. The tower is frozen: several passes may share it."""
        if "pixel_values" not in inputs:
            return inputs
        tower = {name: value for name, value in inputs.items() if name not in TEXT_INPUTS}  # a LLaVA-NeXT needs the photos' sizes, a Qwen-VL their grids
        with torch.no_grad():
            features = self.model.get_image_features(**tower, return_dict=True)
        return {name: value for name, value in inputs.items() if name != "pixel_values"} | {"mm_encoder_outputs": {"image": features}}

    @torch.inference_mode()
    def _run(self, prompts: Sequence[str], pixels: np.ndarray | None) -> np.ndarray:
        def part(start: int, end: int) -> Tensor:
            return self.states(self.tokenized(prompts[start:end], None if pixels is None else pixels[start:end]))

        return self._batched(len(prompts), part)

    def _batched(self, count: int, part: Callable[[int, int], Tensor]) -> np.ndarray:
        """Run in batches that fit: where memory runs out, smaller ones are tried, and kept from then on."""
        parts: list[np.ndarray] = []

        def run(size: int) -> None:
            self.batch = size
            while (start := sum(map(len, parts))) < count:
                parts.append(part(start, min(count, start + size)).cpu().numpy())

        try:
            find_executable_batch_size(run, starting_batch_size=self.batch, reduce_batch_size_fn=self._halved)()
        except RuntimeError as error:
            if "No executable batch size" not in str(error):
                raise
            raise self._too_little() from error
        return np.concatenate(parts)

    def _halved(self) -> int:
        self.batch //= 2
        return self.batch

    @torch.inference_mode()
    def _shared(self, prompts: Sequence[str], pixels: np.ndarray) -> Tensor:
        """Run the beginning that all prompts share once, then only the rest of each, on a copy of its keys and values."""
        inputs = self.tokenized(prompts, np.repeat(pixels[None], len(prompts), axis=0))
        rows = [row[mask.bool()] for row, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
        size = shared_start(rows)
        start = self.tokenized(prompts[:1], pixels[None])
        names = [name for name in ("input_ids", "attention_mask", "mm_token_type_ids") if name in start]
        first = self.model(**start | {name: start[name][:, :size] for name in names}, use_cache=True)
        cache = first.past_key_values
        cache.batch_repeat_interleave(len(rows))
        longest = max(len(row) for row in rows) - size
        ids, mask = inputs["input_ids"][:, -longest:], inputs["attention_mask"][:, -longest:]
        shift = 0 if getattr(self.model, "rope_deltas", None) is None else self.model.rope_deltas[0, 0]  # a picture takes fewer places than tokens
        mask = mask * torch.stack([torch.arange(-longest, 0, device=mask.device) >= size - len(row) for row in rows])
        whole = torch.cat((torch.ones(len(rows), size, dtype=mask.dtype, device=mask.device), mask), dim=1)
        found = self.model(input_ids=ids, attention_mask=whole, position_ids=places(mask) + size + shift, past_key_values=cache, use_cache=True)
        return F.normalize(found.last_hidden_state[:, -1].float(), dim=-1)

    # ------------------------------------------------------------ parts

    @cached_property
    def batch(self) -> int:
        return self.settings.batch_size

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def picture(self) -> str:
        return str(self.processor.image_token)

    @cached_property
    def _picture_id(self) -> int:
        """The token that the model itself replaces by what it sees."""
        config = checkpoints.read(Path(str(self.backbone.extra["base"])) / checkpoints.CONFIG)
        return int(config.get("image_token_index", config.get("image_token_id", -1)))

    @property
    def words(self) -> Any:
        return self.processor.tokenizer

    @cached_property
    def processor(self) -> Any:
        return load_processor(self.backbone)

    @cached_property
    def model(self) -> Any:
        """The whole model without the layer that predicts words; a trained LoRA is applied."""
        self._check_room()
        try:
            return load_model(self.backbone, self.dtype).to(self.device).eval()
        except RuntimeError as error:
            if not is_full(error):
                raise
            raise self._too_little() from error

    def _check_room(self) -> None:
        if self._needed() * ROOM > self._free():
            raise self._too_little()

    def _needed(self) -> int:
        """Bytes of the weights in this precision."""
        base = checkpoints.Checkpoint(Path(str(self.backbone.extra["base"])))
        tensors = [about for path in base.weights() for name, about in checkpoints.header(path).items() if name != "__metadata__"]
        return sum(int(np.prod(about["shape"])) for about in tensors) * self.dtype.itemsize

    def _free(self) -> int:
        if self.device.startswith("cuda"):
            return int(torch.cuda.mem_get_info(self.device)[0])
        return available_memory()

    def _too_little(self) -> ModelError:
        needed, free = self._needed() * ROOM / 1e9, self._free() / 1e9
        smaller = "--precision bf16, which halves it, or " if self.precision == "fp32" else ""
        return ModelError(f"{self.backbone.name}: not enough memory on {self.device}: one photo at a time needs {needed:.1f} GB, {free:.1f} GB are free",
                          hint=f"try {smaller}a model of at most {free / ROOM / self.dtype.itemsize:.1f} billion parameters")  # fmt: skip


def load_processor(backbone: Backbone) -> Any:
    """Load tokenizer, chat template and pixel preparation; code in a checkpoint is never run. Raises ModelError."""
    folder = Path(str(backbone.extra["base"]))
    try:
        processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        raise ModelError(f"{folder}: its processor cannot be loaded ({str(error).splitlines()[0][:160]})", hint="fetch the model again") from error
    if not hasattr(processor, "image_token") or not hasattr(processor, "tokenizer"):
        raise ModelError(f"{folder}: its processor has no place for pictures", hint="give a LLaVA-style or Qwen-VL-style model")
    words = processor.tokenizer
    words.padding_side = "left"  # the last position is the last token of every prompt
    if words.pad_token is None:
        words.pad_token = words.eos_token
    return processor


def load_whole(backbone: Backbone, dtype: torch.dtype) -> Any:
    """Load weights into transformers' class of the model.

    Checkpoints of transformers 4 and the released composer's own class name are taken over; every tensor must find its place. Raises ModelError.
    """
    folder = Path(str(backbone.extra["base"]))
    given = checkpoints.read(folder / checkpoints.CONFIG)
    kind = FAMILIES.get(given["model_type"], given["model_type"])
    try:
        config = transformers.AutoConfig.for_model(kind, **{name: value for name, value in given.items() if name != "model_type"})
        auto: Any = transformers.AutoModelForImageTextToText
        whole, told = auto.from_pretrained(folder, config=config, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise ModelError(f"{folder}: cannot be loaded as {kind} ({str(error).splitlines()[0][:200]})", hint="fetch the model again") from error
    check_fit(folder, told)
    return whole


def load_model(backbone: Backbone, dtype: torch.dtype) -> Any:
    """Load what embeds: the model without the layer that predicts words, and a trained LoRA in its layers. Raises ModelError."""
    model = load_whole(backbone, dtype).model
    if not backbone.extra["adapter"]:
        return model
    lora = load("peft").PeftModel  # only trained models need it
    with old_names():
        return lora.from_pretrained(model, str(backbone.extra["adapter"])).base_model.model  # the same model, its layers with LoRA in place


@contextmanager
def old_names() -> Iterator[None]:
    """peft 0.21 asks transformers 5.23 for `is_gradient_checkpointing`, an old name: nothing that a user could change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def check_fit(folder: Path, told: dict[str, Any]) -> None:
    """Refuse a checkpoint that leaves a part of the model at random, or has parts that the model does not."""
    lacks = sorted(name for name in told["missing_keys"] if "lm_head" not in name)
    strange = sorted(name for name in told["unexpected_keys"] if not any(part in name for part in UNUSED))
    if lacks or strange or told.get("mismatched_keys"):
        wrong = f"{len(lacks)} tensors are missing ({', '.join(lacks[:2])})" if lacks else f"{len(strange)} have no place ({', '.join(strange[:2])})"
        raise ModelError(f"{folder}: the weights do not fit the model: {wrong}", hint="fetch the model again")


def is_full(error: RuntimeError) -> bool:
    """Whether memory ran out: a GPU has a class of its own for it, a CPU has none."""
    return isinstance(error, torch.OutOfMemoryError) or bool(should_reduce_batch_size(error))


def available_memory(told: Path = Path("/proc/meminfo")) -> int:
    """Bytes of main memory that can be had without swapping: file caches count as free, unlike in `SC_AVPHYS_PAGES`. No limit where nobody tells."""
    if told.exists() and (found := re.search(r"^MemAvailable:\s+(\d+) kB", told.read_text(), re.M)):
        return int(found[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_AVPHYS_PAGES" in os.sysconf_names else 1 << 62


def places(mask: Tensor) -> Tensor:
    """Positions counted from the first real token of each row, int64 [B, T].    mask: [B, T], 1 for real tokens."""
    return (mask.long().cumsum(dim=-1) - 1).clamp(min=0)


def shared_start(rows: Sequence[Tensor]) -> int:
    """How many tokens at the beginning all rows have in common; at least one of each row is left over."""
    shortest = min(len(row) for row in rows)
    table = torch.stack([row[:shortest] for row in rows])  # [B, shortest]
    same = (table == table[:1]).all(dim=0)
    return min(shortest - 1, int(same.long().cumprod(dim=0).sum()))

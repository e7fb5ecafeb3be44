"""Tiny multimodal language models with random weights, made on the spot: the same classes, files and chat templates as the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

WORDS = (
    "Describe this image in one word: Describe this sentence in one word: desribe modified image in one word: Modify this image with make it red green blue "
    "yellow pink white cyan gray the a something circle square triangle cross bar ring pole corner same but colour"
)
PHI = ("<s>", "<|end|>", "<|user|>", "<|assistant|>", "<image>", "<pad>")
QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
PHI_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZE = 32  # px of a LLaVA's picture, in patches of 8


def tokenizer(special: tuple[str, ...], **more: object) -> PreTrainedTokenizerFast:
    """A byte-level BPE that has seen the words of the prompts."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator([WORDS] * 3, trainers.BpeTrainer(vocab_size=420, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=made, **more)


def text_settings(words: PreTrainedTokenizerFast, width: int, layers: int = 2) -> dict[str, object]:
    return {"vocab_size": len(words), "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}  # fmt: skip


def llava(folder: Path, *, phi: bool = False, width: int = 32, spread: float = 0.02, seed: int = 0) -> Path:
    """A LLaVA in the format that transformers writes.

    phi: with a Phi-3 as language model, as the released composer has it. spread: standard deviation of the random weights.
    """
    words = tokenizer(PHI, bos_token="<s>", eos_token="<|end|>", pad_token="<pad>", chat_template=PHI_TEMPLATE)
    vision = CLIPVisionConfig(hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=4, image_size=SIZE, patch_size=8)
    text = (Phi3Config if phi else LlamaConfig)(**text_settings(words, width), initializer_range=spread)
    config = LlavaConfig(vision_config=vision, text_config=text, initializer_range=spread, image_token_index=words.convert_tokens_to_ids("<image>"))
    torch.manual_seed(seed)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    pixels = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    processor = LlavaProcessor(pixels, words, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1)
    processor.save_pretrained(folder)
    return folder


def released(folder: Path) -> Path:
    """The shape of InstructCIR's released checkpoint at a small width, in the files of transformers 4.42 and under its own class name.

    24 layers of vision, 32 of language, a picture of 224 px in patches of 14, the projection that is in the file and unused.
    """
    words = tokenizer(PHI, bos_token="<s>", eos_token="<|end|>", pad_token="<pad>", chat_template=PHI_TEMPLATE)
    vision = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=24, num_attention_heads=4, image_size=224, patch_size=14)
    text = Phi3Config(**text_settings(words, 32, 32))
    torch.manual_seed(3)
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=words.convert_tokens_to_ids("<image>")))
    model.save_pretrained(folder)
    tensors = {name.replace("vision_tower.", "vision_tower.vision_model."): value for name, value in load_file(folder / "model.safetensors").items()}
    tensors |= {"ret_proj.weight": torch.randn(8, 32), "ret_proj.bias": torch.randn(8)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "instructcir_llava_phi35", "architectures": ["InstructCIRLlavaPhi35ForConditionalGeneration"], "ret_proj_dim": 8,
               "transformers_version": "4.42.0", "torch_dtype": "float16"}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    words.save_pretrained(folder)
    pixels = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "image_processor_type": "CLIPImageProcessor", "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps({**pixels, "processor_class": "LlavaProcessor"}))
    own = {"processor_class": "LlavaProcessor", "patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    (folder / "processor_config.json").write_text(json.dumps(own))
    return folder


def qwen(folder: Path, *, width: int = 32, seed: int = 0) -> Path:
    """A Qwen2-VL: pictures in patches of 8 merged two by two, positions in three dimensions."""
    words = tokenizer(QWEN, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=QWEN_TEMPLATE)
    number = words.convert_tokens_to_ids
    config = Qwen2VLConfig(
        vision_config={"depth": 2, "embed_dim": width, "hidden_size": width, "num_heads": 4, "patch_size": 8, "mlp_ratio": 2},
        text_config={**text_settings(words, width), "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}},
        image_token_id=number("<|image_pad|>"), video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"), vision_end_token_id=number("<|vision_end|>"),
    )  # fmt: skip
    torch.manual_seed(seed)
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    sizes = {"patch_size": 8, "size": {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}}
    Qwen2VLProcessor(Qwen2VLImageProcessor(**sizes), words, Qwen2VLVideoProcessor(**sizes), chat_template=QWEN_TEMPLATE).save_pretrained(folder)
    return folder


KINDS: dict[str, Callable[[Path], Path]] = {"llava": llava, "qwen": qwen}

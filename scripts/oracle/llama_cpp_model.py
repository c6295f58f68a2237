"""llama.cpp as a function from token ids to logits, through the C bindings of PyPI's llama-cpp-python.

LLAMA_CPP_LIB_PATH may name the folder of a libllama.so to use instead of the one in the package.
"""

import ctypes
from pathlib import Path

import llama_cpp as c
import numpy as np


class Model:
    """A GGUF file with one sequence, to which `append` adds tokens.

    With `kv` "f16" (llama.cpp's default) attention takes its fused kernel, which rounds to float16 inside; with "f32" it is
    computed step by step in float32.
    """

    def __init__(self, path: Path, context: int, kv: str = "f16", threads: int = 2):
        c.llama_backend_init()
        self._silence = c.llama_log_callback(lambda level, text, data: None)
        c.llama_log_set(self._silence, ctypes.c_void_p(0))
        model = c.llama_model_default_params()
        model.n_gpu_layers = 0
        self.model = c.llama_model_load_from_file(str(path).encode(), model)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        params = c.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = context
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = {"f16": -1, "f32": 0}[kv]
        params.type_k = params.type_v = {"f16": c.GGML_TYPE_F16, "f32": c.GGML_TYPE_F32}[kv]
        self.context = c.llama_init_from_model(self.model, params)
        self.vocab = c.llama_model_get_vocab(self.model)
        self.vocab_size = c.llama_vocab_n_tokens(self.vocab)
        self.length = 0

    def append(self, tokens: list[int]) -> np.ndarray:
        """Logits [len(tokens), vocab] after each of the tokens, which follow those of earlier calls."""
        batch = c.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = self.length + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = 1
        status = c.llama_decode(self.context, batch)
        c.llama_batch_free(batch)
        if status != 0:
            raise SystemExit(f"llama_decode gave status {status}")
        self.length += len(tokens)
        rows = [np.ctypeslib.as_array(c.llama_get_logits_ith(self.context, i), (self.vocab_size,)) for i in range(len(tokens))]
        return np.array(rows, np.float32)

    def clear(self) -> None:
        c.llama_memory_clear(c.llama_get_memory(self.context), True)
        self.length = 0

    def tokenize(self, text: str) -> list[int]:
        """Ids of `text` with special tokens recognised and none added."""
        data = text.encode()
        out = (c.llama_token * (len(data) + 8))()
        count = c.llama_tokenize(self.vocab, data, len(data), out, len(out), False, True)
        return out[:count]

    def metadata(self, key: str) -> str:
        out = ctypes.create_string_buffer(1 << 16)
        if c.llama_model_meta_val_str(self.model, key.encode(), out, len(out)) < 0:
            raise SystemExit(f"no metadata {key}")
        return out.value.decode()

    def ends_generation(self, token: int) -> bool:
        return c.llama_vocab_is_eog(self.vocab, token)

    def piece(self, token: int) -> bytes:
        out = ctypes.create_string_buffer(256)
        length = c.llama_token_to_piece(self.vocab, token, out, len(out), 0, True)
        return out.raw[:length]

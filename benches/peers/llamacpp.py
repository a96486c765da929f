"""llama.cpp as an engine for table.py: llamacpp.py MODEL.gguf q8_0|q4_0 [plain] [no-flash]. Writes the model if it is
not there: random weights in the shape of Qwen3-0.6B. Its vocabulary has 1,024 tokens, so that the output layer, which
llama.cpp cannot leave out, costs as much as the guard's four heads instead of a quarter of the step. `plain` leaves the
weights as they are in the file, and with that AMX out; `no-flash` switches flash attention off."""

import ctypes
import os
import sys

import gguf
import llama_cpp as llama
import numpy as np

from engine import SHAPE, serve

VOCABULARY = 1024


def write_model(path, kind, vocabulary):
    hidden, ffn, dim = SHAPE["hidden"], SHAPE["ffn"], SHAPE["head_dim"]
    writer = gguf.GGUFWriter(path + ".partial", "qwen3")
    writer.add_block_count(SHAPE["layers"])
    writer.add_context_length(32768)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(SHAPE["heads"])
    writer.add_head_count_kv(SHAPE["kv_heads"])
    writer.add_key_length(dim)
    writer.add_value_length(dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("none")
    quantized = gguf.GGMLQuantizationType[kind.upper()]
    writer.add_file_type(getattr(gguf.LlamaFileType, "MOSTLY_" + kind.upper()))
    random = np.random.default_rng(1)

    def matrix(name, outputs, inputs):
        weights = random.standard_normal((outputs, inputs), dtype=np.float32) * 0.02
        writer.add_tensor(name, gguf.quants.quantize(weights, quantized), raw_dtype=quantized)

    def norm(name, size):
        writer.add_tensor(name, np.ones(size, np.float32))

    matrix("token_embd.weight", vocabulary, hidden)
    norm("output_norm.weight", hidden)
    for layer in range(SHAPE["layers"]):
        block = f"blk.{layer}."
        norm(block + "attn_norm.weight", hidden)
        norm(block + "ffn_norm.weight", hidden)
        norm(block + "attn_q_norm.weight", dim)
        norm(block + "attn_k_norm.weight", dim)
        matrix(block + "attn_q.weight", SHAPE["heads"] * dim, hidden)
        matrix(block + "attn_k.weight", SHAPE["kv_heads"] * dim, hidden)
        matrix(block + "attn_v.weight", SHAPE["kv_heads"] * dim, hidden)
        matrix(block + "attn_output.weight", hidden, SHAPE["heads"] * dim)
        matrix(block + "ffn_gate.weight", ffn, hidden)
        matrix(block + "ffn_up.weight", ffn, hidden)
        matrix(block + "ffn_down.weight", hidden, ffn)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(path + ".partial", path)


@llama.llama_log_callback
def log_errors(level, text, _):
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        sys.stderr.write(text.decode())


def load_model(path, plain=False):
    llama.llama_log_set(log_errors, ctypes.c_void_p(0))
    llama.llama_backend_init()
    params = llama.llama_model_default_params()
    params.use_extra_bufts = not plain
    return llama.llama_model_load_from_file(path.encode(), params)


class Engine:
    def __init__(self, path, plain, flash):
        self.flash = flash
        self.model = load_model(path, plain)
        self.random = np.random.default_rng(2)
        self.context = None
        self.length = 0

    def prepare(self, count, length):
        if self.context:
            llama.llama_free(self.context)
        params = llama.llama_context_default_params()
        # For the most new tokens that a case has.
        room = (length + 512 + 255) // 256 * 256
        params.n_ctx = count * room
        params.n_seq_max = count
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = len(os.sched_getaffinity(0))
        # All else is as the library has it: keys and values in f16, flash attention wherever it can be used.
        if not self.flash:
            params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama.llama_init_from_model(self.model, params)
        self.memory = llama.llama_get_memory(self.context)
        self.batch = llama.llama_batch_init(512, 0, 1)
        for start in range(0, length, 256):
            self.length = start
            self.step(1, min(256, length - start))
        self.length = length
        for stream in range(1, count):
            llama.llama_memory_seq_cp(self.memory, 0, stream, -1, -1)

    def step(self, streams, new):
        batch = self.batch
        batch.n_tokens = streams * new
        for index in range(streams * new):
            stream, offset = divmod(index, new)
            batch.token[index] = int(self.random.integers(VOCABULARY))
            batch.pos[index] = self.length + offset
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = stream
            batch.logits[index] = True
        if llama.llama_decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")
        llama.llama_synchronize(self.context)

    def roll_back(self, streams, _new):
        for stream in range(streams):
            llama.llama_memory_seq_rm(self.memory, stream, self.length, -1)


def info():
    return {"version": llama.__version__, "system": llama.llama_print_system_info().decode()}


def main():
    path, kind, *options = sys.argv[1:]
    if not os.path.exists(path):
        write_model(path, kind, VOCABULARY)
    engine = Engine(path, "plain" in options, "no-flash" not in options)
    serve(info, engine.prepare, engine.step, engine.roll_back)


if __name__ == "__main__":
    main()

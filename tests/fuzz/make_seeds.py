#!/usr/bin/env python3
"""Writes what the fuzz targets start from: small valid inputs, one folder and one dictionary a target.

    make_seeds.py FOLDER
"""
import json
import pathlib
import struct
import sys

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "goldens"
U32, F32, BOOL, STRING, ARRAY, U64, I32 = 4, 6, 7, 8, 9, 10, 5
TENSOR_TYPES = {  # number: (elements, bytes) of a block
    0: (1, 4), 1: (1, 2), 30: (1, 2), 8: (32, 34), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 10: (256, 84), 11: (256, 110),
    12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 39: (32, 17)}


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def value(type_, content):
    if type_ == STRING:
        return string(content)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q"}[type_], content)


def gguf(keys, tensors=(), version=3, alignment=32):
    """keys: (name, type, value) or (name, (ARRAY, type), values); tensors: (name, type number, dimensions, innermost first)."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    for name, type_, content in keys:
        out += string(name)
        if isinstance(type_, tuple):
            out += struct.pack("<IIQ", ARRAY, type_[1], len(content)) + b"".join(value(type_[1], v) for v in content)
        else:
            out += struct.pack("<I", type_) + value(type_, content)
    data = b""
    for name, number, dims in tensors:
        data += b"\0" * (-len(data) % alignment)
        elements = 1
        for dim in dims:
            elements *= dim
        block, size = TENSOR_TYPES[number]
        out += string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", number, len(data))
        data += b"\x3c" * (elements // block * size)
    return out + b"\0" * (-len(out) % alignment) + data


def model_keys(architecture, **more):
    sizes = {"block_count": 2, "embedding_length": 8, "feed_forward_length": 16, "attention.head_count": 4, "attention.head_count_kv": 2, "context_length": 64}
    keys = [("general.architecture", STRING, architecture)] + [(f"{architecture}.{k}", U32, v) for k, v in sizes.items()]
    keys += [(f"{architecture}.attention.layer_norm_rms_epsilon", F32, 1e-5), (f"{architecture}.rope.freq_base", F32, 1e4)]
    for key, content in more.items():
        type_ = STRING if isinstance(content, str) else F32 if isinstance(content, float) else U32
        keys.append((f"{architecture}.{key.replace('__', '.')}", type_, content))
    return keys


def gguf_seeds():
    embedding = ("token_embd.weight", 0, (8, 5))
    for architecture in ("llama", "qwen2", "qwen3", "smollm3", "phi3", "granite", "olmo2"):
        yield gguf(model_keys(architecture), [embedding])
    yield gguf(model_keys("llama", rope__scaling__type="yarn", rope__scaling__factor=4.0, rope__scaling__original_context_length=16, vocab_size=5), [embedding])
    yield gguf(model_keys("llama", rope__scaling__type="linear", rope__scaling__factor=4.0, attention__sliding_window=8), [embedding, ("rope_freqs.weight", 0, (1,))])
    yield gguf(model_keys("phi3", rope__dimension_count=2, attention__key_length=4, attention__value_length=4), [embedding, ("rope_factors_long.weight", 0, (1,)), ("rope_factors_short.weight", 0, (1,))])
    yield gguf(model_keys("granite", embedding_scale=12.0, residual_scale=0.2, attention__scale=0.01, logit_scale=8.0), [embedding, ("output.weight", 1, (8, 5))])
    yield gguf([("general.architecture", STRING, "llama"), ("general.alignment", U32, 8)] + model_keys("llama")[1:], [embedding], version=2, alignment=8)
    for number, (block, _) in TENSOR_TYPES.items():
        yield gguf([("general.architecture", STRING, "llama")], [("a", number, (block, 2)), ("b", 0, (1,))])
    yield gguf([("a", I32, -1), ("b", BOOL, True), ("c", U64, 7), ("d", (ARRAY, STRING), ["x", "", "yz"]), ("e", (ARRAY, F32), [1.0, 2.0]), ("f", (ARRAY, BOOL), [True, False])])


def safetensors(header, data_bytes):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + b"\x3c" * data_bytes


def safetensors_seeds():
    def entry(dtype, shape, begin, end):
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    yield safetensors({}, 0)
    for dtype, size in (("F32", 4), ("F16", 2), ("BF16", 2), ("F8_E4M3", 1), ("I32", 4), ("I64", 8), ("U8", 1)):
        yield safetensors({"__metadata__": {"format": "pt"}, "a": entry(dtype, [2, 3], 0, 6 * size), "b": entry(dtype, [], 6 * size, 7 * size)}, 7 * size)
    yield safetensors({"a": entry("F32", [0, 4], 0, 0), "b": entry("F32", [1], 0, 4), "model.layers.0.mlp.down_proj.weight": entry("BF16", [1, 2], 4, 8)}, 8)
    yield safetensors(b'{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}   ', 2)


def config_seeds():
    seen = set()
    for path in sorted(GOLDENS.glob("tiny/*/config.json")):
        text = json.dumps(json.loads(path.read_text()), separators=(",", ":"))
        if text not in seen:
            seen.add(text)
            yield text.encode()


def alphabet(byte):
    """GPT-2's letter for a byte."""
    kept = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b]
    return chr(byte if byte in kept else 256 + [b for b in range(256) if b not in kept].index(byte))


TEXTS = ["Hello, wörld 123!", "  aaaaaa\n\n\tab ab<s>ab </s>x", "你好 😀 it's", "", "\xff\x00a\u180e"]
LETTERS = [alphabet(b) for b in b" \nabcdehlorw,!123'\xc3\xb6\xe4\xbd\xa0"]
MERGES = [("a", "b"), ("l", "l"), ("a", "a"), ("aa", "aa"), (alphabet(32), "a"), ("h", "e"), ("he", "ll")]


def tokenizer_seeds():
    tokens = LETTERS + [a + b for a, b in MERGES]
    added = [{"id": len(tokens) + i, "content": c, "special": i < 2, "normalized": i > 1, "lstrip": i == 1, "rstrip": i == 2, "single_word": i == 3}
             for i, c in enumerate(["<s>", "</s>", "wörld", "ab"])]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": [f"{a} {b}" for a, b in MERGES]}
    split = {"type": "Split", "pattern": {"Regex": r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"}, "behavior": "Isolated", "invert": False}
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [len(tokens)], "tokens": ["<s>"]}}}
    bases = [
        {"model": model, "pre_tokenizer": byte_level},
        {"model": model | {"merges": [list(m) for m in MERGES], "unk_token": "!", "ignore_merges": True}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level | {"use_regex": False}]},
         "added_tokens": added, "decoder": {"type": "ByteLevel"}, "post_processor": {"type": "Sequence", "processors": [byte_level, template]}},
        {"model": model, "added_tokens": added, "normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]}},
        {"model": {"type": "BPE", "byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>", "vocab": {t: i for i, t in enumerate(["<unk>", "<0x0A>", "<0xC3>", "\u2581", "a", "b", "ab", "\u2581a"])},
                   "merges": ["a b", "\u2581 a"]}, "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
         "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}},
        {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["\u2581", -2.0], ["a", -3.0], ["ab", -2.5], ["\u2581a", -4.0]]}, "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first"}},
    ]
    for i, base in enumerate(bases):
        for text in TEXTS[: 5 if i < 2 else 1]:
            yield json.dumps(base, ensure_ascii=False, separators=(",", ":")).encode() + b"\xff" + text.encode("latin-1", "ignore" if i % 2 else "replace")
    for pre in ("default", "llama-bpe", "smollm", "qwen2"):
        for text in TEXTS[:3]:
            data = text.encode()
            keys = [("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, pre), ("tokenizer.ggml.tokens", (ARRAY, STRING), tokens + ["<s>", "</s>"]),
                    ("tokenizer.ggml.token_type", (ARRAY, I32), [1] * len(tokens) + [3, 4]), ("tokenizer.ggml.merges", (ARRAY, STRING), [f"{a} {b}" for a, b in MERGES]),
                    ("tokenizer.ggml.bos_token_id", U32, len(tokens)), ("tokenizer.ggml.add_bos_token", BOOL, True)]
            yield gguf(keys) + data + bytes([len(data)])
    pieces = ["<unk>", "<s>", "</s>", "<0x0A>", "<0x61>", "\u2581", "a", "b", "ab", "\u2581a"]
    yield gguf([("tokenizer.ggml.model", STRING, "llama"), ("tokenizer.ggml.tokens", (ARRAY, STRING), pieces), ("tokenizer.ggml.scores", (ARRAY, F32), [-float(i) for i in range(len(pieces))]),
                ("tokenizer.ggml.token_type", (ARRAY, I32), [2, 3, 3, 6, 6] + [1] * 5), ("tokenizer.ggml.add_space_prefix", BOOL, True)]) + b"ab a" + bytes([4])
    for model in sentencepiece_seeds():
        yield model + b"ab \na <x>" + bytes([9])


def varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def message(*fields):
    """Protocol buffers: (number, bytes), (number, a float) or (number, an integer)."""
    out = b""
    for number, content in fields:
        if isinstance(content, bytes):
            out += varint(number << 3 | 2) + varint(len(content)) + content
        elif isinstance(content, float):
            out += varint(number << 3 | 5) + struct.pack("<f", content)
        else:
            out += varint(number << 3) + varint(content)
    return out


def sentencepiece_seeds():
    for model_type in (1, 2):  # unigram, BPE
        pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("<0x0A>", 0.0, 6), ("<0x61>", 0.0, 6), ("\u2581", -1.0, 1), ("a", -2.0, 1), ("b", -3.0, 1), ("ab", -2.5, 1), ("\u2581a", -4.0, 1), ("<x>", 0.0, 4)]
        entries = [(1, message((1, text.encode()), (2, score), (3, kind))) for text, score, kind in pieces]
        trainer = message((3, model_type), (35, 1), (40, 0), (41, 1), (42, 2))
        for normalizer in (message((1, b"identity"), (3, 1), (4, 0), (5, 1)), message((1, b"nmt_nfkc"), (2, struct.pack("<I", 8) + struct.pack("<II", 0, 0)), (3, 0), (4, 1), (5, 1))):
            yield message(*entries, (2, trainer), (3, normalizer))


def template_seeds():
    goldens = json.loads((GOLDENS / "templates.json").read_text())
    stored = set()
    for case in goldens["cases"]:
        text = case["template"]
        if not isinstance(text, str):  # a whole program
            if text["named"] in stored:
                continue
            stored.add(text["named"])
            text = goldens["templates"][text["named"]]
        variables = json.dumps(case["variables"], ensure_ascii=False, separators=(",", ":")) if "variables" in case else ""
        yield text.encode() + (b"\xff" + variables.encode("utf-8", "replace") if variables else b"")


def constraint_seeds():
    """GBNF after g, schemas after j, regular expressions after r."""
    yield b'groot ::= "a" b* | [^x-z\\n]{2,3}\nb ::= "[" (b ("," b)*)? "]" # nests\n'
    yield b'groot ::= object\nvalue ::= object | array | string | "null"\nobject ::= "{" (string ":" value ("," string ":" value)*)? "}"\narray ::= "[" (value ("," value)*)? "]"\nstring ::= "\\"" [^"\\\\\\x00-\\x1f]* "\\""\n'
    yield b'groot ::= (("a"?){0,9}){2,} <tool> .+ "\\u00e9\\U0001F600"'
    yield br"r^(a|b+)?[^\d\s]{1,3}\u{1F600}(?:x|\.)*?$"
    schemas = [
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": -3, "exclusiveMaximum": 17}, "b": {"type": ["string", "null"], "maxLength": 100}}, "required": ["b"], "additionalProperties": {"type": "number", "maximum": 0.25}},
        {"$defs": {"n": {"type": "array", "prefixItems": [{"const": 1}], "items": {"$ref": "#/$defs/n"}, "maxItems": 3}}, "anyOf": [{"$ref": "#/$defs/n"}, {"enum": ["a", None, {"b": [1.5]}]}]},
        {"allOf": [{"type": "object", "properties": {"x": {"type": "string", "pattern": "^a+|b$"}}}, {"required": ["x", "y"], "properties": {"x": True}}]},
        {"type": "string", "format": "date-time"}]
    for schema in schemas:
        yield b"j" + json.dumps(schema).encode()


def http_seeds():
    """In pieces of how many bytes, then requests."""
    body = '{"prompt":"x"}'
    for cut, bytes_ in (
            (3, "GET /v1/models?a=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\nHEAD /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
            (17, f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-Request-Id: 1\r\nContent-Length: {len(body)}\r\n\r\n{body}GET / HTTP/1.1\r\nConnection: close\r\n\r\n"),
            (1, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: u\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
            (40, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            (9, "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"), (63, "POST / HTTP/1.1\r\nContent-Length: 257\r\n\r\n"),
            (31, "GET / HTTP/1.1\r\n" + "A: b\r\n" * 9 + "\r\n"), (5, "GET /" + "a" * 500 + " HTTP/1.1\r\nHost: x\r\n\r\n"), (2, "GET / HTTP/1.1\n\n")):
        yield bytes([cut - 1]) + bytes_.encode()


def call_seeds():
    """Bodies: of /v1/completions after c, chats after m, /tokenize, /detokenize and /apply-template after t, d and a."""
    sampling = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": -0.5, "seed": 7, "max_tokens": 16, "min_tokens": 2}
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}}
    user, schema = {"role": "user", "content": "hi"}, {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}}
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]}
    for route, body in (
            ("c", {"model": "tiny", "prompt": "abc", "stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": False}, **sampling}),
            ("c", {"prompt": [[1, 2], [3]], "n": 2, "best_of": 2, "logprobs": 5, "logit_bias": {"5": -100, "7": 1.5}, "stop": ["x", ""], "stop_token_ids": [3], "ignore_eos": True}),
            ("c", {"prompt": ["a", "b"], "echo": True, "suffix": "", "user": "u", "cache_prompt": False, "priority": -3, "include_stop_str_in_output": True, "skip_special_tokens": False, "add_special_tokens": False}),
            ("c", {"prompt": [1, 2, 3], "grammar": "root ::= [a-c]+"}), ("c", {"prompt": "a", "guided_regex": "[ab]{1,3}", "guided_choice": None}),
            ("c", {"prompt": "a", "structured_outputs": {"choice": ["x", "y"]}}), ("c", {"prompt": "a", "guided_json": json.dumps(schema), "prompt_logprobs": None}),
            ("c", {"prompt": "a", "prompt_logprobs": 2, "allowed_token_ids": [1, 2], "bad_words": ["a", " b c"], "echo": True, "logprobs": 1, "max_tokens": 0}),
            ("m", {"model": "other", "messages": [{"role": "system", "content": "s"}, user], "max_completion_tokens": 8, "logprobs": True, "top_logprobs": 3, **sampling}),
            ("m", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]}]}),
            ("m", {"messages": [user, called, {"role": "tool", "tool_call_id": "1", "content": "2"}], "tools": [tool], "tool_choice": "auto", "parallel_tool_calls": False, "chat_template_kwargs": {"thinking": True}}),
            ("m", {"messages": [user], "tools": [tool], "tool_choice": {"type": "function", "function": {"name": "f"}}}), ("m", {"messages": [user], "tools": [tool], "tool_choice": "required"}),
            ("m", {"messages": [user], "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}), ("m", {"messages": [user], "response_format": {"type": "json_object"}}),
            ("m", {"messages": [user, {"role": "assistant", "content": "so"}], "continue_final_message": True, "add_generation_prompt": False}),
            ("t", {"prompt": "a b", "add_special_tokens": False}), ("t", {"content": "a", "add_special": True, "with_pieces": True}), ("t", {"messages": [user]}), ("d", {"tokens": [1, 2, 3]}),
            ("a", {"messages": [user], "tools": [tool], "add_generation_prompt": False})):
        yield (route + json.dumps(body, separators=(",", ":"))).encode()


WORDS = {
    "http": ["GET ", "POST ", "HEAD ", " HTTP/1.1\\x0d\\x0a", " HTTP/1.0\\x0d\\x0a", "\\x0d\\x0a", "\\x0d\\x0a\\x0d\\x0a", "\\x0d\\x0a ", "Content-Length: ", "Transfer-Encoding: ", "chunked", "gzip", "identity", "Connection: ", "keep-alive", "close", "Upgrade: ",
             "Expect: 100-continue", "Host: ", "0\\x0d\\x0a\\x0d\\x0a", "ffffffffffffffff", "18446744073709551616", "-1", "+5", ";x=\\x22\\x22"],
    "call": ["model", "prompt", "messages", "role", "content", "text", "type", "image_url", "tool_calls", "arguments", "tools", "function", "tool_choice", "required", "parallel_tool_calls", "response_format", "json_schema", "schema", "json_object", "grammar", "guided_json",
             "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "temperature", "top_p", "top_k", "min_p", "n", "best_of", "stop", "seed", "logprobs", "top_logprobs", "logit_bias", "max_tokens", "max_completion_tokens", "min_tokens", "ignore_eos", "stream",
             "stream_options", "include_usage", "continue_final_message", "add_generation_prompt", "chat_template_kwargs", "echo", "suffix", "stop_token_ids", "tokens", "null", "true", "-1", "1e308", "1e999", "18446744073709551615", "9223372036854775808", "2147483648", "0.0", "[]", "{}", "\\\\u0000"],
    "constraint": ["root ::= ", "::=", "{0,99}", "{1,}", "[^", "\\\\u00e9", "<tool>", "$ref", "#/$defs/", "allOf", "anyOf", "properties", "required", "additionalProperties", "prefixItems", "items", "minItems", "maxItems", "minLength", "maxLength",
                   "pattern", "format", "date-time", "minimum", "exclusiveMaximum", "enum", "const", "integer", "number", "1e308", "-1", "100000", "\\\\d", "(?:", "(?="],
    "gguf": ["GGUF", "general.architecture", "general.alignment", "llama", "qwen3", "phi3", "granite", "block_count", "rope.scaling.type", "yarn", "longrope", "attention.sliding_window",
             "rope_factors_long.weight", "rope_factors_short.weight", "rope_freqs.weight", "token_embd.weight", "output.weight", "\\x00\\x00\\x00\\x80\\xff\\xff\\xff\\xff", "\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff", "\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x20"],
    "safetensors": ['\\"dtype\\":', '\\"shape\\":', '\\"data_offsets\\":', "F32", "BF16", "F8_E4M3", "__metadata__", "18446744073709551615", "4294967296", "-1", "1e308", "[0,0]"],
    "config": ["rope_scaling", "rope_parameters", "rope_type", "llama3", "yarn", "longrope", "short_factor", "long_factor", "factor", "layer_types", "no_rope_layers", "sliding_window", "use_sliding_window",
               "partial_rotary_factor", "head_dim", "quantization_config", "true", "null", "1e308", "1e999", "-1", "16777216", "18446744073709551615", "model_type", "phi3", "smollm3", "granite", "olmo2"],
    "tokenizer": ["vocab", "merges", "added_tokens", "pre_tokenizer", "pretokenizers", "normalizer", "decoder", "post_processor", "ByteLevel", "Split", "Digits", "Sequence", "TemplateProcessing", "Metaspace",
                  "Unigram", "byte_fallback", "<0x-1>", "<0xFF>", "(?=", "(?<!", "\\\\p{L}+", "(a+)+$", "{1,3}", "\\\\K", "(?R)", "\\xe2\\x96\\x81", "\\xff", "single_word", "lstrip", "rstrip", "16777215"],
    "template": ["{%", "%}", "{{", "}}", "{#", "#}", "-%}", "{%-", "{% if ", "{% endif %}", "{% for x in ", "{% endfor %}", "{% set ", "{% macro m() %}", "{% endmacro %}", "{% call ", "{% filter ", "namespace(", "loop.",
                 "|tojson", "|map(", "|selectattr(", "|join(", "|replace(", "|indent(", "range(", " is ", " in ", " not ", " if ", " else ", "**", "//", "[::-1]", "raise_exception(", "strftime_now(", ".split(", ".format(",
                 "messages", "9223372036854775807", "1e308", "\\xff", "[[[", "{% raw %}", "{% endraw %}", "{% generation %}", "caller()"],
}


def main():
    folder = pathlib.Path(sys.argv[1])
    for target, seeds in {"gguf": gguf_seeds, "safetensors": safetensors_seeds, "config": config_seeds, "tokenizer": tokenizer_seeds, "template": template_seeds,
                          "constraint": constraint_seeds, "http": http_seeds, "call": call_seeds}.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for i, seed in enumerate(seeds()):
            (folder / target / f"seed{i:03}").write_bytes(seed)
        (folder / f"{target}.dict").write_text("".join(f'"{word}"\n' for word in WORDS[target]))


if __name__ == "__main__":
    main()

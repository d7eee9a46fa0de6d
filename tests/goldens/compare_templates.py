#!/usr/bin/env python3
"""Compares `redline template` with jinja2 on templates that lie elsewhere.

    compare_templates.py REDLINE TEMPLATES [NAME]

REDLINE: the program. TEMPLATES: a folder or a .tar.gz, of which every *.jinja is taken, such as the published templates
in llama.cpp's sources (models/templates/). NAME: only templates with this in their names. Each is rendered over the
conversations below, with and without a generation prompt; texts must be equal byte for byte, and where jinja2 raises,
redline must exit with 1 and name the same line. Prints what differs and a count; exits with 1 where something differs.
Needs: jinja2, gguf (make_template_goldens.py).
"""
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "fuzz")]
from make_seeds import ARRAY, F32, I32, STRING, U32, gguf  # noqa: E402
from make_template_goldens import environment, line_of  # noqa: E402

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather in a \"city\", by day.",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "A city's name", "enum": ["Zürich", "日本"]},
        "days": {"type": ["integer", "null"], "description": "How many", "default": 3},
        "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}}, "required": ["lat"]},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "unit": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "required": ["city"]},
    "return": {"type": "string", "description": "What it is like"}}}
NOTHING = {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}}}


def call(name, arguments, number=None):
    made = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return made | {"id": f"call{number:05}"} if number is not None else made


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text} | more


def system(text):
    return {"role": "system", "content": text}


def tool(text, **more):
    return {"role": "tool", "content": text} | more


ARGUMENTS = {"city": "Zürich", "days": 2, "where": {"lat": 47.37, "lon": -8.0}, "tags": ["a\"b", "c\n"], "unit": None, "exact": True}
CONVERSATIONS = {
    "one turn": {"messages": [user("Hi")]},
    "system": {"messages": [system(" Be brief.\n"), user(" Hi 你好 😀 \n")]},
    "turns": {"messages": [system("Be brief."), user("a"), assistant("b"), user("c\n\nd "), assistant(" e\n"), user("f")]},
    "tools at hand": {"messages": [system("Use tools."), user("Weather?")], "tools": [WEATHER, NOTHING]},
    "a call, its result, an answer": {
        "messages": [user("Weather?"), assistant("", tool_calls=[call("get_weather", ARGUMENTS, 1)]), tool("{\"t\": 21.5}", tool_call_id="call00001", name="get_weather"),
                     assistant("21 °C"), user("Thanks")], "tools": [WEATHER]},
    "calls with arguments as text": {
        "messages": [system("s"), user("Both?"), assistant("Let me see.", tool_calls=[call("get_weather", json.dumps(ARGUMENTS), 1), call("now", "{}", 2)]),
                     tool("dry", tool_call_id="call00001", name="get_weather"), tool("12:00", tool_call_id="call00002", name="now")], "tools": [WEATHER, NOTHING]},
    "a call without text or id": {"messages": [user("Weather?"), assistant(None, tool_calls=[call("now", {})]), tool({"time": "12:00"})], "tools": [NOTHING]},
    "reasoning": {"messages": [user("2+2?"), assistant("4", reasoning_content="Two and two.\nFour.", thinking="Two and two."), user("3+3?"), assistant("6", reasoning_content="Six?"), user("4+4?")]},
    "reasoning in the text": {"messages": [user("2+2?"), assistant("<think>\nhm\n</think>\n\n4"), user("Sure?"), assistant("<think>yes</think>Yes")]},
    "reasoning and a call": {"messages": [user("When?"), assistant("", reasoning_content="Look it up.", tool_calls=[call("now", {"zone": "UTC"}, 3)]), tool("12:00", tool_call_id="call00003", name="now")], "tools": [NOTHING]},
    "parts": {"messages": [system([{"type": "text", "text": "Be kind."}]), user([{"type": "text", "text": " look "}, {"type": "image"}, {"type": "text", "text": "here"}])]},
    "continued": {"messages": [user("Tell me"), assistant("Once upon")]},
    "empty": {"messages": [system(""), user(""), assistant(""), user("x")]},
    "thinking off": {"messages": [user("Hi")], "enable_thinking": False, "thinking": False, "reasoning_effort": "low", "think": False},
    "thinking on": {"messages": [system("s"), user("Hi")], "enable_thinking": True, "thinking": True, "reasoning_effort": "high", "date_string": "1 Jan 2025"},
    "developer": {"messages": [{"role": "developer", "content": "Be <b> & 'c'."}, user("Hi")], "documents": [{"title": "t", "text": "body"}]},
    "no messages": {"messages": []},
    "assistant first": {"messages": [assistant("first"), user("second")]},
    "two users": {"messages": [user("a"), user("b")]},
    "no content": {"messages": [{"role": "user"}]},
    "unknown role": {"messages": [user("a"), {"role": "critic", "content": "b"}]},
}


def model():
    """A model of two dozen numbers, for a program that wants one."""
    keys = [("general.architecture", STRING, "llama")]
    for key, value in {"block_count": 1, "embedding_length": 2, "feed_forward_length": 2, "attention.head_count": 1, "context_length": 8}.items():
        keys.append((f"llama.{key}", U32, value))
    keys += [("llama.attention.layer_norm_rms_epsilon", F32, 1e-5), ("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, "gpt-2"),
             ("tokenizer.ggml.tokens", (ARRAY, STRING), ["<s>", "</s>"]), ("tokenizer.ggml.merges", (ARRAY, STRING), []),
             ("tokenizer.ggml.token_type", (ARRAY, I32), [3, 3]), ("tokenizer.ggml.bos_token_id", U32, 0), ("tokenizer.ggml.eos_token_id", U32, 1)]
    matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    tensors = [("token_embd.weight", 0, (2, 2)), ("output_norm.weight", 0, (2,)), ("blk.0.attn_norm.weight", 0, (2,)), ("blk.0.ffn_norm.weight", 0, (2,))]
    return gguf(keys, tensors + [(f"blk.0.{name}.weight", 0, (2, 2)) for name in matrices])


def sources(place):
    if place.is_dir():
        return {path.name: path.read_text() for path in sorted(place.rglob("*.jinja"))}
    with tarfile.open(place) as archive:
        members = [m for m in archive.getmembers() if m.isfile() and m.name.endswith(".jinja")]
        return {pathlib.PurePath(m.name).name: archive.extractfile(m).read().decode() for m in sorted(members, key=lambda m: m.name)}


def oracle(source, variables):
    """The text, or the line of the error and what it says."""
    try:
        return environment(now=None).from_string(source).render(**variables), None
    except Exception as error:
        return None, (line_of(error), f"{type(error).__name__}: {error}")


class Redline:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        (folder / "model.gguf").write_bytes(model())

    def render(self, source, variables):
        words = [self.program, "template", self.folder / "model.gguf"]
        more = {k: v for k, v in variables.items() if k not in ("messages", "tools", "add_generation_prompt")}
        for name, content in {"template": source, "messages": variables["messages"], "tools": variables["tools"], "vars": more}.items():
            if content is None:
                continue
            path = self.folder / name
            path.write_text(content if name == "template" else json.dumps(content), newline="")
            words += [f"--{name}", path]
        if not variables["add_generation_prompt"]:
            words.append("--no-generation-prompt")
        done = subprocess.run(words, capture_output=True)
        if done.returncode == 0:
            return done.stdout.decode(), None
        message = done.stderr.decode().strip().split("\n")[-1]
        prefix = f"redline: {self.folder / 'template'}: line "
        if done.returncode != 1 or not message.startswith(prefix):
            return None, (None, f"exit {done.returncode}: {message}")
        return None, (int(message[len(prefix):].split(":")[0]), message)


def main():
    program, place = sys.argv[1], pathlib.Path(sys.argv[2])
    chosen = sys.argv[3] if len(sys.argv) > 3 else ""
    templates = {name: source for name, source in sources(place).items() if chosen in name}
    num_cases = num_equal = num_errors = 0
    with tempfile.TemporaryDirectory() as folder:
        redline = Redline(program, pathlib.Path(folder))
        for name, source in templates.items():
            for about, conversation in CONVERSATIONS.items():
                for prompt in (True, False):
                    variables = {"bos_token": "<s>", "eos_token": "</s>", "tools": None, "documents": None, "add_generation_prompt": prompt} | conversation
                    text, error = oracle(source, variables)
                    for _ in range(2):  # once more where a minute may have passed between the two
                        ours, our_error = redline.render(source, variables)
                        if ours == text:
                            break
                        text, error = oracle(source, variables)
                    num_cases += 1
                    num_errors += error is not None
                    # Where endless recursion ends is a matter of either's limits.
                    if ours == text and (error is None or error[0] == our_error[0] or "RecursionError" in error[1]):
                        num_equal += 1
                        continue
                    texts = [text or "", ours or ""]
                    start = max(len(os.path.commonprefix(texts)) - 40, 0)
                    jinja, redlines = (json.dumps(t[start:start + 200]) for t in texts)
                    print(f"{name}, {about}, prompt {prompt}, from {start}:\n  jinja2:  {error or jinja}\n  redline: {our_error or redlines}")
    print(f"{len(templates)} templates: {num_equal} of {num_cases} renderings equal, {num_errors} of them errors at the same lines")
    return 0 if templates and num_equal == num_cases else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Records what Hugging Face's `tokenizers` makes of adversarial texts.

    make_tokenizer_goldens.py SmolLM2-135M-Instruct.Q4_1.gguf

writes, beside itself, in tokenizer/:
  smollm2.json           texts and ids under the GGUF's vocabulary, merges and named pre-tokenizer (transformers'
                         own GGUF reader ignores the name, hence not AutoTokenizer)
  llama3/tokenizer.json  a small tokenizer with Llama 3's pre-tokenizer, trained here, and its neighbours
  llama3.json            texts and ids under it
Each case is [text, ids] or [text, ids, ids without special tokens parsed].
Needs: gguf, tokenizers.
"""
import json
import pathlib
import random
import sys

from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

OUT = pathlib.Path(__file__).parent / "tokenizer"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
# Letters, digits, marks, spaces and signs that pre-tokenizers treat in different ways.
ALPHABETS = [
    "abcXYZ", "0123456789", " \t\n\r", "  \n\n\r\n\x0b\x0c", "'s't're've'm'll'd'S'T'RE'LL", ".,;:!?-_()[]{}<>/\\|@#$%^&*+=~`\"",
    "éàüßñçøåÆŒſKÅ", "αβγΔΩ", "привет", "你好世界,。", "日本語カタカナひらがな", "한국어", "العربية", "עברית", "हिन्दी",
    "ภาษาไทย", "٠١٢٣۴५६௧", "½¼²³①Ⅷ〇", "\u0301\u0308\u20dd\u200d\ufe0f", "😀👍🏽👨‍👩‍👧🇩🇪", "\u00a0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u0085",
    "\u180e\u200b\ufeff\u00ad", "".join(map(chr, range(32))) + "\x7f", "\x80\x9f\u0600\ue000\U000f0000\ufffd\ufffe",
]
FIXED = [
    "", " ", "  ", "   ", "a", " a", "  a", "a ", "a  ", "\n", "\n\n", " \n", "\n ", "\r\n", "a\n", "a\n\nb", "a \n b", "\t\tx",
    "Hello, world!", "Hello world", " Hello  world ", "I'm you're he's she'll they've I'd don't DON'T I'M WE'LL it’s",
    "'s's 'S ' s", "1", "12", "123", "1234", "3.14159", "2024-11-23T02:30:58Z", "1,234,567.89", "x1y22z333", " 1 22 333 4444 ",
    "def f(x):\n    return x ** 2  # square\n\n\nprint(f(3))\n", "\tif (a && b) {\n\t\treturn;\n\t}\r\n", "<html><body>&nbsp;</body></html>",
    "{\"key\": [1, 2, {\"nested\": null}]}", "SELECT * FROM t WHERE a='b';", "https://example.org/a/b?c=d&e=f#g", "C:\\Users\\me\\file.txt",
    "e\u0301 vs é", "ﬁnd", "Straße", "İstanbul", "ǅ", "K (Kelvin)", "'ſ", "a\u00a0b", "a\u180eb", " \u180e ", "a\u0085b", "\u3000\u3000全角",
    "zero\u200bwidth", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "e" + "\u0301" * 30, "naïve café", "𝕌𝕟𝕚𝕔𝕠𝕕𝕖 𝟙𝟚𝟛", "𐍈𐌰", "٣٤٥ ४५६ ௧௨௩", "½ cup ② Ⅷ",
    "a" * 300, " " * 300, "\n" * 300, "." * 300, "0" * 300, "ab" * 200, " a" * 150, "的" * 100, "😀" * 60, "\x00\x01\x02\x1f\x7f", "\ufeffBOM",
    "supercalifragilisticexpialidocious", "antidisestablishmentarianism's", "....!!!???---___", "a.b.c", "...\n\n...", "!\r\n\r\n!", " !\n", "?\n \n?",
]

CORPUS = """It was a bright cold day in the spring, and the clocks of the town were striking one after another. The tokenizer
reads the text from the left to the right; where it finds two neighbours that it has seen together more often than others,
it joins them, and it goes on until nothing is left to be joined. There are 24 hours in a day, 365 days in a year, 1000
metres in a kilometre. What isn't here can't be found: they've looked, we'll look, and I'm sure you'd look too."""


def texts(specials):
    rng = random.Random(20241123)
    cases = list(FIXED)
    for s in specials[:4]:
        cases += [s, s + s, "a" + s + "b", " " + s + " ", s + "\nuser", s[:-1], s[1:], "<" + s + ">", s.replace("|", "| ")]
    cases.append("".join(specials))
    for _ in range(220):
        pool = rng.sample(ALPHABETS, rng.randint(1, 4))
        text = ""
        for _ in range(rng.randint(1, 30)):
            if rng.random() < 0.08:
                text += rng.choice(specials)
            else:
                text += "".join(rng.choice(rng.choice(pool)) for _ in range(rng.randint(1, 6)))
        cases.append(text)
    return cases


def record(tokenizer, path, specials):
    cases = []
    for text in texts(specials):
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(text).ids
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text).ids
        cases.append([text, ids] if ids == plain else [text, ids, plain])
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    path.write_text("[\n" + lines + "\n]\n")


def smollm2(gguf_path):
    fields = GGUFReader(gguf_path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    specials = [t for t, kind in zip(tokens, types) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    record(tokenizer, OUT / "smollm2.json", specials)


def llama3():
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(FIXED * 2 + [CORPUS] * 4, trainers.BpeTrainer(
        vocab_size=640, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    spec = json.loads(tokenizer.to_str())
    vocab = spec["model"]["vocab"]
    for word in ["Ġtokenizer", "Hello", "999"]:  # tokens that no merge makes: reached by ignore_merges alone
        vocab.setdefault(word, len(vocab))
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("<tool>x", normalized=False),
                          AddedToken("中文", normalized=True),
                          AddedToken("word", single_word=True, normalized=True),
                          AddedToken("<right>", rstrip=True, normalized=True)])
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False),
         processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B:1",
                                       special_tokens=[("<|begin_of_text|>", begin)])])
    (OUT / "llama3").mkdir(exist_ok=True)
    (OUT / "llama3/tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), separators=(",", ":")) + "\n")
    (OUT / "llama3/tokenizer_config.json").write_text(json.dumps(
        {"bos_token": "<|begin_of_text|>", "eos_token": {"content": "<|eot_id|>"}, "chat_template": "{{ bos_token }}"}) + "\n")
    (OUT / "llama3/generation_config.json").write_text(json.dumps({"eos_token_id": [
        tokenizer.token_to_id("<|end_of_text|>"), tokenizer.token_to_id("<|eot_id|>")]}) + "\n")
    more = ["<mask>", "<tool>", "<tool>x", "<right>", "word", " word ", "swordfish", "a  <mask>  b", "a <right>  b", "中文"]
    record(tokenizer, OUT / "llama3.json", specials[:2] + more + specials[2:])


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    smollm2(sys.argv[1])
    llama3()

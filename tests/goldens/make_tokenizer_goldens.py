#!/usr/bin/env python3
"""Records what Hugging Face's `tokenizers` and `sentencepiece` make of adversarial texts.

    make_tokenizer_goldens.py SmolLM2-135M-Instruct.Q4_1.gguf

writes, beside itself, in tokenizer/:
  texts.json             the texts, one list for all
  FAMILY/tokenizer.json  a small tokenizer, trained here, with that family's declaration, and its neighbours;
                         or tokenizer.model, or model.gguf
  FAMILY/golden.bin      for each text three CRC-32, little-endian: of its ids (u32 each), of its ids with special
                         tokens not parsed, of the text that the first decode to (0: not compared)
  smollm2.json           [text, ids] or [text, ids, ids without special tokens parsed] under the GGUF's own vocabulary,
                         merges and named pre-tokenizer (transformers' GGUF reader ignores the name)
Needs: gguf, tokenizers, sentencepiece.
"""
import io
import json
import pathlib
import random
import struct
import sys
import unicodedata
import zlib

import gguf
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = pathlib.Path(__file__).parent / "tokenizer"
# Letters, digits, marks, spaces and signs that pre-tokenizers treat in different ways.
ALPHABETS = [
    "abcXYZ", "0123456789", " \t\n\r", "  \n\n\r\n\x0b\x0c", "'s't've'm'll'd'S'T'RE'LL", ".,;:!?-_()[]{}<>/\\|@#$%^&*+=~`\"",
    "éàüßñçøåÆŒſKÅ", "αβγΔΩς", "привет", "你好世界,。", "日本語カタカナひらがなｶﾀ", "한국어각", "العربية", "עברית", "हिन्दी",
    "ภาษาไทย", "٠١٢٣۴५६௧", "½¼²³①Ⅷ〇", "\u0301\u0308\u0316\u20dd\u200d\ufe0f", "😀👍🏽👨‍👩‍👧🇩🇪", "\u00a0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u0085",
    "\u180e\u200b\ufeff\u00ad", "".join(map(chr, range(32))) + "\x7f", "\x80\x9f\u0600\ue000\U000f0000\ufffd\ufffe", "▁▁ _", "ﬁﬃ㍍㈱ＡＢｃ１２…™", "ΑΣİıẞǅ",
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
    "\u0301", "\u0301\u0316", "q\u0323\u0307", "\u1100\u1161\u11a8", "각", "\u0958", "Å", "\ud7ff\ue000", "\uffff", "\U0010ffff", "\U0001fffe", "ẛ̣", "▁", "▁▁▁", " ▁ ", "a▁b",
    "<0x41>", "<0xE4><0xBD>", "<unk>", "x<unk>y", "camelCaseWORDsHTTPServer", "ABCdef GHI", "o'clock's", "l'été", "  leading", "trailing   ", "tab\tseparated\tvalues", "``quoted''",
]
CORPUS = """It was a bright cold day in the spring, and the clocks of the town were striking one after another. The tokenizer
reads the text from the left to the right; where it finds two neighbours that it has seen together more often than others,
it joins them, and it goes on until nothing is left to be joined. There are 24 hours in a day, 365 days in a year, 1000
metres in a kilometre. What isn't here can't be found: they've looked, we'll look, and I'm sure you'd look too."""
SPECIALS = ["<s>", "</s>", "<|im_end|>"]
GLUED = SPECIALS + ["<mask>", "<|end|>", "<tool>", "<tool>x", "<right>", "word", " word ", "swordfish", "a  <mask>  b", "a <right>  b", "<|end|>  \n b", "中文", "x中文y",
                    "<s><s>", "<|im_end|", "< s>", "<s", "USR"]

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + REST
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + REST
QWEN35 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + REST
CAPITALS, SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
WORD = r"[^\r\n\p{L}\p{N}]?"
GPT4O = (WORD + CAPITALS + "*" + SMALL + "+" + CONTRACTIONS + "?|" + WORD + CAPITALS + "+" + SMALL + "*" + CONTRACTIONS
         + r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + REST)
TEKKEN = WORD + CAPITALS + "*" + SMALL + "+|" + WORD + CAPITALS + "+" + SMALL + r"*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + REST
DEEPSEEK_LETTERS = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
DEEPSEEK_V3 = ('[!"' r"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + REST)


def is_known_to_all(c, category):
    """Python knows Unicode 14, as PCRE2 10.42 does; parts of `tokenizers` know older versions."""
    text = "a" + c + "\u0301\u0316"
    for form, ours in (("NFC", normalizers.NFC()), ("NFKD", normalizers.NFKD())):
        if ours.normalize_str(text) != unicodedata.normalize(form, text):
            return False
    is_punctuation = len(PUNCTUATION.pre_tokenize_str("a" + c)) > 1
    return is_punctuation == (category[0] == "P" or c in "$+<=>^`|~") and normalizers.StripAccents().normalize_str("a" + c) == ("a" if category[0] == "M" else "a" + c)


PUNCTUATION = pre_tokenizers.Punctuation()


def texts():
    rng = random.Random(20241123)
    cases = list(FIXED)
    for s in GLUED:
        cases += [s, s + s, "a" + s + "b", " " + s + " ", "\n" + s + "\nuser", s[:-1], s[1:], "<" + s + ">", s.replace("|", "| ")]
    cases.append("".join(GLUED))
    for _ in range(1400):
        pool = rng.sample(ALPHABETS, rng.randint(1, 4))
        text = ""
        for _ in range(rng.randint(1, 30)):
            if rng.random() < 0.08:
                text += rng.choice(GLUED)
            else:
                text += "".join(rng.choice(rng.choice(pool)) for _ in range(rng.randint(1, 6)))
        cases.append(text)
    # Every category of character, among others of it and of ASCII.
    by_category = {}
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        if (category not in ("Cs", "Cn", "Co") and is_known_to_all(chr(code), category)) or code in (0x378, 0xFFFE, 0xE001):
            by_category.setdefault(category, []).append(chr(code))
    for category in sorted(by_category):
        for _ in range(12):
            text = ""
            for _ in range(rng.randint(1, 14)):
                text += rng.choice(by_category[category] + [" ", "a", "1"]) if rng.random() < 0.7 else rng.choice(" aB1.'\n")
            cases.append(text)
    for _ in range(250):
        cases.append("".join(rng.choice(rng.choice(list(by_category.values()))) for _ in range(rng.randint(1, 40))))
    for _ in range(150):
        words = CORPUS.split()
        cases.append(rng.choice(["", " ", "\n"]) + rng.choice([" ", "  ", "\n", " \t"]).join(rng.choice(words) for _ in range(rng.randint(1, 12))))
    return list(dict.fromkeys(cases))


def crc(ids):
    return zlib.crc32(struct.pack(f"<{len(ids)}I", *ids))


def write_golden(folder, rows):
    (folder / "golden.bin").write_bytes(b"".join(struct.pack("<III", *row) for row in rows))


def add_tokens(tokenizer):
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIALS])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False),
                                  AddedToken("<|end|>", rstrip=True, special=True, normalized=False)])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("<tool>x", normalized=False), AddedToken("中文", normalized=True),
                          AddedToken("word", single_word=True, normalized=True), AddedToken("<right>", rstrip=True, normalized=True)])


def family(name, tokenizer, trainer, cases, config=None, post=True, edit=None):
    """Trains, adds tokens, saves and records."""
    tokenizer.train_from_iterator([t for t in FIXED if "<" not in t] * 2 + [CORPUS] * 4 + ["привет мир", "你好世界", "日本語", "한국어"] * 4, trainer)
    if edit:
        spec = json.loads(tokenizer.to_str())
        edit(spec)
        tokenizer = Tokenizer.from_str(json.dumps(spec))
    add_tokens(tokenizer)
    if post:
        begin = tokenizer.token_to_id("<s>")
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", begin)])
    folder = OUT / name
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), separators=(",", ":"), ensure_ascii=False) + "\n")
    for file, value in (config or {}).items():
        (folder / file).write_text(json.dumps(value(tokenizer) if callable(value) else value) + "\n")
    rows = []
    for text in cases:
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(text).ids
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text).ids
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        rows.append((crc(ids), crc(plain), zlib.crc32(decoded.encode()) if "\ufffd" not in decoded else 0))
    write_golden(folder, rows)


def byte_level(name, cases, steps=(), normalizer=None, use_regex=False, prefix=False, last=(), **more):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    steps = list(steps) + [pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)] + list(last)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    tokenizer.decoder = decoders.ByteLevel()
    family(name, tokenizer, trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False), cases, **more)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level_families(cases):
    single, digits3 = pre_tokenizers.Digits(individual_digits=True), split(r"\p{N}{1,3}")
    nfc = normalizers.NFC()

    def ignore_merges(spec):
        spec["model"]["ignore_merges"] = True
        for word in ["Ġtokenizer", "Hello", "999"]:  # tokens that no merge makes
            spec["model"]["vocab"].setdefault(word, len(spec["model"]["vocab"]))

    byte_level("gpt2", cases, use_regex=True, post=False)
    byte_level("roberta", cases, use_regex=True, prefix=True)
    byte_level("gpt_neox", cases, use_regex=True, normalizer=nfc)
    byte_level("llama3", cases, [split(LLAMA3)], edit=ignore_merges, config={
        "tokenizer_config.json": {"bos_token": "<s>", "eos_token": {"content": "<|im_end|>"}, "chat_template": "{{ bos_token }}"},
        "generation_config.json": lambda t: {"eos_token_id": [t.token_to_id("</s>"), t.token_to_id("<|im_end|>")]}})
    byte_level("dbrx", cases, [split(LLAMA3)])
    byte_level("qwen2", cases, [split(QWEN2)], normalizer=nfc)
    byte_level("qwen35", cases, [split(QWEN35)], normalizer=nfc)
    byte_level("smollm", cases, [single], use_regex=True)
    byte_level("command-r", cases, [single], normalizer=nfc, use_regex=True)
    byte_level("gpt-4o", cases, [split(GPT4O)])
    byte_level("tekken", cases, [split(TEKKEN)], edit=ignore_merges)
    cjk = split("[一-龥ࠀ-一가-퟿]+")
    byte_level("deepseek-llm", cases, [split(r"[\r\n]"), split(DEEPSEEK_LETTERS), split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"), cjk, single])
    byte_level("deepseek-coder", cases, [split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), cjk, single])
    byte_level("deepseek-v3", cases, [digits3, split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK_V3)])
    byte_level("falcon", cases, [pre_tokenizers.Punctuation("contiguous")], use_regex=True, last=[pre_tokenizers.Digits(False), split("[0-9][0-9][0-9]")])
    byte_level("bloom", cases, [split(" ?[^(\\s|[.,!?…。，、।۔،])]+")])


def character_families(cases):
    """BPE of characters, and unigram."""
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    prepend = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    llama_decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])

    def bpe(name, normalizer, pre, decoder, fallback=True, fuse=True, unk="<unk>"):
        tokenizer = Tokenizer(models.BPE(unk_token=unk, byte_fallback=fallback, fuse_unk=fuse))
        if normalizer:
            tokenizer.normalizer = normalizer
        if pre:
            tokenizer.pre_tokenizer = pre
        tokenizer.decoder = decoder
        family(name, tokenizer, trainers.BpeTrainer(vocab_size=750, special_tokens=([unk] if unk else []) + (bytes_ if fallback else []), limit_alphabet=120, show_progress=False), cases,
               edit=lambda spec: spec.update(added_tokens=[t for t in spec["added_tokens"] if t["content"] == "<unk>"]))

    metaspace = pre_tokenizers.Metaspace("▁", "first", split=False)
    bpe("llama2", prepend, None, llama_decoder)
    bpe("mistral", None, metaspace, llama_decoder)
    bpe("gemma", normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"),
        decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]))
    bpe("words_unfused", normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()]), pre_tokenizers.Whitespace(),
        decoders.Fuse(), fallback=False, fuse=False)
    bpe("words_fused", normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "), normalizers.Strip(False, True)]),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_next"), pre_tokenizers.Digits(False)]), decoders.Fuse(), fallback=False)
    bpe("splits", normalizers.NFD(), pre_tokenizers.Sequence([
        pre_tokenizers.CharDelimiterSplit("/"), split(r"\p{L}+", "merged_with_previous"), split(r"[\p{Han}\h]+|(?=\p{Lu})", "isolated", False), split(r"\w+", "removed", True),
        pre_tokenizers.Punctuation("merged_with_previous"), split("^a|b$", "merged_with_next", True)]), decoders.Fuse(), fallback=False, unk=None)

    def unigram(name, normalizer, pre, decoder, fallback):
        tokenizer = Tokenizer(models.Unigram())
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre
        tokenizer.decoder = decoder

        def edit(spec):
            model = spec["model"]
            model["vocab"] = model["vocab"][:500] + [v for v in model["vocab"][500:] if len(v[0]) == 1]
            if fallback:
                model["vocab"] += [[b, -20.0] for b in bytes_]
                model["byte_fallback"] = True
            spec["added_tokens"] = [t for t in spec["added_tokens"] if t["content"] == "<unk>"]
        family(name, tokenizer, trainers.UnigramTrainer(vocab_size=600, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False), cases, edit=edit)

    unigram("unigram", normalizers.Sequence([normalizers.Precompiled(charsmap()), normalizers.Replace(Regex(" {2,}"), " ")]),
            pre_tokenizers.Metaspace("▁", "always"), decoders.Metaspace("▁", "always"), False)
    unigram("unigram_bytes", None, pre_tokenizers.Metaspace("▁", "first", split=False), decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("▁", "first")]), True)


RULES = [("\t", " "), ("\n", " "), ("\r\n", " "), ("\u00a0", " "), ("\u3000", " "), ("\ufeff", ""), ("\u200b", " "), ("\ufb01", "fi"), ("…", "..."), ("\u212b", "\u00c5"), ("e\u0301", "\u00e9"), ("½", "1/2"),
         ("ＡＢ", "A+B"), ("Ａ", "A"), ("①", "1"), ("™", "TM"), ("\u0301", ""), ("ab", "AB"), ("\u1100\u1161\u11a8", "\uac01"), ("\x01", ""), ("👍🏽", "+1")]


def train_sentencepiece(**options):
    model = io.BytesIO()
    sentences = [t for t in (FIXED + [CORPUS] * 8 + ["привет мир", "你好世界", "日本語", "한국어"] * 4) if t.strip()]
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter([line for t in sentences for line in t.splitlines() if line.strip("\0 ")]), model_writer=model,
                                             hard_vocab_limit=False, minloglevel=2, num_threads=1, **options)
    return model.getvalue()


def rules_file():
    path = pathlib.Path("/tmp/redline_rules.tsv")
    path.write_text("".join(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n" for a, b in RULES))
    return str(path)


def charsmap():
    from sentencepiece import sentencepiece_model_pb2 as pb
    model = pb.ModelProto()
    model.ParseFromString(train_sentencepiece(vocab_size=300, normalization_rule_tsv=rules_file()))
    return model.normalizer_spec.precompiled_charsmap


def sentencepiece_families(cases):
    from sentencepiece import sentencepiece_model_pb2 as pb
    user = dict(user_defined_symbols=["<tool>", "中文", "▁▁▁", "USR", "<right>"])
    for name, options in {
            "sp_bpe_bytes": dict(model_type="bpe", vocab_size=700, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, **user),
            "sp_bpe": dict(model_type="bpe", vocab_size=500, normalization_rule_tsv=rules_file(), add_dummy_prefix=False),
            "sp_unigram": dict(model_type="unigram", vocab_size=450, normalization_rule_tsv=rules_file(), **user),
            "sp_unigram_bytes": dict(model_type="unigram", vocab_size=600, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False),
            "sp_suffix": dict(model_type="unigram", vocab_size=400, normalization_rule_name="identity", treat_whitespace_as_suffix=True)}.items():
        data = train_sentencepiece(character_coverage=0.98, **options)
        model = pb.ModelProto()
        model.ParseFromString(data)
        model.trainer_spec.ClearField("user_defined_symbols")
        if name == "sp_bpe_bytes":  # some tokens that only serve as steps to longer ones
            for piece in [p for p in model.pieces if p.type == p.NORMAL and len(p.piece) > 1][3:60:7]:
                piece.type = piece.UNUSED
        data = model.SerializeToString()
        folder = OUT / name
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer.model").write_bytes(data)
        processor = sentencepiece.SentencePieceProcessor(model_proto=data)
        rows = []
        for text in cases:
            ids = processor.encode(text)
            rows.append((0, crc(ids), 0))
        write_golden(folder, rows)
        if name in ("sp_bpe_bytes", "sp_unigram"):
            write_gguf(OUT / ("gguf_llama" if name == "sp_bpe_bytes" else "gguf_t5"), model, cases)


def write_gguf(folder, model, cases):
    """The same vocabulary as a GGUF file; there user-defined tokens are cut out of the text as it is, so here are none."""
    for piece in model.pieces:
        if piece.type == piece.USER_DEFINED:
            piece.type, piece.score = piece.NORMAL, -50.0 - len(piece.piece)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    rows = [(0, crc(processor.encode(text)), 0) for text in cases]
    folder.mkdir(exist_ok=True)
    unigram = model.trainer_spec.model_type == model.trainer_spec.UNIGRAM
    out = gguf.GGUFWriter(folder / "model.gguf", "llama")
    out.add_tokenizer_model("t5" if unigram else "llama")
    out.add_token_list([p.piece.encode() for p in model.pieces])
    out.add_token_scores([p.score for p in model.pieces])
    out.add_token_types([p.type for p in model.pieces])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_unk_token_id(0)
    out.add_add_space_prefix(model.normalizer_spec.add_dummy_prefix)
    out.add_remove_extra_whitespaces(model.normalizer_spec.remove_extra_whitespaces)
    if model.normalizer_spec.precompiled_charsmap:
        out.add_precompiled_charsmap(model.normalizer_spec.precompiled_charsmap)
    out.add_add_bos_token(False)
    out.add_add_eos_token(False)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    write_golden(folder, rows)


def smollm2(gguf_path, cases):
    fields = gguf.GGUFReader(gguf_path).fields
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
    rows = []
    for text in cases[::4] + [a + s + b for s in specials[:4] for a in ("", "a", " ") for b in ("", "b", "\n", s)]:
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(text).ids
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text).ids
        rows.append([text, ids] if ids == plain else [text, ids, plain])
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in rows)
    (OUT / "smollm2.json").write_text("[\n" + lines + "\n]\n")


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    CASES = texts()
    (OUT / "texts.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in CASES) + "\n]\n")
    byte_level_families(CASES)
    character_families(CASES)
    sentencepiece_families(CASES)
    smollm2(sys.argv[1], CASES)

# SPDX-License-Identifier: Apache-2.0
"""Strings with the ids that Hugging Face's `tokenizers` gives them.

Written for whoever reimplements the tokenizer: every branch of the
pre-tokenizer's regular expression, every Unicode class it names, NFC, added
tokens inside text, plus random mixtures of all that. No NUL: a C string ends there.
"""

import json
import random

from tokenizers import Tokenizer

import tokenizer_texts
from tiny_tokenizer import ADDED

PLAIN = [
    "", " ", "  ", "   ", "a", " a", "  a", "   a", "a ", "a  ", "a   b", "hello", "Hello, world!",
    "You are a helpful assistant.", "Describe the video.",
    "What is the signal? Answer picture, bars, black or snow.",
    "the the the", "thethethe", " thethe", "helphelphelpful", "assistantassistant",
    "UPPER lower MiXeD", "snake_case_name", "camelCaseName", "kebab-case", "a.b.c", "e.g. i.e.",
    "C:\\path\\to", "https://example.org/a?b=c&d=%20#e", "user@example.org", "$5.00", "50%", "#tag", "@who",
    "(a) [b] {c} <d>", "\"quoted\"", "'quoted'", "`code`", "a--b", "a---", "---", "...", "....a", "?!?!",
    "+-*/=", "<<>>", "&&||", "~!@#$%^&*()_+", "a!\n", "a!\r\n\r\n", "!!\n\n\nb", " !\n", "  !\n", "\t!\n",
]

CONTRACTIONS = [
    "it's", "IT'S", "don't", "they're", "we've", "I'm", "we'll", "he'd", "'s", "'S", "'t", "'re", "'RE",
    "'ve", "'m", "'ll", "'LL", "'lL", "'d", "' s", "''s", "'sa", "'x", "o'clock", "rock'n'roll", "'tis",
    "it\u2019s", "y'all'd've", "'\u017f", "x'\u017fy", "s's's", "'re're", " 's", "1's", "!'s", "\n's",
]

SPACES = [
    "\n", "\n\n", "\r", "\r\n", "\r\n\r\n", "\n\r", " \n", "  \n", "\n ", "\n  ", " \n ", "a\n", "a\nb",
    "a \nb", "a  \n  b", "a\n\nb", "a\r\nb\r\n", "\t", "\t\t", "a\tb", "a\t\tb", " \t ", "\ta", "\t a",
    "a \t\nb", "\x0b", "a\x0bb", "\x0c", "a\x0c b", "\x85", "a\x85b", "\xa0", "a\xa0b", "a\xa0\xa0b",
    "\u1680", "\u180e", "a\u180eb", "\u2000a", "a\u2003b", "a\u2003\u2003b", "\u2028", "a\u2028b", "a\u2029b",
    "\u202f", "a\u202fb", "\u205f", "\u3000", "\u4f60\u3000\u597d", "\u200b", "a\u200bb", "a\u200b b", "\ufeff", "\ufeffa",
    "a\u2060b", "    indent", "        return 0;\r\n", "x = 1    # note", "trailing    ", "trailing\n    ",
    "\n\n\n\n", "\n\n  \n\n", "  \n\n  a", " \r\n \r\n ", "a" + " " * 40 + "b", " " * 64, "\n" * 33, "\t" * 17 + "x",
]

DIGITS = [
    "0", "42", "2024", "1234567890", "3.14159", "1,000,000", "1e-5", "0x1F", "a1b2", "1a", "a1", " 1", "  1",
    "12 34", "1st 2nd", "\u0663\u0664\u0665", "\u0967\u0968", "\u00bd", "1\u00bd", "x\u00b2", "\u2160\u2161", "\u2460\u2461", "\uff11\uff12", "\u4e00\u4e8c\u4e09",
    "\U0001d7d8\U0001d7d9", "\u3007", "\u2189", "\u0bf0", "-1", "+1", "1:30", "12:34:56.789",
]

SCRIPTS = [
    "été", "naïve café", "Straße", "ÀÉÎÕÜ", "İstanbul ı", "œuvre æon", "Łódź", "żółw", "ŋ ʃ ʒ",
    "привет мир", "Привет, МИР!", "Ελληνικά", "Ωμέγα", "ქართული", "Հայերեն", "עברית", "שָׁלוֹם", "العربية", "اَلْعَرَبِيَّةُ",
    "हिन्दी", "नमस्ते दुनिया", "বাংলা", "தமிழ்", "తెలుగు", "ಕನ್ನಡ", "മലയാളം", "ไทย", "สวัสดีครับ", "ລາວ", "မြန်မာ", "ខ្មែរ", "བོད་ཡིག",
    "አማርኛ", "ᏣᎳᎩ", "ᐃᓄᒃᑎᑐᑦ", "монгол ᠮᠣᠩᠭᠣᠯ", "你好，世界", "你好世界。", "描述这个视频", "繁體中文", "日本語のテスト", "カタカナ ｶﾀｶﾅ", "ひらがな",
    "한국어", "안녕하세요 세계", "Tiếng Việt", "ʻōlelo", "𐌰𐌱𐌲", "𝔘𝔫𝔦", "𝒜𝒷", "ａｂｃ", "ﬁ ﬂ ﬀ", "ǅ ǈ", "ª º", "ﷺ", "㍿ ㎏",
    "mixедscript", "a你b好c", "ab你好 cd", "«guillemets»", "„quotes“", "¿Qué?", "¡Hola!", "…", "—", "–", "•", "™®©", "€£¥₽", "∑∫√≤", "→⇒", "█▓░", "♪♫",
]

EMOJI = [
    "😀", "😀😀", "a😀b", "😀 a", " 😀", "👍🏽", "👩‍👩‍👧", "👩‍👩‍👧 👩‍👩‍👧", "👨‍💻", "🏳️‍🌈", "🇫🇷", "🇫🇷🇩🇪", "1️⃣", "❤️", "☺", "☺️",
    "🧑🏿‍🚀!", "👁️‍🗨️\n", "ok👌\n\n", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "‍", "a‍b", "️", "😀\u200d", "🀄1", "⌚⏰",
]

CONTROLS = [
    "\x01", "a\x01b", "\x07\x08", "\x1b[31mred\x1b[0m", "\x1c", "a\x1cb", "a\x1d b", "\x1e\x1f", "a\x1f\n", "\x7f", "a\x7fb",
    "\x80", "\x9f", "a\x90b", "\xad", "co\xadop", "\u200e\u200f", "\u202a\u202c", "\ufffd", "\ufffe", "\uffff", "\ue000", "\U000f0000", "\U0010ffff", "\u0378",
]

# What Unicode tables of different age class and order differently (pretokenize.c, nfc.c).
NEWER = [
    "\u1c89'm", "\U0001610a'm", "a\U00013460'd \U0002ebf0's", "\u0378'm", "\U0001e5f1\U0001e5f0'm", "e\u1abf\u0301\u0323", "a\u0345\u0898",
    "\u1abf\u0334", "\U00011935\U00011930", "\U00011938", "\u0c15\u0c3c\u0c4d",
]

# Composed, decomposed, reordered and excluded from composition; Hangul too.
NFC = [
    "e\u0301", "\u00e9", "cafe\u0301", "e\u0301te\u0301", "A\u030a", "\u212b", "\u2126", "\u212a", "o\u0302\u0323", "o\u0323\u0302", "\u1ed9",
    "q\u0307\u0323", "q\u0323\u0307", "\u0344", "\u0958", "\u0929", "\u0928\u093c", "\u1100\u1161", "\u1100\u1161\u11a8", "\uac00\u11a8", "\u1112\u1161\u11ab\u1100\u116e\u11a8",
    "\u0301", "a \u0301", "\n\u0301", "1\u0301", "!\u0301", "e\u0301\u0301", "e\u200d\u0301", "\u037e", "\u0387", "\u1fef", "\u2000", "\u2001", "\u2329\u232a",
    "\uf900", "\ufa0a", "\ufb1d", "\ufb2a", "\U0001d15e", "\U0001d15f", "\U0002f800", "\u0b94", "\u0b92\u0bd7", "\u0dda", "\u0f73", "\u0f43", "\u2adc",
    "\U00011099\U000110ba", "\U000105d2\u0307", "\u2fff", "\u0061\u0315\u0300\u05ae\u0300\u0062",
]

MARKERS = (
    ADDED
    + [f"a{t}b" for t in ADDED[:6]]
    + [f" {t} " for t in ADDED[:5]]
    + [
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n", "<|im_start|>user\n", "<|im_start|>assistant\n",
        "<im_end> <im_start>", "<im_end>  <im_start>", "<im_end>\nDescribe the video.<|im_end|>\n",
        "<|im_start|><|im_start|>", "<|im_end|><|endoftext|>", "<|im_end", "<|im_end|", "|im_end|>", "<im_start", "im_start>",
        "<<im_start>>", "<|im_end|>>", "<IM_START>", "< im_start >", "<|IM_END|>", "<im_start>\u0301", "e<im_start>\u0301",
        "<cor>1<\\cor>", "<cor></cor>", "<SUMMARY>It's.</SUMMARY>", "<summary>", "<image>", "a<image>b", "<vi_start><vi_end>",
        "x<CAPTION>\n</CAPTION>\n\n<REASONING>", "'<im_end>s", "'s<im_end>'s", "  <im_end>  ", "\n<|im_end|>\n\n",
    ]
)

POOL = (
    list("abcdehilnorstuvXYZ") + list("0123456789") + list(" .,;:!?'\"-_()<>|/\\\n\t") * 2 + [" ", "  ", "\r\n"] * 6
    + ["'s", "'LL", " the", " video", "é", "e\u0301", "ß", "я", "П", "中", "文", "語", "か", "한", "\u1100\u1161", "ع", "ह", "\u093c", "😀", "\u200d", "\ufe0f",
       "\xa0", "\u3000", "\u2028", "\x85", "\x1c", "\u0301", "²", "٣"]
    + ADDED[:5]
)
RANDOM_SEED = 20250611
RANDOM_CASES = 160
GENERATED_CASES = 72  # eight of each kind of compare_tokenizer.py, less what JSON cannot hold
GENERATED_BYTES = 80


def texts():
    """Every string once, the fixed ones first."""
    rng = random.Random(RANDOM_SEED)
    fixed = PLAIN + CONTRACTIONS + SPACES + DIGITS + SCRIPTS + EMOJI + CONTROLS + NEWER + NFC + MARKERS
    mixed = ["".join(rng.choices(POOL, k=rng.randint(2, 30))) for _ in range(RANDOM_CASES)]
    generated = [data.decode() for kind, data in tokenizer_texts.generated(rng, 4 * GENERATED_CASES)
                 if kind != "invalid" and len(data) <= GENERATED_BYTES]
    return list(dict.fromkeys(fixed + mixed + generated[:GENERATED_CASES]))


def write(tok: Tokenizer, path: str) -> None:
    cases = [{"text": t, "ids": tok.encode(t, add_special_tokens=False).ids} for t in texts()]
    with open(path, "w", encoding="utf-8") as f:
        # ASCII escapes: a control character in a file of tests helps nobody.
        f.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
    print(f"{path}: {len(cases)} strings, random part seed {RANDOM_SEED}")

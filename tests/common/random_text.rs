//! Random texts and ways to cut them, for tests.

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

pub(crate) const WORDS: &[&str] = &[
    "a",
    "I",
    "the",
    "The",
    "hello",
    "antidisestablishmentarianism",
    "x1",
    "ñandú",
    "Straße",
    "naïve",
    "Ελλάδα",
    "Привет",
    "мир",
    "你好",
    "世界",
    "我不知道该怎么办",
    "日本語",
    "テスト",
    "ひらがな",
    "ガ",
    "한국어",
    "안녕하세요",
    "مرحبا",
    "العَرَبِيَّة",
    "שלום",
    "हिन्दी",
    "क्षत्रिय",
    "ไทย",
    "สวัสดีครับ",
    "မြန်မာ",
    "ខ្មែរ",
    "தமிழ்",
    "ǆ",
    "ﬁ",
    "ß",
    "İ",
    "ſ",
];
pub(crate) const MARKS: &[&str] = &[
    "\u{301}",
    "\u{323}",
    "\u{338}",
    "\u{308}",
    "\u{327}",
    "\u{5b0}",
    "\u{64b}",
    "\u{651}",
    "\u{93c}",
    "\u{94d}",
    "\u{9be}",
    "\u{3099}",
    "\u{309a}",
    "\u{1161}",
    "\u{11a8}",
    "\u{e48}",
    "\u{fe0f}",
    "\u{20e3}",
    "\u{200d}",
    "\u{1d165}",
    "\u{344}",
    "\u{334}",
    "\u{1ab0}",
];
pub(crate) const BASES: &[&str] = &[
    "e",
    "a",
    "o",
    "q",
    "<",
    ">",
    "=",
    "d",
    "か",
    "ハ",
    "\u{1100}",
    "\u{ac00}",
    "\u{ac01}",
    "\u{9c7}",
    "\u{958}",
    "\u{212b}",
    "\u{2126}",
    "\u{1e9b}",
    "\u{f900}",
    "\u{fb1d}",
    "\u{2adc}",
    "\u{2000}",
    "\u{37e}",
    "\u{1d15e}",
    "\u{340}",
    "\u{e9}",
    "\u{1ed9}",
    "\u{226e}",
    "\u{378}",
    "\u{1fbf9}",
];
const EMOJI: &[&str] =
    &["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇯", "👍🏽", "❤️", "1️⃣", "🧑‍💻", "\u{1f3fb}", "🫠", "♂", "\u{200d}", "\u{fe0f}"];
pub(crate) const SPACES: &[&str] = &[
    " ", " ", " ", "  ", "   ", "        ", "\n", "\n\n", "\n\n\n", "\r\n", "\r", "\t", "\t\t", " \n", "\n ", "  \n  ",
    "\u{a0}", "\u{3000}", "\u{2003}", "\u{85}", "\u{2028}", "\u{b}", "\u{200b}",
];
pub(crate) const SIGNS: &[&str] = &[
    ".", ",", "!", "?", "...", "'", "\"", "’", "(", ")", "=", "==", "=====", "-", "--", "<", ">", "</", "<|", "|>",
    "|", "_", "#", "//", "/*", "。", "，", "、", "「", "」", "،", "؟", "…", "€", "$", "\\", "\u{0}", "\u{7f}",
    "\u{fffd}",
];
const CONTRACTIONS: &[&str] = &[
    "'s", "'S", "'t", "'re", "'Re", "'ve", "'m", "'ll", "'LL", "'d", "'r", "'v", "'l", "'x", "'sx", "'ſ", "'rex", "n't",
];
const NUMBERS: &[&str] =
    &["0", "7", "42", "1234567890", "3.14159", "1,000,000", "٣", "४", "½", "Ⅷ", "²", "①", "一二三"];
const CODE: &[&str] = &[
    "fn main() {\n    println!(\"{}\", x);\n}\n",
    "for (int i = 0; i < n; ++i)",
    "a[i]->b",
    "def f(x):\n\treturn x\n",
    "https://example.org/?q=1&r=%20",
    "{\"key\": [1, 2]}",
    "```rust\n",
    "0x1F_u8",
    "snake_case",
    "camelCase",
    "\\n\\t",
    "SELECT * FROM t;",
];
const TOKENS: &[&str] = &[
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<tool_response>",
    "<|im_",
    "<think",
    "<thi",
    "nk>",
    "<<think>>",
    "</thin",
    "k>",
    "think>",
    "<|fim_",
    "<|object_ref_start|",
    "<think>\n\n</think>\n\n",
];

/// A text as models and attackers write it.
pub(crate) fn random_text(random: &mut StdRng) -> String {
    let kinds = [WORDS, WORDS, MARKS, BASES, EMOJI, SPACES, SPACES, SIGNS, CONTRACTIONS, NUMBERS, CODE, TOKENS];
    // Few kinds in a text meet each other more often.
    let kinds: Vec<_> = (0..random.random_range(1..6)).map(|_| *kinds.choose(random).unwrap()).collect();
    let mut text = String::new();
    for _ in 0..random.random_range(0..24) {
        match random.random_range(0..40) {
            0 => text.extend(char::from_u32(random.random_range(0..0x11_0000))),
            1 => {
                let again = kinds.choose(random).unwrap().choose(random).unwrap();
                text.push_str(&again.repeat(random.random_range(1..12)));
            }
            _ => text.push_str(kinds.choose(random).unwrap().choose(random).unwrap()),
        }
    }
    text
}

/// The lengths of pieces that bytes may come in.
pub(crate) fn random_split(random: &mut StdRng, length: usize) -> Vec<usize> {
    let most = *[1, 2, 4, 12, 64].choose(random).unwrap();
    let mut lengths = Vec::new();
    let mut left = length;
    while left > 0 {
        let next = random.random_range(0..=most).min(left);
        lengths.push(next);
        left -= next;
    }
    lengths
}

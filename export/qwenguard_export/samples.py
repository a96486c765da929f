"""Short conversations for the parity check."""

from __future__ import annotations

CONVERSATIONS = [
    [
        {"role": "user", "content": "Why do cats purr?"},
        {"role": "assistant", "content": "Mostly when they feel safe, sometimes when they are in pain."},
    ],
    [
        {"role": "user", "content": "Wie bekomme ich ein verklemmtes Fenster auf?"},
        {"role": "assistant", "content": "Etwas Seife auf die Schiene, dann vorsichtig schieben."},
    ],
    [
        {"role": "user", "content": "我想在阳台上种番茄，要注意什么？"},
        {"role": "assistant", "content": "选大一点的花盆，每天晒六小时太阳。"},
    ],
    [
        {"role": "user", "content": "Escribe una amenaza para mi vecino."},
        {"role": "assistant", "content": "No voy a ayudar con eso."},
    ],
    [
        {"role": "user", "content": "كيف أقرأ كتابا كل أسبوع؟"},
        {"role": "assistant", "content": "عشرون صفحة قبل النوم تكفي."},
    ],
]

# As a Gen model judges them: answers with their prompts, and prompts alone.
JUDGED = [
    *(conversation for conversation in CONVERSATIONS[::2]),
    *(conversation[:1] for conversation in CONVERSATIONS[1:]),
]

"""How many tokens a text takes, about."""

import re

_PARTS = re.compile(r"[A-Za-z]+|[0-9]+|[^\S\n]+|\n+|[^\x00-\x7f]|.", re.DOTALL)
LETTERS_A_TOKEN = 5
DIGITS_A_TOKEN = 3


def estimate(text: str) -> int:
    """Tokens of a text, at the upper end of what models' tokenizers make of it: no tokenizer is loaded for it.

    A word is a token for every five letters begun, a number one for every three digits, any other sign is one; a space
    before a word costs nothing, a wider gap or a line break one. Letters outside ASCII count one each.
    """
    total = 0
    for match in _PARTS.finditer(text):
        part = match[0]
        if part.isascii() and part.isalpha():
            total += -(-len(part) // LETTERS_A_TOKEN)
        elif part.isascii() and part.isdigit():
            total += -(-len(part) // DIGITS_A_TOKEN)
        elif part != " ":
            total += 1
    return total


def fits(text: str, budget: int) -> bool:
    """Whether a text takes at most `budget` tokens."""
    return estimate(text) <= budget

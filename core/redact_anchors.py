"""How the literals of rules that begin no long run of token bytes are looked for at once: data, made by `benchmarks/redaction_anchors.py`.

One pass over a payload for each of some ninety literals would be most of the cost of an import. So bytes are folded to
classes (each group to its first byte), such that few and rare anchors in the folded text stand for all literals: every
literal, folded, holds one. A literal that holds none becomes an anchor itself: slower, never wrong.
"""

FOLDS = (b"3:\\_", b"12cnz", b"bot", b"agi", b".<eux", b"ksv", b"678dlq", b"/pr", b"-09j")
ANCHORS = (
    b".y",
    b"6~",
    b"/ak",
    b".bh",
    b"m1",
    b"k.1",
    b"3/",
    b"baa",
    b"6ak",
    b"./ ",
    b"abkk",
    b"a=",
    b" -. ",
    b"ka6b",
    b"3aa",
    b"ka.",
)

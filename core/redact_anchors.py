"""How the literals of all rules are looked for at once: data, made by `benchmarks/redaction_anchors.py`.

One pass over a payload for each of some two hundred literals would be most of the cost of an import. So bytes are folded to
classes (each group to its first byte), such that few and rare anchors in the folded text stand for all literals: every
literal, folded, holds one. A literal that holds none becomes an anchor itself: slower, never wrong.
"""

FOLDS = (b"-/9acdjx", b".hl", b"03", b"1rt", b"2u", b":py", b"<\\fims", b"_kvz", b"ben", b"gw")
ANCHORS = (
    b":<-",
    b"1-11",
    b"<_",
    b"g.",
    b":-",
    b"__1",
    b".oo_<",
    b"._1o_",
    b"b-1b1",
    b"-<<-",
    b"-_<-",
    b"-o-",
)

"""The shape of real histories, as numbers: what `corpus.py` generates after.

Measured on 470 transcripts of Claude Code (372 MB, 102,979 records, seven repositories) after interpretation; progress
records, which are not appended, are left out. None of their text is here.
"""

QUANTILES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)

SESSION_ROWS = (1, 1, 1, 3, 64, 209, 462, 614, 896, 1155)  # actions of a session

# What follows what in a session, in shares; what is rarer than .5 % is left out.
FOLLOWS: dict[str, dict[str, float]] = {
    "start": {"prompt": 0.51, "note": 0.33, "title": 0.11, "reply": 0.05},
    "prompt": {"thought": 0.745, "call": 0.116, "reply": 0.105, "note": 0.025, "prompt": 0.009},
    "reply": {"call": 0.834, "prompt": 0.148, "note": 0.018},
    "call": {"result": 0.905, "call": 0.087, "note": 0.008},
    "result": {"thought": 0.413, "call": 0.297, "reply": 0.183, "result": 0.091, "note": 0.014, "summary": 0.002},
    "thought": {"call": 0.549, "reply": 0.449, "note": 0.002},
    "note": {"note": 0.401, "call": 0.178, "reply": 0.157, "prompt": 0.164, "thought": 0.055, "result": 0.045},
    "summary": {"thought": 0.9, "reply": 0.1},
    "title": {"title": 0.655, "prompt": 0.27, "note": 0.075},
}  # fmt: skip

# Characters of an action's text at QUANTILES.
LENGTHS: dict[str, tuple[int, ...]] = {
    "prompt": (1, 5, 12, 36, 76, 167, 391, 612, 3057, 59580),
    "reply": (5, 36, 46, 66, 106, 249, 888, 1358, 2789, 13481),
    "thought": (9, 42, 54, 81, 149, 429, 1072, 1850, 3988, 21450),
    "call": (10, 29, 45, 64, 84, 109, 176, 420, 1325, 22024),
    "result": (1, 16, 42, 111, 460, 1953, 6116, 13043, 41788, 65536),
    "note": (1, 5, 7, 23, 72, 449, 3407, 5953, 10496, 64674),
    "summary": (200, 500, 1000, 1600, 2120, 11621, 15126, 16886, 19412, 24528),
    "title": (22, 31, 35, 42, 47, 52, 59, 63, 87, 222),
    "edit": (15, 78, 158, 351, 750, 1597, 3569, 5832, 12694, 16384),
}

# How many texts of a kind stand in the history already.
REPEATED = {"call": 0.149, "result": 0.301, "prompt": 0.072, "note": 0.554, "thought": 0.021, "reply": 0.013}

TOOLS = {"Bash": 0.295, "Read": 0.263, "Edit": 0.19, "Grep": 0.126, "TaskUpdate": 0.06, "Glob": 0.021,
         "TodoWrite": 0.021, "Write": 0.014, "Task": 0.01}  # fmt: skip

# Tokens between blanks: words, identifiers, paths, numbers and hashes; then characters of one with its blank.
TOKENS: dict[str, tuple[float, float, float, float]] = {
    "said": (0.90, 0.055, 0.01, 0.035),  # prompts, replies, thoughts
    "call": (0.72, 0.11, 0.09, 0.08),
    "result": (0.60, 0.17, 0.05, 0.18),
}
TOKEN_CHARS = 7.5

# Words by rank: the exponent of their frequency from this rank on; 47,000 distinct words in 8.8 M, which grow with the
# square root of the text.
ZIPF = ((1, 0.375), (10, 0.73), (100, 1.0), (1000, 1.775))
VOCABULARY = 40_000
SESSION_WORDS = 24  # new words a session brings
FILES_OF_A_PROJECT = 400
IDENTIFIERS_OF_A_PROJECT = 3000
PROJECTS = 24
COPIED_SESSIONS = 0.02  # sessions that begin with a copy of another's first rows
COPIED_ROWS_MAX = 40

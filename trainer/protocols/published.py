"""Figures of others, as they published them: other people, other splits, often other windows. Never to be put on one
axis with ours; they stand below a table so that a reader need not look them up."""

# Task → (who, what they report).
PUBLISHED = {
    "BIDMC heart rate, 10 s": (
        ("CM-SSL, large / small (poster)", "MAE 1.59 / 2.32 bpm"),
        ("MoCo-v3", "MAE 1.65 bpm"),
        ("SimCLR", "MAE 2.09 bpm"),
        ("PaPaGei", "MAE 10.91 bpm"),
    ),
    "BIDMC respiratory rate, 32 s": (("CM-SSL, large / small (poster)", "MAE 2.35 / 2.59 /min"),),
    "AF, 10 s": (("SiamAF, on three other data sets", "AUROC 0.88–0.92"),),
}

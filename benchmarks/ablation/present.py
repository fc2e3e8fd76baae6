"""The ablation as Markdown."""

from collections.abc import Sequence

from benchmarks.ablation.budget import Budget
from benchmarks.ablation.table import Line, verdict
from benchmarks.machine import describe

HEAD = (
    "| question | answer | PPG R² | ECG R² | perplexity (codes used) | top-1 | top-5 | bit/s | heart rate, bpm | "
    "against the base | AF, windows | student | CPU min |\n|" + "---|" * 13
)


def markdown(found: Sequence[Line], budget: Budget, title: str, notes: Sequence[str] = ()) -> str:
    """Title, budget, what the columns mean, the table."""
    seeds = sorted({seed for line in found for seed in line.seeds})
    out = [
        f"# {title}", "",
        f"Every row: {budget}; seeds {', '.join(map(str, seeds))} (mean, and least–most over them; a "
        "row without brackets has one). One thing differs "
        "from the base in each row. Judged on the *validation* people, who chose nothing but these rows; AF on the "
        "half of MIMIC PERform AF's subjects that is there for choosing.", "",
        "- **R²**: variance of each signal that the tokens alone rebuild. **perplexity**: of the tokens on held-out "
        "windows.",
        "- **top-1, top-5**: the student names the teacher's token; comparable only between rows that share a "
        "codebook size, a patch length and a teacher. **bit/s**: what the student's scores tell of the teacher's "
        "tokens, entropy less cross entropy, a second of signal.",
        "- **heart rate**: error of a ridge regression on the frozen embedding (mean and deviation over 10 s), where "
        "the quality gate passed. **against the base**: paired by person, 95 % interval. **AF**: AUROC of a linear "
        "probe on the same embedding, 10 s windows, readable or not.", "", HEAD,
    ]  # fmt: skip
    for line in found:
        perplexity = line.mean("stage 1 val_perplexity")
        used = 100 * line.mean("stage 1 val_usage")
        cells = [
            line.variant.question, line.variant.name, line.shown("stage 1 val_ppg_r2", 2),
            line.shown("stage 1 val_ecg_r2", 2), f"{perplexity:.0f} ({used:.0f} %)", line.shown("top1"),
            line.shown("top5"), line.shown("bits per second", 2), line.shown("rate error", 2),
            verdict(line.rate_change), line.shown("AF window AUROC"), f"{line.parameters['student'] / 1e6:.2f} M",
            f"{line.cpu_minutes:.1f}",
        ]  # fmt: skip
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join([*out, "", *notes, "", f"On {describe()}."]) + "\n"

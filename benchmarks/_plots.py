"""Pictures of the results."""

from pathlib import Path
from statistics import median


def frontier(rates: dict[str, list[float]], sizes: dict[str, float], path: Path) -> None:
    """Bytes on disk against windows per second, with the range over the rounds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    sizes = sizes | {
        "zarr-python, same lz4 store": sizes["ours, lz4"],
        "zarr-python, same uncompressed store": sizes["ours, uncompressed"],
    }
    for name, values in rates.items():
        colour = "#b3400f" if name.startswith("ours") else "#888888" if name == "raw memory map" else "#2f6690"
        middle = median(values)
        error = [[middle - min(values)], [max(values) - middle]]
        axes.errorbar(sizes[name], middle, yerr=error, fmt="o", color=colour, capsize=3)
        axes.annotate(name, (sizes[name], middle), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yscale("log")
    axes.set_xlim(0.4, 3.2)
    axes.set_xlabel("bytes on disk, relative to plain int16")
    axes.set_ylabel("random 4-s windows per second (float32 µV, 62 channels)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)

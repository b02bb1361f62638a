"""Sizes, times and counts in words."""


def gigabytes(size: float) -> str:
    """Bytes in decimal gigabytes, or megabytes below one."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    for limit, unit, size in ((1.0, "ms", 1e-3), (120.0, "s", 1.0), (7200.0, "min", 60.0), (172_800.0, "h", 3600.0)):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:,.1f} d"


def count(number: float) -> str:
    """A number of parameters."""
    for size, unit in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:,.0f}"


def of_nodes(number: int) -> str:
    """A number of nodes."""
    return "1 node" if number == 1 else f"{number:,} nodes"

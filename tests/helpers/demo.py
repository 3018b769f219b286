"""What mapping the demo scene must give."""

FILES = {
    "rates.csv", "regions.csv", "bvp.csv", "beats.csv", "map.npz", "map.png", "companion.png", "overlay.mp4",
    "report.html", "summary.json",
}  # fmt: skip


def assert_finds_every_region(printed):
    """The median rate of each region within 2.5 bpm."""
    lines = [line.split() for line in printed.splitlines() if line.startswith("ellipse")]
    assert [float(line[2]) for line in lines] == [66, 94, 141]
    for line in lines:
        assert abs(float(line[3]) - float(line[2])) <= 2.5

from benchmarks.rivals import compare_rivals


def test_ours_leaves_less_than_each_rival() -> None:
    found = compare_rivals(seeds=1)
    ours = {key: scores[0] for key, scores in found.items() if key[1] == "ours, 5 frames"}
    assert len(ours) == 6
    for (kind, _, judged), score in ours.items():
        for way in ("nothing", "mean of 4 other frames", "one squared exponential"):
            assert score.share > found[kind, way, judged][0].share, (kind, way, judged)

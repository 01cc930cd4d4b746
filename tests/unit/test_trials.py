"""``make trials`` has every report once, with its address and what is right; it runs on its own."""

from trials import ground, machines, rest, senders, vertex

PARTS = (machines, rest, senders, vertex)


def test_every_report_is_tried_once():
    """47 of them; what they promise is tried by ``make trials``, on real processes."""
    assert sorted(each.number for each in ground.TRIALS) == list(range(1, 48))


def test_each_names_its_report_and_what_is_right():
    for each in ground.TRIALS:
        assert each.source, each.number
        assert each.right, each.number
        assert "#" not in each.source, f"{each.number}: an address is whole"


def test_each_part_has_some():
    modules = {each.run.__module__ for each in ground.TRIALS}

    assert modules == {part.__name__ for part in PARTS}

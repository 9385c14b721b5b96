"""Tables of attributes get room; what stands in them stays."""

from bms.attribute_tables import make_room


class Part:
    def __init__(self, n):
        for i in range(n):
            setattr(self, "a%d" % i, i)


def _attributes(part):
    return dict([(name, part.__dict__[name]) for name in part.__dict__])


def test_every_attribute_stays_and_none_is_added():
    for n in range(60):
        part = Part(n)
        before = _attributes(part)
        make_room(part)
        assert _attributes(part) == before, n


def test_parts_of_parts_and_circles():
    whole = Part(8)
    whole.parts = [Part(11), Part(12)]
    whole.other = Part(6)
    whole.other.whole = whole
    whole.kind = Part
    before = [_attributes(x) for x in (whole, whole.other, whole.parts[0], whole.parts[1])]
    seen = make_room(whole)
    assert len(seen) == 4 and id(Part) not in seen
    after = [_attributes(x) for x in (whole, whole.other, whole.parts[0], whole.parts[1])]
    assert after == before


def test_classes_keep_their_methods():
    class Other(Part):
        def __len__(self):
            return 3

        def one(self):
            return 1

    for i in range(9):
        setattr(Other, "b%d" % i, i)
    names = sorted(Other.__dict__)
    make_room(Other(7))
    assert sorted(Other.__dict__) == names
    assert len(Other(1)) == 3 and Other(1).one() == 1


def test_depth_ends():
    a = Part(1)
    a.b = Part(1)
    a.b.c = Part(1)
    assert set(make_room(a, 2)) == {id(a), id(a.b)}

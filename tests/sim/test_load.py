"""The drive cycle is read with its sign, its scale and its times."""

import numpy as np
import pytest

from bmssim.load import Profile


def test_us06_drives_ten_minutes_and_discharges() -> None:
    profile = Profile.us06()
    amps = np.array([profile.current_a(t) for t in range(600)])
    assert amps.mean() == pytest.approx(-0.84, abs=0.01)  # + = charge, so driving is negative
    assert amps.min() == pytest.approx(-8.1)
    assert amps.max() == pytest.approx(4.2071)


def test_scale_hold_and_repeat() -> None:
    profile = Profile(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]))
    assert [profile.current_a(t) for t in (0, 0.99, 1.0, 2.9, 3.0)] == [1, 1, 2, 3, 1]
    assert Profile.us06(10.0).current_a(300) == pytest.approx(10 * Profile.us06().current_a(300))


def test_a_file_that_is_no_profile_is_refused(tmp_path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError):
        Profile.from_csv(path)

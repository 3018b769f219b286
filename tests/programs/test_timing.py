import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.benchmarks import timing


def test_spread_is_the_median_between_the_extremes():
    assert timing.spread(np.array([3.0, 9.0, 1.0])) == (3.0, 1.0, 9.0)
    assert timing.spread(np.array([4.0, 1.0, 2.0, 3.0])) == (2.5, 1.0, 4.0)


def test_contenders_take_turns_and_each_begins_a_repetition(monkeypatch):
    """With a clock that only the contenders move: exact seconds per unit of work."""
    clock, order = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def contender(name, seconds):
        def run():
            clock[0] += seconds
            order.append(name)
            return jnp.zeros(())

        return run

    found = timing.side_by_side(
        {
            "slow": timing.Contender(contender("slow", 3.0), work=6.0),
            "quick": timing.Contender(contender("quick", 0.25), work=5.0),
        },
        repeats=3,
        least_s=1.0,
    )
    np.testing.assert_allclose(found["slow"], [0.5] * 3)
    np.testing.assert_allclose(found["quick"], [0.05] * 3)
    quick = ["quick"] * 4  # so many calls fill the second that was asked for
    assert order[:4] == ["slow", "slow", "quick", "quick"], "a call to compile, one to know its length"
    assert order[4:] == ["slow", *quick, *quick, "slow", "slow", *quick]
    assert timing.spread(found["slow"] / found["quick"]) == pytest.approx((10.0, 10.0, 10.0))


def test_peak_memory_is_the_commands_own():
    ballast = np.ones(2**26)  # half a GB here must not count there
    small = timing.measure_command([sys.executable, "-c", "pass"])
    large = timing.measure_command([sys.executable, "-c", "x = b'1' * 2**28"])
    assert small.peak_bytes < ballast.nbytes / 4
    assert 2**28 < large.peak_bytes < small.peak_bytes + 1.1 * 2**28
    assert small.seconds > 0


def test_a_command_that_fails_says_why():
    with pytest.raises(RuntimeError, match="no good"):
        timing.measure_command([sys.executable, "-c", "raise SystemExit('no good')"])


def test_machine_is_described():
    found = timing.describe_machine(jax.devices()[0])
    assert found["versions"]["jax"] == jax.__version__
    assert found["cores"] >= 1
    assert found["cpu"]
    assert found["platform"] == "cpu"

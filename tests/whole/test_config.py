import dataclasses

import numpy as np
import pytest

from pulse3d import config
from pulse3d.errors import InputError
from pulse3d.settings import differences, from_dict, override, to_dict


def test_paper_preset_is_the_original_method(paper):
    axis = paper.clip.rate_axis_bpm
    np.testing.assert_allclose(axis, np.linspace(55, 240, 75))
    assert np.allclose(np.diff(axis), 2.5)
    assert (paper.clip.frames, paper.clip.patch_px, paper.clip.fps, paper.clip.classes) == (60, 25, 30.0, 76)
    assert paper.train.steps * paper.train.batch_size == 76_000_000


def test_override_types_the_value_by_the_setting(paper):
    new = override(
        paper,
        [
            "train.steps=7",
            "train.learning_rate=1e-4",
            "generator.quantise_no_pulse=true",
            "model.kernel=40,10,10",
        ],
    )
    assert (new.train.steps, new.train.learning_rate) == (7, 1e-4)
    assert new.generator.quantise_no_pulse is True
    assert new.model.kernel == (40, 10, 10)
    assert new.clip == paper.clip


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.stepz=7", "did you mean steps"),
        ("trian.steps=7", "did you mean train"),
        ("train.steps=many", "expected int"),
        ("generator.quantise_no_pulse=perhaps", "expected true or false"),
        ("train.steps", "expected name=value"),
        ("train=7", "is a group"),
        ("train.steps.x=7", "not part of a group"),
        ("train.steps=0", "must be >= 1"),
        ("train.schedule=cosin", "did you mean cosine"),
        ("train.compute=bfloat", "did you mean bfloat16"),
        ("model.kernel=61,20,20", "leaves nothing to pool"),
        ("clip.high_bpm=900", "Nyquist"),
        ("map.tile_px=10", "below the patch"),
    ],
)
def test_override_refuses_with_one_helpful_line(paper, assignment, message):
    with pytest.raises(InputError, match=message) as error:
        override(paper, [assignment])
    assert "\n" not in str(error.value)


def test_unknown_preset_names_the_nearest():
    with pytest.raises(InputError, match="did you mean paper"):
        config.get_preset("papper")


def test_groups_of_every_kind_can_be_overridden():
    default = config.get_preset("default")
    new = override(default, ["generator.pulse=0.001,0.01", "model.gain=50", "train.average=0.9"])
    assert new.generator == dataclasses.replace(default.generator, pulse=(0.001, 0.01))
    assert new.model == dataclasses.replace(default.model, gain=50.0)
    with pytest.raises(InputError, match="no setting kernel"):
        override(default, ["model.kernel=3,3,3"])
    with pytest.raises(InputError, match="this network reads cells"):
        override(default, ["map.cells=0"])


def test_a_group_has_to_be_of_the_kind_expected(paper):
    assert config.expect(paper.model, config.ModelConfig) is paper.model
    with pytest.raises(InputError, match="expected ScenesConfig, found GeneratorConfig"):
        config.expect(paper.generator, config.ScenesConfig)


@pytest.mark.parametrize("name", ["toy", "toy_cells"])
def test_dictionaries_round_trip(name, request):
    settings = request.getfixturevalue(name)
    assert from_dict(to_dict(settings)) == settings
    with pytest.raises(InputError, match="no setting frame "):
        from_dict({"clip": {"frame ": 3}})
    with pytest.raises(InputError, match="expected int"):
        from_dict({"clip": {"frames": "3"}})


def test_differences_are_named(toy):
    other = override(toy, ["train.seed=5"])
    assert differences(toy, other) == ["train.seed: 0 -> 5"]
    assert differences(toy, toy) == []


def test_configs_are_frozen(toy):
    with pytest.raises(dataclasses.FrozenInstanceError):
        toy.train.steps = 3

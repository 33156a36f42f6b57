import numpy as np
import pytest

from ganavatar_jax.metrics import baselines
from helpers import lazy_images


def labels(yaws_deg):
    yaw = np.radians(np.asarray(yaws_deg, np.float64))
    cam2world = np.tile(np.eye(4), (len(yaw), 1, 1))
    cam2world[:, 0, 0] = cam2world[:, 2, 2] = np.cos(yaw)
    cam2world[:, 0, 2], cam2world[:, 2, 0] = np.sin(yaw), -np.sin(yaw)
    intrinsics = np.tile(np.eye(3).reshape(1, 9), (len(yaw), 1))
    return np.concatenate([cam2world.reshape(-1, 16), intrinsics], axis=1)


def test_mean_image_rounds_the_average_to_the_nearest_level():
    frames = np.stack([np.full((2, 2, 3), v, np.uint8) for v in (0, 255, 255)])
    assert np.all(baselines.mean_image(frames) == 170)
    frames = np.stack([np.full((2, 2, 3), v, np.uint8) for v in (1, 1, 2)])
    assert np.all(baselines.mean_image(frames) == 1)


def test_the_mean_of_many_frames_is_that_of_evenly_chosen_ones_read_a_few_at_a_time(monkeypatch):
    array = np.random.default_rng(0).integers(0, 256, (97, 4, 4, 3), dtype=np.uint8)
    frames = lazy_images.LazyImages(array)
    np.testing.assert_array_equal(baselines.mean_image(frames), baselines.mean_image(array))
    assert frames.most <= 32
    monkeypatch.setattr(baselines, "_MEAN_FRAMES", 25)
    np.testing.assert_array_equal(baselines.mean_image(array), baselines.mean_image(array[::4]))


def test_among_many_training_frames_few_test_frames_are_compared_at_once(monkeypatch):
    draws = np.random.default_rng(0)
    given = (
        *(labels(draws.uniform(-80, 80, 300)), draws.uniform(size=(300, 5))),
        *(labels(draws.uniform(-80, 80, 40)), draws.uniform(size=(40, 5))),
    )
    expected, sizes, distances = baselines.nearest_frame(*given), [], baselines._distances
    monkeypatch.setattr(baselines, "_MOST_PAIRS", 1500)
    monkeypatch.setattr(baselines, "_SPREAD_FRAMES", 300)

    def counted(first, second):
        sizes.append(len(first) * len(second))
        return distances(first, second)

    monkeypatch.setattr(baselines, "_distances", counted)
    np.testing.assert_array_equal(baselines.nearest_frame(*given), expected)
    assert max(sizes[2:]) == 1500  # the first two are the spreads


def test_a_training_frame_is_its_own_nearest_frame():
    generator = np.random.default_rng(0)
    cameras = labels(generator.uniform(-80, 80, size=40))
    codes = generator.uniform(size=(40, 5))
    nearest = baselines.nearest_frame(cameras, codes, cameras, codes, chunk=7)
    np.testing.assert_array_equal(nearest, np.arange(40))


def test_nearest_frame_equals_a_plain_double_loop():
    generator = np.random.default_rng(1)
    train_yaw, test_yaw = generator.uniform(-80, 80, 30), generator.uniform(-80, 80, 9)
    train_codes, test_codes = generator.uniform(size=(30, 4)), generator.uniform(size=(9, 4))
    pairs = [(i, j) for i in range(30) for j in range(30) if i != j]
    yaw_spread = np.sqrt(np.mean([(train_yaw[i] - train_yaw[j]) ** 2 for i, j in pairs]))
    code_spread = np.sqrt(
        np.mean([np.sum((train_codes[i] - train_codes[j]) ** 2) for i, j in pairs])
    )
    expected = [
        min(
            range(30),
            key=lambda i: (
                (1.5 * (yaw - train_yaw[i]) / yaw_spread) ** 2
                + np.sum((code - train_codes[i]) ** 2) / code_spread**2
            ),
        )
        for yaw, code in zip(test_yaw, test_codes, strict=True)
    ]
    nearest = baselines.nearest_frame(
        labels(train_yaw), train_codes, labels(test_yaw), test_codes, camera_weight=1.5, chunk=4
    )
    np.testing.assert_array_equal(nearest, expected)


def test_units_of_the_code_do_not_matter():
    generator = np.random.default_rng(2)
    train, test = labels(generator.uniform(-80, 80, 25)), labels(generator.uniform(-80, 80, 8))
    train_codes, test_codes = generator.uniform(size=(25, 3)), generator.uniform(size=(8, 3))
    np.testing.assert_array_equal(
        baselines.nearest_frame(train, train_codes, test, test_codes),
        baselines.nearest_frame(train, 100 * train_codes, test, 100 * test_codes),
    )


def test_without_codes_the_camera_decides_alone():
    none = np.zeros((3, 0))
    nearest = baselines.nearest_frame(labels([-40, 0, 40]), none, labels([35, -2, -90]), none)
    np.testing.assert_array_equal(nearest, [2, 1, 0])


def test_a_camera_that_never_moves_leaves_the_choice_to_the_code():
    codes = np.array([[0.0], [0.5], [1.0]])
    nearest = baselines.nearest_frame(labels([10] * 3), codes, labels([10]), np.array([[0.9]]))
    np.testing.assert_array_equal(nearest, [2])


def test_mismatched_inputs_are_refused():
    nearest_frame = baselines.nearest_frame.__wrapped__  # Users run without the type hook.
    with pytest.raises(ValueError, match="at least one training frame; got 0 cameras"):
        nearest_frame(labels([]), np.zeros((0, 2)), labels([0]), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="test codes like the training codes"):
        nearest_frame(labels([0]), np.zeros((1, 2)), labels([0]), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="at least one training frame; got none"):
        baselines.mean_image(np.zeros((0, 2, 2, 3), np.uint8))

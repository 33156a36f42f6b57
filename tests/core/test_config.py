import dataclasses
import json
from typing import Literal

import ml_collections
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganavatar_jax.core import config, errors


@dataclasses.dataclass(frozen=True)
class Optimizer:
    rate: float
    betas: tuple[float, float] = (0.0, 0.99)


@dataclasses.dataclass(frozen=True)
class Training:
    batch: int
    optimizer: Optimizer
    mode: Literal["fast", "exact"] = "fast"
    channels: tuple[int, ...] = ()
    mirror: bool = False
    clamp: float | None = None
    warm_up: Optimizer | None = None
    start: float | Literal["auto"] = "auto"

    def __post_init__(self):
        if self.batch < 1:
            raise ValueError(f"batch must be positive; got {self.batch}.")


GOOD = {"batch": 4, "optimizer": {"rate": 1e-3}}


def test_a_config_dict_becomes_the_dataclass():
    values = ml_collections.ConfigDict(GOOD | {"channels": (8, 4), "warm_up": {"rate": 0.5}})
    assert config.resolve(Training, values) == Training(
        batch=4, optimizer=Optimizer(1e-3), channels=(8, 4), warm_up=Optimizer(0.5)
    )


def test_references_and_placeholders_are_followed():
    values = ml_collections.ConfigDict(GOOD)
    values.optimizer = ml_collections.ConfigDict({"rate": values.get_ref("batch") * 0.25})
    values.clamp = ml_collections.config_dict.placeholder(float)
    values.batch = 8
    resolved = config.resolve(Training, values)
    assert resolved.optimizer.rate == 2.0
    assert resolved.clamp is None


def test_an_integer_is_accepted_where_a_float_is_meant_and_becomes_one():
    resolved = config.resolve(Optimizer, {"rate": 1, "betas": [0, 1]})
    assert resolved == Optimizer(1.0, (0.0, 1.0))
    assert type(resolved.rate) is float
    assert type(resolved.betas) is tuple


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bacth": 4}, r'config\.bacth: unknown key "bacth"; did you mean "batch"\?'),
        ({"zzz": 4}, r'unknown key "zzz"; known keys: batch, optimizer, mode'),
        ({"batch": "4"}, r"config\.batch: expected int; got '4' \(str\)"),
        ({"batch": 4.0}, r"config\.batch: expected int; got 4\.0 \(float\)"),
        ({"batch": True}, r"config\.batch: expected int; got True \(bool\)"),
        ({"mirror": 1}, r"config\.mirror: expected bool; got 1 \(int\)"),
        ({"mode": "slow"}, r"config\.mode: expected one of 'fast', 'exact'; got 'slow'"),
        ({"clamp": "no"}, r"config\.clamp: expected float or None; got 'no'"),
        ({"start": "2.1"}, r"config\.start: expected float or 'auto'; got '2.1' .str."),
        ({"clamp": True}, r"config\.clamp: expected float or None; got True"),
        ({"channels": 8}, r"config\.channels: expected a list; got 8"),
        ({"channels": (8, "4")}, r"config\.channels\[1\]: expected int; got '4'"),
        ({"optimizer": 3}, r"config\.optimizer: expected a section of keys; got 3"),
        ({"optimizer": {}}, r"config\.optimizer\.rate: required key is missing"),
        ({"optimizer": {"rate": "x"}}, r"config\.optimizer\.rate: expected float; got 'x'"),
        ({"optimizer": {"rate": 1.0, "betas": (0.0,)}}, r"optimizer\.betas: expected 2 values"),
        ({"warm_up": {"rte": 1.0}}, r'config\.warm_up\.rte: .* did you mean "rate"\?'),
        ({"batch": 0}, r"config: batch must be positive; got 0\."),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_its_key(change, message):
    for values in (GOOD | change, ml_collections.ConfigDict(GOOD | change, type_safe=False)):
        with pytest.raises(errors.ConfigError, match=message) as caught:
            config.resolve(Training, values)
        assert "\n" not in str(caught.value)


def test_a_missing_key_names_the_flag_that_sets_it():
    with pytest.raises(errors.ConfigError, match=r"--config\.data\.batch=\.\.\."):
        config.resolve(Training, {"optimizer": {"rate": 1.0}}, path="config.data")


RATES = st.floats(allow_nan=False)
OPTIMIZERS = st.builds(Optimizer, rate=RATES, betas=st.tuples(RATES, RATES))
TRAININGS = st.builds(
    Training,
    batch=st.integers(min_value=1),
    optimizer=OPTIMIZERS,
    mode=st.sampled_from(["fast", "exact"]),
    channels=st.lists(st.integers()).map(tuple),
    mirror=st.booleans(),
    clamp=st.none() | RATES,
    warm_up=st.none() | OPTIMIZERS,
)


@given(TRAININGS)
def test_what_a_run_folder_stores_resolves_to_the_same_config(training):
    stored = json.loads(json.dumps(config.to_dict(training)))
    assert config.resolve(Training, stored) == training

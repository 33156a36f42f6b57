import dataclasses

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganavatar_jax.core import trees
from ganavatar_jax.core.arrays import Array, Float


@trees.pytree_dataclass
class Rays:
    origins: Float[Array, "*b 3"]
    t: Float[Array, "*b s"]


def make_rays(batch):
    return Rays(origins=jnp.ones((batch, 3)), t=jnp.arange(batch * 4.0).reshape(batch, 4))


def test_leaves_are_the_fields_by_name():
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(make_rays(2))]
    assert paths == [".origins", ".t"]


def test_flattening_and_back_gives_the_same_class_and_arrays():
    rays = make_rays(2)
    leaves, structure = jax.tree.flatten(rays)
    back = jax.tree.unflatten(structure, leaves)
    assert type(back) is Rays
    assert back.origins is rays.origins
    assert back.t is rays.t


def test_jit_vmap_and_grad_pass_through():
    doubled = jax.jit(lambda r: jax.tree.map(lambda x: 2 * x, r))(make_rays(2))
    assert float(doubled.t[1, 3]) == 14.0
    assert jax.vmap(lambda r: r.t.sum())(make_rays(2)).tolist() == [6.0, 22.0]
    assert (jax.grad(lambda r: (r.origins**2).sum())(make_rays(2)).origins == 2.0).all()


def test_placeholders_in_the_leaves_are_no_construction():
    shapes = jax.eval_shape(lambda: make_rays(2))
    assert shapes.t.shape == (2, 4)
    assert jax.tree.map(lambda _: None, make_rays(2)).t is None


def test_instances_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_rays(1).t = jnp.zeros((1, 4))


NAMES = st.text("ab_/ 0é", min_size=1, max_size=3)
TREES = st.integers()
for _ in range(3):
    TREES = st.dictionaries(NAMES, st.integers() | TREES, min_size=1, max_size=3)


@given(TREES)
def test_flat_names_rebuild_the_nested_dict(tree):
    assert trees.unflatten_names(dict(trees.flatten_names(tree))) == tree


def test_flat_names_keep_the_order_and_take_a_prefix():
    tree = {"b": {"w": 1, "a": 2}, "a": 3}
    assert list(trees.flatten_names(tree)) == [("b.w", 1), ("b.a", 2), ("a", 3)]
    assert list(trees.flatten_names({"w": 1}, "net"))[0] == ("net.w", 1)

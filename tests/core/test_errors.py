import inspect

from ganavatar_jax.core import errors


def test_every_user_error_is_caught_by_the_one_base_and_says_when_it_is_raised():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert len(kinds) > 1
    for kind in kinds:
        assert issubclass(kind, errors.GanAvatarError)
        assert kind.__doc__

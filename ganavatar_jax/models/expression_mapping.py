"""The mapping network: expression code to w, a shallow MLP.

The default follows the original's released code (leaky ReLU, small output layer); the paper's
text says ReLU, which is an option. Parameter names follow the original's checkpoint.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core.arrays import Array, Float, PRNGKeyArray
from ganavatar_jax.models import expression_mapping_config


def init(
    key: PRNGKeyArray,
    config: expression_mapping_config.ExpressionMappingConfig,
    *,
    code_dim: int,
    w_dim: int,
) -> dict[str, Any]:
    """Makes fresh parameters.

    Args:
      key: Random key.
      config: Sizes.
      code_dim: Length of the expression code.
      w_dim: Length of w.

    Returns:
      {"network": {"0": {"weight", "bias"}, ...}, "output": {...}}, weights [in, out].

    Source: GAN-Avatar's released code: Kaiming normal hidden weights (slope 0.2), PyTorch's
    uniform default elsewhere, output weights times 0.25.
    """
    keys = iter(jax.random.split(key, 2 * config.hidden_layers + 2))
    network = {}
    size = code_dim
    gain = math.sqrt(2.0 / (1.0 + 0.2**2))
    for index in range(config.hidden_layers):
        bound = 1.0 / math.sqrt(size)
        network[str(index)] = {
            "weight": jax.random.normal(next(keys), (size, config.width)) * (gain * bound),
            "bias": jax.random.uniform(next(keys), (config.width,), minval=-bound, maxval=bound),
        }
        size = config.width
    bound = 1.0 / math.sqrt(size)
    weight = jax.random.uniform(next(keys), (size, w_dim), minval=-bound, maxval=bound)
    bias = jax.random.uniform(next(keys), (w_dim,), minval=-bound, maxval=bound)
    return {"network": network, "output": {"weight": weight * config.output_scale, "bias": bias}}


def start_linear(
    params: dict[str, Any],
    weight: Float[np.ndarray, "e d"],
    bias: Float[np.ndarray, " d"],
    config: expression_mapping_config.ExpressionMappingConfig,
) -> dict[str, Any]:
    """Sets a fresh network to a linear map, which training then bends.

    Two units of each hidden layer carry one number of the code: of leaky ReLUs of slope a,
    lrelu(x) - lrelu(-x) = (1 + a) x. The others keep their weights and start without a say.

    Args:
      params: What `init` returned.
      weight: Linear map from codes.
      bias: What it adds.
      config: Sizes.

    Returns:
      Parameters that map a code to code @ weight + bias.

    Raises:
      ValueError: the hidden layers have fewer than two units for each number of the code.
    """
    count = len(weight)
    if config.width < 2 * count:
        raise ValueError(
            f"a network of {config.width} units cannot carry {count} numbers; it takes {2 * count}."
        )
    straight = 1.0 + (0.2 if config.activation == "lrelu" else 0.0)
    both = np.concatenate([np.eye(count), -np.eye(count)])  # x and -x of each number
    carry, network = both.T, {}
    for index in range(config.hidden_layers):
        layer = {name: np.array(value) for name, value in params["network"][str(index)].items()}
        layer["weight"][:, : 2 * count], layer["bias"][: 2 * count] = 0.0, 0.0
        layer["weight"][: len(carry), : 2 * count] = carry
        network[str(index)] = layer
        carry = both @ both.T / straight
    output = np.zeros((config.width, weight.shape[1]))
    output[: 2 * count] = both @ weight / straight
    made = {"network": network, "output": {"weight": output, "bias": np.array(bias)}}
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), made)


def apply(
    params: dict[str, Any],
    code: Float[Array, "b e"],
    config: expression_mapping_config.ExpressionMappingConfig,
) -> Float[Array, "b d"]:
    """Maps codes to w.

    Args:
      params: Parameters.
      code: Expression codes, normalised as in training.
      config: Sizes.

    Returns:
      One w a sample.

    Source: GAN-Avatar (Kabadayi et al. 2024), section on the mapping network.
    """
    slope = 0.2 if config.activation == "lrelu" else 0.0
    x = code
    for index in range(config.hidden_layers):
        layer = params["network"][str(index)]
        x = jnp.matmul(x, layer["weight"]) + layer["bias"][None]
        x = jnp.where(x >= 0, x, slope * x)
    return jnp.matmul(x, params["output"]["weight"]) + params["output"]["bias"][None]

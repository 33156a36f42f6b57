"""Slow NumPy versions of the primitives, written as loops from their definitions, in float64."""

import math

import numpy as np

FILTER = np.outer([1.0, 3.0, 3.0, 1.0], [1.0, 3.0, 3.0, 1.0]) / 64.0


def upfirdn2d(x, *, up=1, down=1, pad=(0, 0, 0, 0), gain=1.0, taps=FILTER):
    """Inserts zeros, pads by (left, right, top, bottom), convolves, decimates; x is [h, w]."""
    height, width = x.shape
    spread = np.zeros((height * up, width * up))
    for i in range(height):
        for j in range(width):
            spread[i * up, j * up] = x[i, j]
    left, right, top, bottom = pad
    padded = np.zeros((spread.shape[0] + top + bottom, spread.shape[1] + left + right))
    padded[top : top + spread.shape[0], left : left + spread.shape[1]] = spread
    rows, columns = (n - k + 1 for n, k in zip(padded.shape, taps.shape, strict=True))
    out = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            for a in range(taps.shape[0]):
                for b in range(taps.shape[1]):
                    flipped = taps[taps.shape[0] - 1 - a, taps.shape[1] - 1 - b]
                    out[i, j] += padded[i + a, j + b] * flipped
    return gain * out[::down, ::down]


def by_channel(function, x):
    """Applies a function of [h, w] to every channel of every image of [b, h, w, c]."""
    return np.stack(
        [
            np.stack([function(image[..., c]) for c in range(image.shape[-1])], axis=-1)
            for image in np.asarray(x, np.float64)
        ]
    )


def correlate(x, weight, *, stride=1, pad=0):
    """Slides the kernel without flipping it; x is [b, h, w, i], weight [k, k, i, o]."""
    x = np.pad(np.asarray(x, np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    size, outputs = weight.shape[0], weight.shape[3]
    rows, columns = ((n - size) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((x.shape[0], rows, columns, outputs))
    for i in range(rows):
        for j in range(columns):
            for a in range(size):
                for b in range(size):
                    out[:, i, j] += x[:, i * stride + a, j * stride + b] @ weight[a, b]
    return out


def transposed(x, weight):
    """Scatters every pixel times the kernel as stored, two pixels apart."""
    x = np.asarray(x, np.float64)
    batch, height, width, _ = x.shape
    size = weight.shape[0]
    out = np.zeros((batch, 2 * height + size - 2, 2 * width + size - 2, weight.shape[3]))
    for i in range(height):
        for j in range(width):
            for a in range(size):
                for b in range(size):
                    out[:, 2 * i + a, 2 * j + b] += x[:, i, j] @ weight[a, b]
    return out


def conv_up2(x, weight):
    """Transposed convolution, then the filter with pad 1 and gain 4."""
    smooth = lambda image: upfirdn2d(image, pad=(1, 1, 1, 1), gain=4.0)  # noqa: E731
    return by_channel(smooth, transposed(x, weight))


def conv_down2(x, weight):
    """The filter, then a convolution that keeps every second pixel."""
    if weight.shape[0] == 1:
        half = by_channel(lambda image: upfirdn2d(image, down=2, pad=(1, 1, 1, 1)), x)
        return correlate(half, weight)
    smooth = by_channel(lambda image: upfirdn2d(image, pad=(2, 2, 2, 2)), x)
    return correlate(smooth, weight, stride=2)


def modulated_conv(x, weight, style, *, demodulate=True, up=False):
    """Makes a kernel for each sample, normalises it, and convolves with it."""
    out = []
    for image, scale in zip(np.asarray(x, np.float64), np.asarray(style, np.float64), strict=True):
        kernel = np.asarray(weight, np.float64) * scale[None, None, :, None]
        if demodulate:
            kernel = kernel / np.sqrt(np.sum(kernel**2, axis=(0, 1, 2)) + 1e-8)
        if up:
            out.append(conv_up2(image[None], kernel)[0])
        else:
            out.append(correlate(image[None], kernel, pad=weight.shape[0] // 2)[0])
    return np.stack(out)


def grid_sample(plane, u, v):
    """Looks one point up in a plane [h, w, c]; texels outside count as zero."""
    height, width, channels = plane.shape
    px, py = ((u + 1) * width - 1) / 2, ((v + 1) * height - 1) / 2
    left, top = math.floor(px), math.floor(py)
    value = np.zeros(channels)
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                weight = (1 - abs(px - column)) * (1 - abs(py - row))
                value += weight * np.asarray(plane[row, column], np.float64)
    return value


def interval_weights(density, t):
    """Weights of one ray's intervals, one interval after the other."""
    through, weights = 1.0, []
    for k in range(len(t) - 1):
        middle = (float(density[k]) + float(density[k + 1])) / 2
        optical = np.logaddexp(0.0, middle - 1.0) * (float(t[k + 1]) - float(t[k]))
        alpha = 1.0 - math.exp(-optical)
        weights.append(alpha * through)
        through *= 1.0 - alpha + 1e-10
    return np.array(weights)


def importance_pdf(weights):
    """The histogram that importance samples follow: one probability a bin but the last."""
    padded = [-math.inf, *(float(w) for w in weights), -math.inf]
    peak = [max(padded[k], padded[k + 1]) for k in range(len(padded) - 1)]
    smooth = [(peak[k] + peak[k + 1]) / 2 + 0.01 for k in range(len(weights))]
    pdf = np.array(smooth[1:-1]) + 1e-5
    return pdf / pdf.sum()


def adam(param, gradients, *, lr, beta1, beta2, epsilon=1e-8):
    """PyTorch's Adam on one parameter; a gradient of None skips the step altogether."""
    param = np.asarray(param, np.float64).copy()
    mean, square, count = np.zeros_like(param), np.zeros_like(param), 0
    for gradient in gradients:
        if gradient is None:
            continue
        count += 1
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        denominator = np.sqrt(square) / math.sqrt(1 - beta2**count) + epsilon
        param -= lr / (1 - beta1**count) * mean / denominator
    return param, mean, square, count

"""Small native graphs for tests."""

import numpy as np

from taille import _native


class Net:
    """A graph under construction with seeded weights."""

    def __init__(self, *shape):
        self.rng = np.random.default_rng(0)
        self.g = _native.Graph()
        self.x = self.g.add_input("x", "float32", ["batch", *shape])
        self.shape = shape

    def constant(self, name, *shape):
        scale = 1 / np.sqrt(max(1, np.prod(shape[1:])))
        return self.g.add_constant(name, (self.rng.standard_normal(shape) * scale).astype(np.float32))

    def conv(self, x, name, out, inputs, size=3, **attrs):
        pad = [size // 2] * 4
        w = self.constant(name + ".w", out, inputs // attrs.get("groups", 1), size, size)
        y = self.g.add_node("conv2d", [x, w, self.constant(name + ".b", out)], {"padding": pad, **attrs}, name)
        return self.g.add_node("clamp", [y], {"lo": 0.0}, name + ".relu")

    def finish(self, y):
        self.g.add_output("y", y)
        self.graph, _ = _native.optimize(self.g)
        return self

    def sample(self, batch=4, seed=1):
        return np.random.default_rng(seed).standard_normal((batch, *self.shape)).astype(np.float32)

    def quantized(self, ignore=(), method="minmax"):
        calibrator = _native.Calibrator(self.graph, 1)
        for seed in range(3):
            calibrator.run({"x": self.sample(8, seed)})
        return _native.quantize(self.graph, calibrator.ranges(method), list(ignore))

"""Training phases in plain PyTorch: a loss, its gradients, Adam, averages."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_baseline import discriminator, generator, layers, perceptual, reconstruction

_POINTS = 1000  # of the density regulariser, a sample


def make_adam(parameters: Iterable[nn.Parameter], options: dict[str, Any]) -> torch.optim.Adam:
    """Makes the optimiser; one fused pass over all parameters."""
    betas = (options["beta1"], options["beta2"])
    return torch.optim.Adam(
        parameters, lr=options["lr"], betas=betas, eps=options["epsilon"], fused=True
    )


class Trainer:
    """Networks, optimisers and a batch; each method takes a step of a phase."""

    def __init__(
        self,
        g: generator.Generator,
        d: discriminator.Discriminator,
        options: dict[str, Any],
        batch: dict[str, Tensor],
        *,
        lpips: perceptual.Lpips | None = None,
        reader: dict[str, Tensor] | None = None,
    ) -> None:
        self.g, self.d, self.options, self.batch = g, d, options, batch
        self.lpips, self.reader = lpips, reader
        self.g_ema = copy.deepcopy(g).requires_grad_(False)
        self.g_adam = make_adam(g.parameters(), options["g_adam"])
        self.d_adam = make_adam(d.parameters(), options["d_adam"])
        self.recon_adam = make_adam(g.parameters(), options["reconstruction"]["adam"])

    def g_main(self) -> Tensor:
        """Judges how real D takes generated images to be."""
        self._choose(self.g)
        image, raw, _ = self._generate(self._draw(), self.batch["gen_label25"])
        loss = F.softplus(-self.d(image, raw, self.batch["gen_label25"])).mean()
        return self._step(self.g, self.g_adam, loss)

    def g_reg(self) -> Tensor:
        """Regularises the density."""
        self._choose(self.g)
        density = self.options["density"]
        ws = self.g.broadcast(self.g.map(self._draw(), self.batch["gen_label25"]))
        planes = self.g.planes(ws, "random")
        points = torch.rand(len(ws), _POINTS, 3) * 2 - 1
        moved = points + torch.randn_like(points) * density["perturbation"]
        found = generator.renderer.look_up(
            planes, torch.cat([points, moved], dim=1), self.g.sizes["render"]
        )
        first, second = self.g.decoder(found)[1].chunk(2, dim=1)
        loss = (first - second).abs().mean() * density["weight"] * self.options["g_reg_interval"]
        return self._step(self.g, self.g_adam, loss)

    def d_main(self) -> Tensor:
        """Judges how well D tells generated from real images; moves the averages."""
        self._choose(self.d)
        with torch.no_grad():
            image, raw, w = self._generate(self._draw(), self.batch["gen_label25"])
        fake = F.softplus(self.d(image, raw, self.batch["gen_label25"])).mean()
        fake.backward()  # apart from that of real images: half of the memory
        real, real_raw = self._real()
        loss = F.softplus(-self.d(real, real_raw, self.batch["label25"])).mean()
        total = self._step(self.d, self.d_adam, loss) + fake.detach()
        self._average(w)
        return total

    def d_reg(self) -> Tensor:
        """Regularises D by R1 on both inputs."""
        self._choose(self.d)
        inputs = [x.requires_grad_() for x in self._real()]
        logits = self.d(*inputs, self.batch["label25"])
        slopes = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
        penalty = sum(slope.square().sum((1, 2, 3)) for slope in slopes)
        loss = penalty.mean() * (self.options["gamma"] / 2) * self.options["d_reg_interval"]
        return self._step(self.d, self.d_adam, loss)

    def recon(self) -> Tensor:
        """Gives the training images back; moves the averages."""
        assert self.lpips is not None
        assert self.reader is not None
        self._choose(self.g)
        options, label = self.options["reconstruction"], self.batch["label25"]
        image = self._real()[0]
        with torch.no_grad():
            z = reconstruction.read_faces(image, label, self.reader)
            z = reconstruction.unit(z)
            z = z + options["noise"] * torch.randn_like(z)
            random = torch.rand(len(z), 1) < options["random_p"]
            z = torch.where(random, torch.randn_like(z), z)
        final, raw, w = self._generate(z, label)
        loss = reconstruction.compare((final, raw), image, label, options, self.lpips)
        loss = self._step(self.g, self.recon_adam, loss)
        self._average(w.detach())
        return loss

    def _choose(self, network: nn.Module) -> None:
        """Lets gradients reach one network alone, and drops old ones."""
        self.g.requires_grad_(network is self.g)
        self.d.requires_grad_(network is self.d)
        network.zero_grad(set_to_none=True)

    def _draw(self) -> Tensor:
        return torch.randn(len(self.batch["label25"]), self.g.sizes["z_dim"])

    def _generate(self, z: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        w = self.g.map(z, label)
        image, raw = self.g(self.g.broadcast(w), label, noise="random", random=True)
        return image, raw, w

    def _real(self) -> tuple[Tensor, Tensor]:
        image = self.batch["image_u8"].permute(0, 3, 1, 2).float() / 127.5 - 1
        return image, layers.resize(image, self.g.sizes["neural_resolution"])

    def _step(self, network: nn.Module, adam: torch.optim.Adam, loss: Tensor) -> Tensor:
        """Takes the step down the gradient of a loss, after cleaning it."""
        loss.backward()
        for parameter in network.parameters():
            if parameter.grad is not None:
                torch.nan_to_num_(parameter.grad, nan=0.0, posinf=1e5, neginf=-1e5)
        adam.step()
        return loss.detach()

    @torch.no_grad()
    def _average(self, w: Tensor, decay: float = 0.998) -> None:
        """Moves w_avg and the average of the generator."""
        self.g.backbone.mapping.w_avg.lerp_(w.mean(0), 1 - decay)
        torch._foreach_lerp_(list(self.g_ema.parameters()), list(self.g.parameters()), 1 - decay)
        torch._foreach_copy_(list(self.g_ema.buffers()), list(self.g.buffers()))

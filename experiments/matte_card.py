"""How good mattes are before busy rooms: actors with known mattes, backgrounds drawn from a seed.

    python experiments/matte_card.py --actors actor.zip actor2.zip --out RUN

measures coverage (soft IoU), edges, colours at the edge, leaps in time, and seconds a frame, for
each way to make mattes, and writes matte_card.md and pictures over magenta. See
experiments/log/E017-mattes.md.
"""

import argparse
import dataclasses
import json
import pathlib
import time

import matte_scenes
import numpy as np
import script
from PIL import Image
from scipy import ndimage

from ganavatar_jax.faces import regions
from ganavatar_jax.films import film_mattes, matte_solver, matters, matting

LEAP = 0.01  # Share of the head that flips beyond what the truth does.
MAGENTA = np.array([255.0, 0.0, 255.0])


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of a way to make mattes before one background.

    Attributes:
      iou: Median soft intersection over union.
      iou_least: Its 5th percentile.
      edge: Mean absolute error of the coverage in a band of 2 % around the true outline.
      gradient: The same of the coverage's gradient, per pixel.
      halo: Mean absolute error of the colours where the truth is half covered, grey levels.
      leaps: Share of kept frames in which more than 1 % of the head flips, unlike in the truth.
      refused: Share of frames that the film's own check marks.
      iou_kept: `iou` of the frames that it leaves.
      seconds: CPU seconds a frame.
    """

    iou: float
    iou_least: float
    edge: float
    gradient: float
    halo: float
    leaps: float
    refused: float
    iou_kept: float
    seconds: float


class Single(matting.SelfieMatter):
    """Closed form without the help of other frames."""

    def __init__(self) -> None:
        super().__init__(method="closed_form")
        self.takes_plates = False

    def matte(
        self, image_u8: np.ndarray, hint: matting.Hint = matting.NO_HINT
    ) -> matte_solver.Matte:
        """Makes the matte of an image by itself."""
        del hint
        return matte_solver.solve(image_u8, self.segmenter.coverage(image_u8), None)


def make_ways(onnx: str | None) -> dict[str, matters.Matter]:
    """The ways to make mattes that are compared."""
    selfie = {name: matters.make_matter(name, model_path=None) for name in ("closed_form", "fast")}
    ways: dict[str, matters.Matter] = {
        "closed_form": selfie["closed_form"],
        "closed_form, single frames": Single(),
        "fast": selfie["fast"],
    }
    if onnx:
        ways["onnx"] = matters.make_matter("onnx", model_path=onnx)
    return ways


def cut_out(
    film: matte_scenes.Film, matter: matters.Matter
) -> tuple[list[matte_solver.Matte], float]:
    """Makes the mattes of a film as `prepare_data` does; also CPU seconds a frame."""
    side = film.pictures.shape[1]
    squares = [regions.whole_image(side, side)] * len(film.pictures)
    begun = time.process_time()
    made = film_mattes.FilmMatter(
        matter, lambda index: film.pictures[index], squares, shot=film.shot, size_px=side
    )
    found = [made.matte(index) for index in range(len(film.pictures))]
    return found, (time.process_time() - begun) / len(found)


def measure(film: matte_scenes.Film, found: list[matte_solver.Matte], seconds: float) -> Row:
    """Compares mattes with the truth."""
    iou, edge, gradient, halo = [], [], [], []
    for index, matte in enumerate(found):
        mine, true = matte.alpha / 255.0, film.alpha[index] / 255.0
        iou.append(np.minimum(mine, true).sum() / np.maximum(mine, true).sum())
        band = matte_scenes.border(film.alpha[index])
        edge.append(np.abs(mine - true)[band].mean())
        slopes = [np.hypot(*np.gradient(ndimage.gaussian_filter(a, 1.0))) for a in (mine, true)]
        gradient.append(np.abs(slopes[0] - slopes[1])[band].mean())
        half = (true > 0.1) & (true < 0.9)
        apart = np.abs(matte.foreground - matte_scenes.own_color(film, index)).mean(axis=-1)
        halo.append((apart * true)[half].sum() / true[half].sum())
    leaps = film_mattes.find_leaps(
        np.stack([film_mattes.shrink(matte.alpha) for matte in found]), film.shot
    )
    return Row(
        iou=float(np.median(iou)),
        iou_least=float(np.percentile(iou, 5)),
        edge=float(np.mean(edge)),
        gradient=float(np.mean(gradient)),
        halo=float(np.mean(halo)),
        leaps=count_leaps(film, found, ~leaps),
        refused=float(leaps.mean()),
        iou_kept=float(np.median(np.array(iou)[~leaps])),
        seconds=seconds,
    )


def count_leaps(
    film: matte_scenes.Film, found: list[matte_solver.Matte], kept: np.ndarray
) -> float:
    """Share of kept frames in which pieces flip that have not flipped in the truth.

    Cells of a 64th of the side are compared, so that noise along an outline flips none.
    """
    mine = np.stack([film_mattes.shrink(matte.alpha) for matte in found]).astype(float)
    true = np.stack([film_mattes.shrink(alpha) for alpha in film.alpha]).astype(float)
    flipped = np.abs(np.diff(mine - true, axis=0)) > 127.0
    share = flipped.sum(axis=(1, 2)) / (true[1:] > 127.0).sum(axis=(1, 2))
    pairs = (np.diff(film.shot) == 0) & kept[1:] & kept[:-1]
    return float((share[pairs] > LEAP).mean()) if pairs.any() else 0.0


def draw_sheet(
    films: dict[str, matte_scenes.Film], mattes: dict[str, list[matte_solver.Matte]], *, every: int
) -> Image.Image:
    """Pictures, heads over magenta, and errors of the coverage around grey."""
    rows = []
    for name, film in films.items():
        tiles = []
        for index in range(0, len(film.pictures), every):
            matte = mattes[name][index]
            covered = matte.alpha[..., None] / 255.0
            shown = matte.foreground * covered + MAGENTA * (1.0 - covered)
            apart = 127.5 + (matte.alpha.astype(float) - film.alpha[index]) / 2.0
            tiles += [film.pictures[index], shown, np.repeat(apart[..., None], 3, axis=2)]
        rows.append(np.concatenate(tiles, axis=1))
    return Image.fromarray(np.concatenate(rows).astype(np.uint8))


def choose_parts(path: str, *, count: int, length: int) -> list[range]:
    """Takes consecutive frames at places spread over a capture."""
    with matte_scenes.eg3d.open_capture(path) as capture:
        last = len(capture.frames) - length
    return [range(start, start + length) for start in np.linspace(0, last, count).astype(int)]


def write_table(rows: dict[tuple[str, str, str], Row]) -> str:
    """One line for each way, actor and background."""
    names = [field.name for field in dataclasses.fields(Row)]
    lines = [f"| way | actor | background | {' | '.join(names)} |"]
    lines.append("|" + "---|" * (len(names) + 3))
    for key, row in rows.items():
        cells = [f"{value:.4f}" for value in dataclasses.astuple(row)]
        lines.append(f"| {' | '.join((*key, *cells))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actors", nargs="+", required=True, help="captures with mattes")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--side", type=int, default=256, help="of the pictures, pixels")
    parser.add_argument("--parts", type=int, default=6, help="stretches of each film")
    parser.add_argument("--length", type=int, default=12, help="frames of a stretch")
    parser.add_argument("--scenes", nargs="+", default=sorted(matte_scenes.SCENES))
    parser.add_argument("--ways", nargs="+", default=None)
    parser.add_argument("--onnx", default=None, help="a network of yours")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    ways = make_ways(options.onnx)
    rows: dict[tuple[str, str, str], Row] = {}
    for way in options.ways or ways:
        films, mattes = {}, {}
        for path in options.actors:
            parts = choose_parts(path, count=options.parts, length=options.length)
            actor = matte_scenes.read_actor(path, parts=parts)
            name = pathlib.Path(path).parent.name
            for scene in options.scenes:
                film = matte_scenes.make_film(actor, scene, side=options.side, seed=options.seed)
                found, seconds = cut_out(film, ways[way])
                rows[way, name, scene] = measure(film, found, seconds)
                print(way, name, scene, rows[way, name, scene], flush=True)
                films[f"{name} {scene}"], mattes[f"{name} {scene}"] = film, found
        sheet = draw_sheet(films, mattes, every=options.length * max(1, options.parts // 3))
        sheet.save(options.out / f"{way.split(',')[0]}{len(way.split(','))}.png")
    (options.out / "matte_card.md").write_text(write_table(rows))
    facts = [[*key, dataclasses.asdict(row)] for key, row in rows.items()]
    (options.out / "matte_card.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    script.run(main)

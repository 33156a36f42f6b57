"""Measures the default expression estimator on faces whose ARKit weights are known.

    python experiments/estimator_card.py --people=people_frontal.zip --posed=people_1.zip \
        --actor=monocular.zip --dst=runs/estimator_card [--calibration=OUT.json]

Reads clean and degraded copies, fits the calibration on some people, measures it on other people
and on one person's video (that the fit has not seen), and writes card.md, card.json and figures.
Readings stay in dst/readings: a run that was stopped goes on where it was, and a second run only
computes tables. The file is long because each table is a function.
"""

import argparse
import dataclasses
import json
import pathlib

import estimator_calibration as ec
import estimator_figures
import estimator_proxy
import estimator_readings as er
import numpy as np
import script

from ganavatar_jax.core import files
from ganavatar_jax.faces import calibration, coefficients, measures

MAX_ANGLE_DEG = 35.0  # as in the evaluation of avatars
MIN_STD = 0.02  # coefficients whose truth varies less in a set are not scored on it
DEGRADED = ("64 mixed", "64 blur", "64 noise", "64 colour", "64 shift", "32")
OPTIONS = (
    {},
    {"refine_passes": 0},
    {"refine_passes": 2},
    {"upsample_px": 64},
    {"upsample_px": 128},
    {"upsample_px": 512},
)
SHARED = tuple(n for n in coefficients.MEDIAPIPE_NAMES if n in coefficients.ARKIT_NAMES)
GROUPS = estimator_proxy.REPORTED


@dataclasses.dataclass(frozen=True)
class Table:
    """One table of the card."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple]

    def markdown(self) -> str:
        """Returns the table as Markdown, numbers with two digits."""

        def cell(value) -> str:
            if value is None or (isinstance(value, float) and np.isnan(value)):
                return "-"
            return f"{value:.2f}" if isinstance(value, float) else str(value)

        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        body = "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)
        return f"### {self.title}\n\n{body}\n"


@dataclasses.dataclass(frozen=True)
class Sets:
    """Readings of the parts that the card speaks of."""

    actor: er.People
    people: er.People
    actor_faces: dict[str, ec.Faces]  # by size; mirrored readings averaged in
    actor_plain: dict[str, ec.Faces]
    people_faces: dict[str, ec.Faces]
    people_plain: dict[str, ec.Faces]
    found: dict[str, float]
    confidence: tuple[np.ndarray, ec.Faces]  # of the people at "64 mixed"


def main() -> None:
    """Reads, fits, measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=pathlib.Path, required=True, help="frontal faces")
    parser.add_argument("--posed", type=pathlib.Path, required=True, help="faces seen obliquely")
    parser.add_argument("--actor", type=pathlib.Path, required=True, help="one person's video")
    parser.add_argument("--dst", type=pathlib.Path, required=True)
    parser.add_argument("--train", type=int, default=600, help="faces of each people archive")
    parser.add_argument("--test", type=int, default=300, help="frontal faces left out")
    parser.add_argument("--calibration", type=pathlib.Path, help="write the calibration here too")
    arguments = parser.parse_args()
    folder = arguments.dst / "readings"
    frontal, posed, actor = (
        er.list_frames(path, max_angle_deg=MAX_ANGLE_DEG)
        for path in (arguments.people, arguments.posed, arguments.actor)
    )
    train = [
        ec.pair(part, er.read(part, "64 mixed", folder, mirrored=False))
        for part in (people.rows(np.arange(arguments.train)) for people in (frontal, posed))
    ]
    count = len(frontal.frames)
    sets = read_sets(actor, frontal.rows(np.arange(count - arguments.test, count)), folder)
    seen = sets.actor_faces["64"]
    fitted, left_out = fit_calibration(train, seen.part(~seen.held_out))
    everything = {n: ec.fit(train, inputs, provenance={})[0] for n, inputs in INPUTS.items()}
    tables = [
        conditions(sets, fitted),
        per_coefficient(sets, fitted, left_out),
        cross_talk(sets, fitted),
        confidence(sets, fitted),
        options(actor.rows(np.arange(0, len(actor.frames), 6)), folder),
        inputs_table(sets, everything),
        mapping(sets, fitted, everything["52 + distances"], left_out),
        penalties(sets, fitted),
    ]
    content = {t.title: [dict(zip(t.columns, row, strict=True)) for row in t.rows] for t in tables}
    files.write_atomic(arguments.dst / "card.json", json.dumps(content, indent=1))
    files.write_atomic(arguments.dst / "card.md", "\n".join(t.markdown() for t in tables))
    estimator_figures.draw_coefficients(content[tables[1].title], arguments.dst)
    estimator_figures.draw_jaw(sets.actor_faces["64"], fitted, arguments.dst)
    calibration.save(arguments.dst / "calibration.json", fitted)
    if arguments.calibration:
        calibration.save(arguments.calibration, fitted)
    print((arguments.dst / "card.md").read_text())


INPUTS = {
    "52": coefficients.MEDIAPIPE_NAMES,
    "distances": measures.NAMES,
    "52 + distances": ec.READ_NAMES,
}


def read_sets(actor: er.People, people: er.People, folder: pathlib.Path) -> Sets:
    """Reads the one person and the people that the fit does not see."""
    actor = actor.rows(np.arange(0, len(actor.frames), 2))
    some = people.rows(np.arange(len(people.frames) // 3))
    one = {how: er.read(actor, how, folder) for how in ("64", "256")}
    one["128"] = er.read(actor, "128", folder, mirrored=False)
    many = {"64": (people, er.read(people, "64", folder))}
    many["128"] = (people, er.read(people, "128", folder, mirrored=False))
    many |= {how: (some, er.read(some, how, folder, mirrored=False)) for how in DEGRADED}
    found = {f"people {how}": float(r.found.mean()) for how, (_, r) in many.items()}
    found |= {f"actor {how}": float(r.found.mean()) for how, r in one.items()}
    mixed = many["64 mixed"][1]
    return Sets(
        actor=actor,
        people=people,
        actor_faces={how: ec.pair(actor, r, flip=True) for how, r in one.items()},
        actor_plain={how: ec.pair(actor, r) for how, r in one.items()},
        people_faces={how: ec.pair(p, r, flip=True) for how, (p, r) in many.items()},
        people_plain={how: ec.pair(p, r) for how, (p, r) in many.items()},
        found=found,
        confidence=(mixed.confidence[mixed.found], ec.pair(some, mixed)),
    )


def fit_calibration(
    train: list[ec.Faces], actor: ec.Faces
) -> tuple[calibration.Calibration, dict[str, float]]:
    """Fits the calibration and keeps what can be read off others, and within one person."""
    provenance = {
        "made_by": "experiments/estimator_card.py",
        "estimator": "MediaPipe face landmarker, upsample_px 256, refine_passes 1",
        "people": "synthetic, rendered from MakeHuman's CC0 base mesh and the 52 ARKit face units",
        "faces": [len(part.rows) for part in train],
        "images": "64 px with random blur, noise, colour and shift; within 35 degrees of frontal",
        "kept": f"correlation with the truth >= {ec.MIN_CORRELATION} on people left out of the fit "
        f"and >= {ec.MIN_WITHIN} within one person (frames not held out)",
        "license": "CC0-1.0",
    }
    fitted, left_out = ec.fit(train, ec.READ_NAMES, provenance=provenance)
    code = fitted.apply(actor.readings, ec.READ_NAMES)
    within = scores(actor, code, fitted.names, ())
    kept = tuple(
        name
        for name in above(left_out, ec.MIN_CORRELATION)
        if pair_mean(within, name) >= ec.MIN_WITHIN
    )
    shown = {name: round(left_out[name], 2) for name in kept}
    fitted = dataclasses.replace(fitted, provenance=provenance | {"correlation_left_out": shown})
    return ec.keep(fitted, kept), left_out


def above(left_out: dict[str, float], least: float) -> tuple[str, ...]:
    """Returns the coefficients read off people left out with at least this correlation."""
    return tuple(n for n in coefficients.ARKIT_NAMES if pair_mean(left_out, n) >= least)


def pair_mean(values: dict[str, float], name: str) -> float:
    """Returns the mean of a coefficient and its other side, so that both are kept or neither."""
    return (values[name] + values[coefficients.other_side(name)]) / 2


def scores(
    faces: ec.Faces, code: np.ndarray, names: tuple[str, ...], scored: tuple[str, ...]
) -> dict[str, float]:
    """Correlates codes with the truth: scored coefficients, their mean, and named groups."""
    truth = coefficients.select(faces.truth, coefficients.ARKIT_NAMES, names)
    r = dict(zip(names, ec.correlations(code, truth).tolist(), strict=True))
    for group, members in GROUPS.items():
        if set(members) <= set(names):
            a, b = (
                coefficients.select(v, names, members).mean(axis=1)[:, None] for v in (code, truth)
            )
            r[group] = float(ec.correlations(a, b)[0])
    values = [r.get(n, 0.0) for n in scored]  # what a code lacks is not read at all
    r["mean"] = float(np.sum(np.nan_to_num(values)) / max(1, len(values)))
    return r


def lively(faces: ec.Faces, names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the coefficients whose truth varies enough to be scored."""
    std = dict(zip(coefficients.ARKIT_NAMES, faces.truth.std(axis=0), strict=True))
    return tuple(name for name in names if std[name] >= MIN_STD)


def raw(faces: ec.Faces, names: tuple[str, ...] = SHARED) -> np.ndarray:
    """Returns uncalibrated coefficients."""
    return coefficients.select(faces.readings, ec.READ_NAMES, names)


def conditions(sets: Sets, fitted: calibration.Calibration) -> Table:
    """Found rate and correlations by what was done to the image."""
    rows = []
    held_out = [
        {"64": faces["64"].part(faces["64"].held_out)}
        for faces in (sets.actor_plain, sets.actor_faces)
    ]
    for who, plain, averaged in (
        ("people", sets.people_plain, sets.people_faces),
        ("actor", sets.actor_plain, sets.actor_faces),
        ("actor, held out", *held_out),
    ):
        for how in plain:
            scored = lively(plain[how], tuple(n for n in fitted.names if n in SHARED))
            variants = [("raw", plain[how], raw(plain[how]), SHARED)]
            both = how == "64" or f"{who} {how}" == "actor 256"
            if both:
                variants += [("raw, mirrored too", averaged[how], raw(averaged[how]), SHARED)]
            code = fitted.apply(averaged[how].readings, ec.READ_NAMES)
            label = "calibrated, mirrored too" if both else "calibrated"
            variants += [(label, averaged[how], code, fitted.names)]
            for label, faces, code, names in variants:
                r = scores(faces, code, names, scored)
                of = who.removesuffix(", held out")
                found = f"{sets.found[f'{of} {how}']:.1%}"
                rows += [(who, how, found, label, r["mean"], *(r.get(g) for g in GROUPS))]
    title = "Correlation with the true weights, by image"
    return Table(title, ("of", "image", "found", "code", "mean r of kept", *GROUPS), rows)


def per_coefficient(sets: Sets, fitted: calibration.Calibration, left_out: dict) -> Table:
    """Correlation and error of each coefficient."""
    people, actor = sets.people_faces["64"], sets.actor_faces["64"]
    whole = ec.keep(fitted, fitted.names)
    sources = {
        "people 128 raw": (sets.people_plain["128"], None),
        "people 64 raw": (people, None),
        "people 64 cal": (people, whole),
        "actor 256 raw": (sets.actor_faces["256"], None),
        "actor 128 raw": (sets.actor_faces["128"], None),
        "actor 64 raw": (actor, None),
        "actor 64 cal": (actor, whole),
    }
    tables = {}
    for name, (faces, cal) in sources.items():
        code = raw(faces) if cal is None else cal.apply(faces.readings, ec.READ_NAMES)
        tables[name] = scores(faces, code, SHARED if cal is None else cal.names, ())
    truth = dict(zip(coefficients.ARKIT_NAMES, people.truth.T, strict=True))
    code = dict(zip(whole.names, whole.apply(people.readings, ec.READ_NAMES).T, strict=True))
    plain = dict(zip(SHARED, raw(people).T, strict=True))
    rows = []
    for name in coefficients.ARKIT_NAMES:

        def error(codes: dict, name=name) -> float | None:
            return (
                float(np.sqrt(((codes[name] - truth[name]) ** 2).mean())) if name in codes else None
            )

        kept = "yes" if name in fitted.names else ""
        rows += [
            (
                name,
                kept,
                left_out[name],
                *(tables[source].get(name) for source in sources),
                float(truth[name].std()),
                error(plain),
                error(code),
            )
        ]
    rows.sort(key=lambda row: -row[2])
    columns = ("coefficient", "kept", "left out, 64 mixed, cal", *sources)
    errors = ("people 64: std of truth", "RMSE raw", "RMSE cal")
    return Table("Each coefficient: correlation and error", (*columns, *errors), rows)


def cross_talk(sets: Sets, fitted: calibration.Calibration) -> Table:
    """How much of what a coefficient reads is due to others: one person, 64 px, sides averaged."""
    faces = sets.actor_faces["64"]
    kept = tuple(n for n in lively(faces, fitted.names) if n in SHARED)
    bases = tuple(dict.fromkeys(n.removesuffix("Left").removesuffix("Right") for n in kept))

    def units(code: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        sides = [[n for n in names if n in (base, f"{base}Left", f"{base}Right")] for base in bases]
        mean = np.stack([coefficients.select(code, names, s).mean(axis=1) for s in sides], axis=1)
        mean = mean.astype(np.float64) - mean.mean(axis=0)
        return mean / mean.std(axis=0).clip(1e-6)

    truth = units(faces.truth, coefficients.ARKIT_NAMES)
    rows = []
    for label, code, names in (
        ("raw", raw(faces), SHARED),
        ("calibrated", fitted.apply(faces.readings, ec.READ_NAMES), fitted.names),
    ):
        matrix, _ = ec.ridge(truth, units(code, names), 0.01)
        for own, base in enumerate(bases):
            if base not in ("jawOpen", "eyeBlink", "mouthSmile", "mouthLowerDown", "browDown"):
                continue
            weights = matrix[:, own]
            others = sorted(
                (i for i in range(len(bases)) if i != own), key=lambda i: -abs(weights[i])
            )
            shown = ", ".join(f"{bases[i]} {weights[i]:+.2f}" for i in others[:3])
            purity = float(abs(weights[own]) / np.linalg.norm(weights))
            rows += [(base, label, float(weights[own]), purity, shown)]
    title = "Cross-talk: standardised weight of each true coefficient in a reading (actor, 64 px)"
    return Table(
        title, ("reading", "code", "own weight", "own / all (L2)", "largest others"), sorted(rows)
    )


def confidence(sets: Sets, fitted: calibration.Calibration) -> Table:
    """Mean absolute error of the calibrated code, over the spread of the truth, by confidence."""
    sure, faces = sets.confidence
    truth = coefficients.select(faces.truth, coefficients.ARKIT_NAMES, fitted.names)
    error = np.abs(fitted.apply(faces.readings, ec.READ_NAMES) - truth) / truth.std(axis=0)
    each = error.mean(axis=1)
    rank = lambda x: np.argsort(np.argsort(x)).astype(float)[:, None]  # noqa: E731
    spearman = float(ec.correlations(rank(sure), rank(each))[0])
    rows = []
    for part in np.array_split(np.argsort(sure), 4):
        low, high = sure[part].min(), sure[part].max()
        rows += [(f"{low:.3f} to {high:.3f}", len(part), float(each[part].mean()))]
    rows += [("rank correlation with the error", len(sure), spearman)]
    title = "Confidence against error (people, 64 mixed)"
    return Table(title, ("confidence", "faces", "mean error, in standard deviations"), rows)


def options(actor: er.People, folder: pathlib.Path) -> Table:
    """What the estimator's options change, plain readings of one person at 64 px."""
    rows = []
    for option in OPTIONS:
        faces = ec.pair(actor, er.read(actor, "64", folder, mirrored=False, **option))
        r = scores(faces, raw(faces), SHARED, lively(faces, SHARED))
        label = ", ".join(f"{k} {v}" for k, v in option.items()) or "default: 1 pass, 256 px"
        found = f"{len(faces.rows) / len(actor.frames):.1%}"
        rows += [(label, found, r["mean"], *(r[g] for g in GROUPS))]
    return Table("Options (actor, 64 px, raw)", ("option", "found", "mean r", *GROUPS), rows)


def inputs_table(sets: Sets, fits: dict[str, calibration.Calibration]) -> Table:
    """Which readings a calibration should take: mean r of all coefficients that vary."""
    rows = []
    for who, faces in (("people", sets.people_faces["64"]), ("actor", sets.actor_faces["64"])):
        scored = lively(faces, SHARED)
        r = scores(faces, raw(faces), SHARED, scored)
        rows += [(who, "raw 51", r["mean"], *(r[g] for g in GROUPS))]
        for label, fitted in fits.items():
            code = fitted.apply(faces.readings, ec.READ_NAMES)
            r = scores(faces, code, fitted.names, scored)
            rows += [(who, f"calibrated from {label}", r["mean"], *(r[g] for g in GROUPS))]
    title = "Inputs of the calibration (64 px, mirrored too)"
    return Table(title, ("of", "code", "mean r of all 51", *GROUPS), rows)


def mapping(
    sets: Sets,
    fitted: calibration.Calibration,
    whole: calibration.Calibration,
    left_out: dict[str, float],
) -> Table:
    """The stand-in for the mapping network, by code and normalisation."""
    faces, plain = sets.actor_faces["64"], sets.actor_plain["64"]
    scene = estimator_proxy.make_scene(sets.actor, faces.rows)
    kept, count = fitted.names, len(fitted.names)
    codes = [
        ("raw 51, not mirrored", raw(plain), SHARED, None),
        ("raw 51", raw(faces), SHARED, None),
        ("raw 51, whitened", raw(faces), SHARED, len(SHARED)),
        ("raw 51, 16 components", raw(faces), SHARED, 16),
        (f"raw, the {count} kept", raw(faces, kept), kept, None),
    ]
    for label, names, components in (
        ("all {}", whole.names, None),
        ("{} left out >= 0.4", above(left_out, 0.4), None),
        ("{} left out >= 0.5", above(left_out, 0.5), None),
        ("the {} kept", kept, None),
        ("the {} kept, 8 components", kept, 8),
        ("jaw and lids only: {}", ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight"), None),
    ):
        code = ec.keep(whole, names).apply(faces.readings, ec.READ_NAMES)
        codes += [(f"calibrated, {label.format(len(names))}", code, names, components)]
    truth = coefficients.select(faces.truth, coefficients.ARKIT_NAMES, kept)
    codes += [
        ("the truth itself, 52", faces.truth, coefficients.ARKIT_NAMES, None),
        (f"the truth itself, the {count} kept", truth, kept, None),
    ]
    rows = []
    for label, code, names, components in codes:
        method = "standardize" if components is None else "pca"
        got = estimator_proxy.measure(scene, code, names, method=method, components=components)
        rows += [(label, got)]
    columns = tuple(dict.fromkeys(key for _, got in rows for key in got))
    title = "Stand-in for the mapping (actor, 64 px, 8 blocks of time)"
    return Table(
        title, ("code", *columns), [(label, *(got.get(k) for k in columns)) for label, got in rows]
    )


def penalties(sets: Sets, fitted: calibration.Calibration) -> Table:
    """Whether the ranking of codes depends on the penalty of the stand-in."""
    faces = sets.actor_faces["64"]
    scene = estimator_proxy.make_scene(sets.actor, faces.rows)
    kept = fitted.names
    rows = []
    for penalty in (0.1, 0.3, 1.0, 3.0):
        for label, code, names in (
            ("raw 51", raw(faces), SHARED),
            (f"raw, the {len(kept)} kept", raw(faces, kept), kept),
            ("calibrated", fitted.apply(faces.readings, ec.READ_NAMES), kept),
        ):
            got = estimator_proxy.measure(
                scene, code, names, method="standardize", components=None, penalty=penalty
            )
            rows += [(f"{penalty:g}", label, *(got[key] for key in PENALTY_COLUMNS))]
    return Table(
        "The stand-in's penalty (actor, 64 px)", ("penalty", "code", *PENALTY_COLUMNS), rows
    )


PENALTY_COLUMNS = (
    "mouth: reading -> patch, R2",
    "eyes: reading -> patch, R2",
    "read back: jawOpen",
    "read back: eyeBlink",
    "read back: mouthSmile",
)


if __name__ == "__main__":
    script.run(main)

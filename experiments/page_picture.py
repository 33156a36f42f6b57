"""A picture of the page that export_web writes, with a face that moves and turns: `make pictures`.

PYTHONPATH=tests python experiments/page_picture.py RUN OUT.png   needs Chromium
"""

import argparse
import pathlib
import tempfile

import script

_SCENE = """
ganAvatar.setExpression({ jawOpen: 0.4 });
ganAvatar.setCamera({ yawDeg: -25, pitchDeg: 5 });
ganAvatar.page.moveSliders(ganAvatar.code);
ganAvatar.page.showRange();
"""


def main() -> None:
    """Opens the page of a run folder, sets the scene and writes what the window shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    options = parser.parse_args()
    from helpers import chromium  # of the tests

    page_file = options.run / "samples" / "web" / "avatar.html"
    with (
        tempfile.TemporaryDirectory() as folder,
        chromium.open_page(page_file, pathlib.Path(folder)) as page,
    ):
        page.wait("globalThis.ganAvatar?.ready")
        page.run(_SCENE)
        page.wait("ganAvatar.isComplete")
        page.screenshot(options.out)


if __name__ == "__main__":
    script.run(main)

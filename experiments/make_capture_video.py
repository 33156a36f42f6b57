"""Makes a bare video of a capture, to see what the video stack finds again.

    python experiments/make_capture_video.py actor/monocular.zip actor.mp4

Frame i of the video is frame i of the capture (H.264, crf 10, 25 frames a second), so that the
capture can be given as `data.video.truth`.
"""

import argparse
import pathlib

import av
import script

from ganavatar_jax.data.formats import eg3d


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capture", type=pathlib.Path)
    parser.add_argument("video", type=pathlib.Path)
    options = parser.parse_args()
    with eg3d.open_capture(options.capture) as capture, av.open(options.video, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height = capture.frames[0].size
        stream.pix_fmt = "yuv420p"
        for frame in capture.frames:
            image = frame.read_pixels()[0]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    script.run(main)

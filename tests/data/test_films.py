"""Films as people have them: what decodes is used, as players show it and when they show it."""

import itertools
import logging
import os
import pathlib

import av
import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.data.formats import film_colors, film_stream, film_times, video_file
from helpers import films

ALL = [films.shade(number) for number in range(40)]
# What players show of (a, b, c, d): a point (x, y) goes to (a x + c y, b x + d y).
MATRICES = {
    (1, 0, 0, 1): lambda image: image,
    (0, 1, -1, 0): lambda image: np.rot90(image, -1),
    (-1, 0, 0, -1): lambda image: np.rot90(image, 2),
    (0, -1, 1, 0): lambda image: np.rot90(image),
    (-1, 0, 0, 1): lambda image: image[:, ::-1],
    (1, 0, 0, -1): lambda image: image[::-1],
    (0, 1, 1, 0): lambda image: image.swapaxes(0, 1),
    (0, -1, -1, 0): lambda image: np.rot90(image.swapaxes(0, 1), 2),
}
DAMAGES = 12
WIDE = {"color_primaries": 9, "colorspace": 9, "color_range": 1}
HLG, PQ = WIDE | {"color_trc": 18}, WIDE | {"color_trc": 16}


def opened(path, **options):
    return video_file.VideoFile(path, where=path.name, **options)


def numbers(video):
    return [films.number_of(image) for image in video]


def near(got, want, tolerance=8):
    """Pixels of a lossy film; colours bleed at edges."""
    assert got.shape == want.shape
    return np.median(np.abs(got.astype(int) - want)) <= tolerance


def test_a_film_cut_without_encoding_gives_the_frames_that_players_show(tmp_path, caplog):
    films.write(tmp_path / "whole.mp4", ALL, gop=40)
    path = films.copy_packets(tmp_path / "whole.mp4", tmp_path / "cut.mp4", cut=15)
    with av.open(str(path)) as film:
        shown = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    with caplog.at_level(logging.INFO):
        video = opened(path)
    assert video.count == len(shown) == 25
    for frame, image in zip(video, shown, strict=True):
        np.testing.assert_array_equal(frame, image)
    assert caplog.messages == [
        "cut.mp4: 25 frames are used; 15 more are in the file outside of its cut, which no player "
        "shows."
    ]


def test_a_film_that_begins_between_key_frames_begins_at_the_next_one(tmp_path, caplog):
    films.write(tmp_path / "whole.ts", ALL)
    path = films.copy_packets(tmp_path / "whole.ts", tmp_path / "late.ts", skip=5)
    video = opened(path)
    assert numbers(video) == list(range(12, 40))
    assert video.times_s[0] == 0
    assert "28 frames are used; 7 of 35 in the file cannot be decoded" in caplog.text
    assert "0 to 6 (counted in the file" in caplog.text


def test_remains_before_the_first_key_frame_are_not_used(tmp_path):
    films.write(
        tmp_path / "whole.mkv",
        ALL,
        codec="mpeg4",
        options={"b": "4000000", "sc_threshold": "1000000000"},
    )
    path = films.copy_packets(tmp_path / "whole.mkv", tmp_path / "late.mkv", skip=5)
    assert numbers(opened(path)) == list(range(12, 40))


@pytest.mark.parametrize(("how", "count"), [("zeros", 39), ("noise", 40)])
def test_a_damaged_frame_costs_itself_and_is_named(how, count, tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 40, (48, 64, 3)).astype(np.uint8)
    films.write(
        tmp_path / "me.mp4", [np.roll(image + noise, 3 * i, 1) for i, image in enumerate(ALL)]
    )
    films.damage(tmp_path / "me.mp4", 17, how=how)
    video = opened(tmp_path / "me.mp4")
    assert video.count == len([*video]) == count
    named = (
        "1 of 40 in the file cannot be decoded and are left out: 17 ("
        if how == "zeros"
        else "damaged are 17"
    )
    assert named in caplog.text
    assert "remains up to the next key frame" in caplog.text
    if how == "zeros":
        assert video.times_s[17] - video.times_s[16] == pytest.approx(2 / 25)


@pytest.mark.parametrize("ending", ["mkv", "ts", "mp4"])
def test_a_film_that_is_cut_off_is_used_as_far_as_it_goes(ending, tmp_path, caplog):
    path = tmp_path / f"me.{ending}"
    options = {"movflags": "+faststart"} if ending == "mp4" else {}
    films.write(path, ALL, options={"crf": "0"})
    if options:
        with (
            av.open(str(path)) as src,
            av.open(str(tmp_path / "f.mp4"), "w", options=options) as out,
        ):
            copy = out.add_stream_from_template(src.streams.video[0])
            for packet in src.demux(video=0):
                if packet.dts is not None:
                    packet.stream = copy
                    out.mux(packet)
        path = tmp_path / "f.mp4"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    video = opened(path)
    assert 10 < video.count < 40
    assert numbers(video) == list(range(video.count))
    assert ("promises 40 frames" in caplog.text) == (ending == "mp4")


def test_a_film_of_which_nothing_decodes_is_refused_in_one_line(tmp_path):
    films.write(tmp_path / "me.mp4", ALL[:12])
    for number in range(12):
        films.damage(tmp_path / "me.mp4", number, how="zeros")
    with pytest.raises(errors.DataFormatError, match="none of 12 frames can be decoded"):
        opened(tmp_path / "me.mp4")
    films.write(tmp_path / "few.mp4", ALL[:30], gop=15)
    for number in (0, *range(16, 30)):
        films.damage(tmp_path / "few.mp4", number, how="zeros")
    with pytest.raises(errors.DataFormatError, match="only 1 of 30 frames can be decoded"):
        opened(tmp_path / "few.mp4")


def test_every_frame_keeps_its_time(tmp_path):
    times_s = [i / 10 for i in range(10)] + [1 + i / 50 for i in range(30)]
    video = opened(films.write(tmp_path / "me.mp4", ALL, times_s=times_s))
    np.testing.assert_allclose(video.times_s, times_s, atol=1e-3)
    assert video.fps == 50
    webcam_s = [i / 15 + 0.004 * (i % 3) for i in range(40)]
    video = opened(films.write(tmp_path / "me.webm", ALL, times_s=webcam_s, codec="libvpx-vp9"))
    np.testing.assert_allclose(video.times_s, webcam_s, atol=1.1e-3)
    assert video.fps == pytest.approx(15, rel=0.01)


def test_times_begin_at_the_first_frame(tmp_path):
    times_s = [5.0 + i / 25 for i in range(40)]
    video = opened(films.write(tmp_path / "me.mkv", ALL, times_s=times_s))
    np.testing.assert_allclose(video.times_s, np.arange(40) / 25, atol=1e-3)
    assert video.start_s == pytest.approx(5.0)
    assert video.fps == 25


def test_stamps_that_are_missing_or_jump_back_go_on_as_usual(tmp_path):
    np.testing.assert_allclose(
        film_times.seconds([3.0, 3.1, None, 3.3, 0.0, 0.1], None), np.arange(6) / 10
    )
    np.testing.assert_allclose(film_times.seconds([None] * 3, 50.0), [0, 0.02, 0.04])
    parts = [films.write(tmp_path / f"{i}.ts", ALL[10 * i : 10 * i + 10]) for i in range(2)]
    (tmp_path / "me.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    video = opened(tmp_path / "me.ts")
    np.testing.assert_allclose(video.times_s, np.arange(20) / 25, atol=1e-6)
    assert [films.number_of(video.read(i)) for i in (3, 15, 4, 19)] == [3, 15, 4, 19]


@pytest.mark.parametrize("matrix", MATRICES)
def test_films_are_turned_and_mirrored_as_their_flag_says(matrix, tmp_path):
    films.write(tmp_path / "me.mp4", [films.corners()] * 2)
    films.set_matrix(tmp_path / "me.mp4", matrix)
    video, want = opened(tmp_path / "me.mp4"), MATRICES[matrix](films.corners())
    assert video.size == want.shape[1::-1]
    assert near(video.read(1), want)


def test_pixels_are_made_square(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        video = opened(films.write(tmp_path / "wide.mp4", [films.corners(48, 64)], stretch=(4, 3)))
    assert video.size == (64, 64)
    assert near(video.read(0), films.corners(64, 64))
    assert "pixels of 4:3 are made square (48x64 to 64x64)" in caplog.text
    path = films.write(tmp_path / "tall.mp4", [films.corners()], stretch=(3, 4))
    films.set_matrix(path, (0, 1, -1, 0))
    assert opened(path).size == (64, 64)  # 64 x 64 lying
    odd = opened(films.write(tmp_path / "odd.mkv", [films.corners()], stretch=(1, 40)))
    assert odd.size == (64, 48)


def test_a_size_that_changes_is_fitted_into_the_first(tmp_path, caplog):
    small, tall = films.corners(32, 24), films.corners(24, 48)
    parts = [[films.corners()] * 3, [small] * 3, [tall] * 2]
    paths = [films.write(tmp_path / f"{i}.ts", part) for i, part in enumerate(parts)]
    (tmp_path / "me.ts").write_bytes(b"".join(path.read_bytes() for path in paths))
    video = opened(tmp_path / "me.ts")
    assert (video.count, video.size) == (8, (64, 48))
    assert near(video.read(4), films.corners())
    framed = np.zeros((48, 64, 3), np.uint8)
    framed[:, 20:44] = tall
    assert near(video.read(7), framed)
    assert "frames 3 to 7 are of another size and fitted into 64x48" in caplog.text


@pytest.mark.parametrize(
    ("name", "codec", "layout"),
    [
        ("me.webm", "libvpx-vp9", "yuva420p"),
        ("me.mov", "prores_ks", "yuva444p10le"),
        ("png.mov", "png", "rgba"),
        ("me.mkv", "ffv1", "bgra"),
    ],
)
def test_a_transparent_film_stands_on_white_and_is_its_matte(name, codec, layout, tmp_path, caplog):
    cover = np.zeros((48, 64), np.uint8)
    cover[12:36, 16:48] = 255
    options = {"auto-alt-ref": "0", "crf": "10"} if codec == "libvpx-vp9" else {}
    images = [np.dstack([films.shade(n), np.roll(cover, n, 1)]) for n in range(8)]
    with caplog.at_level(logging.INFO):
        video = opened(
            films.write(tmp_path / name, images, codec=codec, layout=layout, options=options)
        )
    assert video.has_alpha
    for index in (5, 2, 7):
        alpha = video.read_alpha(index)
        assert near(alpha, images[index][..., 3], 2)
        image = video.read(index)
        assert np.median(image[alpha == 0]) == 255
        inside = (alpha > 250) & (np.arange(64) > 34)
        assert abs(np.median(image[inside]) - images[index][0, -1, 0]) <= 3
    assert "its transparency is the matte" in caplog.text


def test_a_film_that_could_be_transparent_and_is_not_has_no_matte(tmp_path):
    solid = [np.dstack([image, np.full((48, 64), 255, np.uint8)]) for image in ALL[:3]]
    video = opened(films.write(tmp_path / "me.mov", solid, codec="png", layout="rgba"))
    assert not video.has_alpha
    assert video.read_alpha(0) is None


def greys(levels):
    """A picture of grey stripes, levels 0..1, 16 bits."""
    row = np.repeat(np.rint(np.array(levels) * 65535), 16).astype(np.uint16)
    return np.repeat(np.tile(row, (32, 1))[..., None], 3, axis=2)


def hdr(path, image, colors, layout="yuv444p10le"):
    return opened(
        films.write(path, [image], codec="ffv1", layout=layout, colors=colors, matrix="BT2020")
    )


def test_hdr_is_brought_to_srgb(tmp_path, caplog):
    # Black, 203 nits and 1000 nits in both curves, BT.2408.
    with caplog.at_level(logging.INFO):
        hlg = hdr(tmp_path / "hlg.mkv", greys([0, 0.75, 1.0]), HLG).read(0)
        pq = hdr(tmp_path / "pq.mkv", greys([0, 0.5807, 0.7518]), PQ).read(0)
    for image in (hlg, pq):
        black, paper, peak = (int(np.median(image[:, 16 * i : 16 * i + 16])) for i in range(3))
        assert (black, peak) == (0, 255)
        assert 232 <= paper <= 242
        assert np.ptp(image.astype(int), axis=2).max() <= 1
    assert "its HLG colours are brought to sRGB" in caplog.text
    assert "its PQ colours are brought to sRGB" in caplog.text


def test_dark_hdr_keeps_its_light_and_its_hue():
    # Scene light of 5 %: 1000 * 0.05^1.2 nits over 203 of white.
    code = np.full((1, 1, 3), round(65535 * (3 * 0.05) ** 0.5), np.uint16)
    light = 1000 / 203 * 0.05**1.2
    want = 255 * (1.055 * light ** (1 / 2.4) - 0.055)
    got = film_colors.to_srgb(code, transfer=film_colors.HLG, primaries=9)
    np.testing.assert_allclose(got, want, atol=1.5)
    skin = np.array([[[0.55, 0.45, 0.40]]]) * 65535
    red, green, blue = film_colors.to_srgb(skin.astype(np.uint16), transfer=18, primaries=9)[0, 0]
    assert red > green > blue > 100


@pytest.mark.parametrize("primaries", [9, 12])
def test_wide_gamuts_are_narrowed_and_grey_stays(primaries, tmp_path):
    colors = {"color_primaries": primaries, "color_trc": 1, "colorspace": 1, "color_range": 1}
    row = np.array([[0.5, 0.5, 0.5], [0.6, 0.4, 0.4]]) * 65535
    image = np.repeat(np.tile(np.repeat(row, 16, axis=0).astype(np.uint16), (32, 1, 1)), 1, 0)
    path = films.write(
        tmp_path / "me.mkv",
        [image],
        codec="ffv1",
        layout="yuv444p10le",
        colors=colors,
        matrix="ITU709",
    )
    picture = opened(path).read(0)
    assert np.abs(np.median(picture[:, :16], axis=(0, 1)) - 127.5).max() <= 1.5
    red, green, _ = np.median(picture[:, 16:], axis=(0, 1))
    assert red > 156  # 153 in sRGB would be paler
    assert green < 101


@pytest.mark.parametrize("side", [64, 1280])
@pytest.mark.parametrize(
    ("matrix", "colors"),
    [
        ("ITU709", {"colorspace": 1, "color_range": 1}),
        ("ITU601", {"colorspace": 6, "color_range": 1}),
        ("ITU709", {"colorspace": 1, "color_range": 2}),
        (None, {}),
    ],
)
def test_matrices_and_ranges_are_those_of_the_file_or_of_players(matrix, colors, side, tmp_path):
    unsaid = "ITU709" if side == 1280 else "ITU601"
    image = np.full((32, side, 3), (200, 60, 20), np.uint8)
    path = films.write(
        tmp_path / "me.mkv", [image], codec="ffv1", colors=colors, matrix=matrix or unsaid
    )
    assert np.abs(opened(path).read(0).astype(int) - (200, 60, 20)).max() <= 3


@pytest.mark.parametrize(
    ("layout", "grey"),
    [("yuv420p10le", False), ("gray", True), ("gray10le", True), ("yuv444p", False)],
)
def test_depths_and_grey_films_are_read(layout, grey, tmp_path):
    image = films.shade(30) if grey else films.corners()
    path = films.write(tmp_path / "me.mkv", [image], codec="ffv1", layout=layout)
    if grey:
        assert films.number_of(opened(path).read(0)) == 30
    else:
        assert near(opened(path).read(0), image, 2)


def test_colours_that_cannot_be_read_are_refused_in_one_line(tmp_path):
    path = films.write(
        tmp_path / "me.mkv", ALL[:2], codec="ffv1", layout="yuv444p", colors={"colorspace": 14}
    )
    with pytest.raises(
        errors.DataFormatError, match=r"me.mkv: frame 0: .* ICtCp, which is not read"
    ):
        opened(path).read(0)


def test_interlaced_films_are_told(tmp_path, caplog):
    films.write(tmp_path / "me.mp4", ALL[:4], options={"x264-params": "tff=1"})
    opened(tmp_path / "me.mp4")
    assert "it is interlaced and moving edges are combs" in caplog.text


@pytest.mark.parametrize(
    "name",
    [
        "10:15:32.mp4",
        "http:me.mp4",
        "%03d.mp4",
        "a b#?&.mp4",
        "two\nlines.mp4",
        "gr\u00fc\u00df.mp4",
    ],
)
def test_names_are_names(name, tmp_path, monkeypatch):
    films.write(tmp_path / "me.mp4", ALL[:3])
    (tmp_path / "me.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert numbers(video_file.VideoFile(pathlib.Path(name), where=name)) == [0, 1, 2]


def test_names_that_are_not_utf8_are_names(tmp_path):
    films.write(tmp_path / "me.mp4", ALL[:3])
    name = os.fsencode(tmp_path) + b"/gr\xfc\xdf.mp4"
    os.rename(tmp_path / "me.mp4", name)
    assert numbers(video_file.VideoFile(pathlib.Path(os.fsdecode(name)), where="me")) == [0, 1, 2]


def test_pipes_folders_and_standard_input_are_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    cases = {
        "pipe.mp4": "it is a pipe or a device",
        "-": "standard input is not read",
        "folder.mp4": "it is a folder",
        "gone.mp4": "there is no such video",
    }
    for name, message in cases.items():
        with pytest.raises(errors.DataFormatError, match=message) as error:
            film_stream.check_path(pathlib.Path(name), key="data.source")
        assert "\n" not in str(error.value)
        assert "data.source" in str(error.value)


ORDERS = {
    "back": range(119, -1, -1),
    "both ends": [n for pair in zip(range(60), range(119, 59, -1), strict=True) for n in pair],
    "two places": [n for pair in zip(range(60), range(60, 120), strict=True) for n in pair],
    "every fifth": [n for start in range(5) for n in range(start, 120, 5)],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("gop", [12, 200])
def test_reading_back_and_forth_is_not_quadratic(order, gop, tmp_path, monkeypatch):
    images = [films.shade(number) for number in range(120)]
    video = opened(films.write(tmp_path / "me.mp4", images, gop=gop))
    decoded, iterate = [], film_stream.FilmStream.__iter__

    def count(self):
        for shown in iterate(self):
            decoded.append(1)
            yield shown

    monkeypatch.setattr(film_stream.FilmStream, "__iter__", count)
    monkeypatch.setattr(video_file, "_KEPT_BYTES", 20 * 64 * 48 * 2)
    for number in ORDERS[order]:
        assert films.number_of(video.read(number)) == number % 60
    assert len(decoded) < 8 * 120


def test_a_seek_that_leads_elsewhere_is_noticed(tmp_path, monkeypatch):
    video = opened(films.write(tmp_path / "me.mp4", ALL))
    monkeypatch.setattr(
        film_stream.FilmStream, "seek", lambda self, pts: self._container.seek(0) is None
    )
    order = [39, 3, 25, 24, 38]
    assert [films.number_of(video.read(number)) for number in order] == order


def test_what_is_kept_of_a_long_film_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(video_file, "_KEPT_BYTES", 50_000)
    video = opened(films.write(tmp_path / "me.mp4", ALL))
    for _ in itertools.islice(video, 30):
        assert sum(map(video_file._bytes_of, video._kept.values())) <= 50_000
    assert 3 < len(video._kept) < 12


def test_a_part_is_all_that_is_looked_at(tmp_path):
    video = opened(films.write(tmp_path / "me.mp4", ALL), until_s=0.4)
    assert 11 <= video.count <= 13
    assert numbers(video) == list(range(video.count))


@pytest.mark.parametrize("kind", ["me.mp4", "me.mkv", "me.ts", "me.avi", "me.webm", "me.mov"])
def test_damaged_anywhere_a_film_is_read_whole_or_refused_in_one_line(kind, tmp_path):
    codec, layout = {
        "webm": ("libvpx-vp9", "yuva420p"),
        "mov": ("png", "rgba"),
        "avi": ("mpeg4", "yuv420p"),
    }.get(kind[-4:].strip("."), ("libx264", "yuv420p"))
    images = [films.corners(32, 24) + np.uint8(n) for n in range(16)]
    if "a" in layout:
        images = [np.dstack([image, image[..., 1]]) for image in images]
    sound = films.write(tmp_path / kind, images, codec=codec, layout=layout, gop=6).read_bytes()
    draws = np.random.default_rng(0)
    read, refused = 0, []
    for number in range(DAMAGES):
        data = bytearray(sound)
        for place in draws.integers(0, len(data), 1 + number % 12):
            data[place : place + 3] = draws.integers(0, 256, len(data[place : place + 3])).tolist()
        path = tmp_path / f"{number}{kind}"
        path.write_bytes(data[: draws.integers(len(data))] if number % 4 == 0 else data)
        try:
            video = opened(path)
            for index in [*range(video.count), *draws.integers(0, video.count, 8).tolist()]:
                assert video.read(index).shape[1::-1] == video.size
            assert len(video.times_s) == video.count
            assert (np.diff(video.times_s) > 0).all()
            read += 1
        except errors.DataFormatError as error:
            refused.append(str(error))
    assert read > 0
    assert not [message for message in refused if "\n" in message]


def test_a_song_with_a_cover_is_no_film(tmp_path):
    films.write(
        tmp_path / "cover.png", [films.corners()], codec="png", layout="rgb24", container="image2"
    )
    with (
        av.open(str(tmp_path / "song.mp4"), "w") as out,
        av.open(str(tmp_path / "cover.png")) as src,
    ):
        sound = out.add_stream("aac", rate=48000, layout="stereo")
        cover = out.add_stream_from_template(src.streams.video[0])
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in src.demux(video=0):
            if packet.size:
                packet.stream = cover
                out.mux(packet)
        films._write_tone(out, sound, (0.0, 0.5), length_s=0.5)
    with pytest.raises(errors.DataFormatError, match="there is only sound"):
        opened(tmp_path / "song.mp4")

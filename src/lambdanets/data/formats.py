"""Formats of image files: those that are read, by their endings, and those that are known and are not."""

from typing import Final

# The formats that Pillow may open, each with the endings that Pillow knows of it. Not allowed are
# interpreters of page descriptions (EPS, WMF); films and tables of measurements, which are no images (MPEG,
# FLI, FITS, GRIB, HDF5, BUFR); and rare formats whose decoders go byte by byte in Python or are seldom looked
# after (PSD, QOI, SGI, SUN, DDS, XBM, PCD, …). AVIF needs a Pillow that has it, as each since 11.3.
_ENDINGS: Final = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "ICO": (".ico",),
    # Several JPEGs in one file, of which the first is read.
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PCX": (".pcx",),
    "PNG": (".png", ".apng"),
    "PPM": (".pbm", ".pgm", ".ppm", ".pnm", ".pfm"),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}

FORMATS: Final = tuple(_ENDINGS)

# Endings of the files that are read, as they stand in the file system, in small letters.
ENDINGS: Final = tuple(sorted(ending.encode() for endings in _ENDINGS.values() for ending in endings))

# Endings of images in other formats: cameras' own, phones', drawings, and what else Pillow could open.
UNREAD_ENDINGS: Final = frozenset(
    (
        *(".heic", ".heif", ".jxl", ".jxr", ".svg", ".svgz", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw"),
        *(".orf", ".raf", ".rw2", ".pef", ".srw", ".exr", ".hdr", ".psd", ".psb", ".xcf", ".dcm", ".qoi"),
        *(".eps", ".ps", ".wmf", ".emf", ".bw", ".rgb", ".rgba", ".sgi", ".ras", ".dds", ".xbm", ".xpm"),
        *(".icns", ".cur", ".dcx", ".blp", ".fit", ".fits", ".fli", ".flc", ".ftc", ".ftu", ".gbr", ".im"),
        *(".iim", ".msp", ".pcd", ".pxr"),
    )
)


def is_image(name: bytes) -> bool:
    """Whether a file has the ending of an image that is read."""
    return name.lower().endswith(ENDINGS)

"""A folder of images, one folder per class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from assay.controller.datasets.base import OnProgress
from assay.controller.datasets.kinds.base import Found, Kind, Part, dataset_kind
from assay.controller.datasets.kinds.class_folders import Listing, has_class_files, list_folders
from assay.core.errors import BadInputs, RuntimeAbsent, UsageError
from assay.core.preprocess import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_SAY_EVERY = 200
# Pillow's names of modes with more than eight bits per channel.
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


@dataset_kind("images", takes="a folder with a folder of images for each class")
class Images(Kind):
    """Read by Pillow, turned as their EXIF says, kept as bytes (N, H, W, 3) or (N, H, W)."""

    size: Annotated[str, Field(pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$")] | None = Field(
        default=None, description="HEIGHTxWIDTH to bring every image to."
    )
    fit: Literal["crop", "stretch"] = Field(
        default="crop", description="How: cut what is too long, or let it be distorted."
    )
    colour: Literal["rgb", "grey"] = "rgb"

    @classmethod
    def claims(cls, what: Sequence[str]) -> bool:
        """A folder with images in it."""
        return has_class_files(what, SUFFIXES)

    def read(self, what: Sequence[str], classes: Sequence[str], progress: OnProgress) -> Found:
        """Reads it."""
        if len(what) != 1:
            raise UsageError(f"{len(what)} things: kind images takes {self.takes}")
        _require_pillow()
        listings, names = list_folders(Path(what[0]), SUFFIXES, classes)
        first = next(one.files[0] for one in listings.values() if one.files)
        like = (first, self._pixels(first))
        parts = {
            part: Part(self._stack(one, like, progress, part), one.y(), _file_of(one))
            for part, one in listings.items()
        }
        return Found(what[0], parts, names, self._preprocessing(like[1]))

    def _preprocessing(self, image: NDArray[np.uint8]) -> Preprocessing:
        if self.colour == "grey":
            return Preprocessing(shape=(1, *image.shape), scale=1 / 255)
        return Preprocessing(transpose=(2, 0, 1), scale=1 / 255)

    def _stack(
        self, listing: Listing, like: tuple[Path, NDArray[Any]], progress: OnProgress, part: str
    ) -> NDArray[np.uint8]:
        import numpy as np

        first, image = like
        x = np.empty((len(listing.files), *image.shape), dtype=np.uint8)
        for i, path in enumerate(listing.files):
            pixels = self._pixels(path)
            if pixels.shape != image.shape:
                raise BadInputs(
                    f"{path}: {_size(pixels)} pixels, but {first} has {_size(image)}: give "
                    f"--option size={_size(image)} to bring all to one size"
                )
            x[i] = pixels
            if i % _SAY_EVERY == 0:
                progress("images", i, len(listing.files), f"reading {part}")
        return x

    def _pixels(self, path: Path) -> NDArray[np.uint8]:
        import numpy as np
        from PIL import Image, ImageOps

        try:
            with Image.open(path) as opened:
                if opened.mode in _DEEP:
                    raise BadInputs(f"{path}: more than 8 bits per channel: convert it first")
                image = ImageOps.exif_transpose(opened)
                image = image.convert("RGB" if self.colour == "rgb" else "L")
                return np.asarray(self._fitted(image), dtype=np.uint8)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise BadInputs(f"{path}: cannot be read as an image: {error}") from error

    def _fitted(self, image: Any) -> Any:
        from PIL import Image, ImageOps

        if self.size is None:
            return image
        height, width = (int(side) for side in self.size.split("x"))
        if self.fit == "crop":
            return ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
        return image.resize((width, height), Image.Resampling.BICUBIC)


def _require_pillow() -> None:
    import importlib.util

    if importlib.util.find_spec("PIL") is None:
        raise RuntimeAbsent("reading images needs Pillow: pip install 'assay-fleet[controller]'")


def _file_of(listing: Listing) -> Callable[[int], str]:
    return lambda row: str(listing.files[row])


def _size(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"

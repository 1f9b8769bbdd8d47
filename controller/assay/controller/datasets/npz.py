"""Arrays in .npz files whose bytes depend on the arrays alone.

``numpy.savez`` leaves details of the zip to the library versions at hand; here every field is
fixed, so that the same arrays have the same digest on every machine. ``numpy.load`` reads them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInputs, NotFound

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNIX = 3
_REGULAR_FILE_0644 = 0o100644 << 16


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An uncompressed .npz of ``arrays``, in the given order."""
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = _UNIX
            entry.external_attr = _REGULAR_FILE_0644
            content = io.BytesIO()
            np.lib.format.write_array(
                content, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False
            )
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of the file; :class:`BadInputs` if it is not an .npz of plain arrays."""
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise BadInputs(f"{path}: one bare array, not an .npz file")
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInputs(f"{path}: not an .npz file of plain arrays: {error}") from error

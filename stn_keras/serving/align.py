"""`python -m stn_keras align`: one picture laid onto another, from file to file."""

import numpy as np
from keras import ops
from PIL import Image

from stn_keras import plots
from stn_keras.data.pictures import read
from stn_keras.registration import as_stages, register
from stn_keras.registration.alignment import start_warp
from stn_keras.system.files import replacing


def align(moving, fixed, output, stages, loss):
    """Writes the aligned picture and, next to it, a drawing. Transparent pixels are ignored.

    Args:
        moving: Path of the picture that is laid onto the other.
        fixed: Path of the other.
        output: Path of the aligned picture, of the size of the fixed one.
        stages: Names of transforms, the coarse ones first.
        loss: Name of the loss.

    Returns:
        Lines of text: how it went, and the matrix in pixels if the warp has one.

    Raises:
        PictureError: if a file is no picture.
        ValueError: if the pictures can't be aligned.
        OSError: if a file can't be written.
    """
    masks = [read(path, channels=4)[np.newaxis, ..., 3] > 0 for path in (moving, fixed)]
    moving, fixed = (read(path)[np.newaxis] for path in (moving, fixed))
    warp = register(
        moving,
        fixed,
        transform=stages,
        loss=loss,
        moving_mask=masks[0],
        fixed_mask=masks[1],
        data_format="channels_last",
        verbose=1,
    )
    start = start_warp(as_stages(stages, 2)[0], moving.shape[1:3], fixed.shape[1:3])
    before, after = (
        ops.convert_to_numpy(x(moving, data_format="channels_last"))[0] for x in (start, warp)
    )
    drawing = output.with_name(f"{output.stem}-drawing.png")
    with replacing(output) as temporary:
        Image.fromarray(after).save(temporary)
    plots.save(plots.alignment(fixed[0], before, after), drawing)
    return [str(warp.report), *matrix_lines(warp), f"wrote {output} and {drawing}"]


def matrix_lines(warp):
    """The matrix from moving to fixed pixels, as `cv2.warpPerspective` takes it."""
    if warp.matrix is None:
        return []
    matrix = np.linalg.inv(ops.convert_to_numpy(warp.matrix)[0].astype("float64"))
    rows = np.array2string(matrix / matrix[2, 2], separator=", ", precision=8, suppress_small=True)
    return ["matrix from moving to fixed pixels, for cv2.warpPerspective:", rows]

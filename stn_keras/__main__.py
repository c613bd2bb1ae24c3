"""`python -m stn_keras`: exports saved models, applies them to pictures, and aligns pictures."""

import logging
import pathlib
import sys

from stn_keras.system.files import explain
from stn_keras.system.terminal import Parser, give_up, prepare, quiet

FEW = 100  # pictures; the ranges of int8 that fewer give may be too narrow
TRANSFORMS = (  # those of `register`
    "translation",
    "attention",
    "box",
    "rigid",
    "similarity",
    "affine",
    "projective",
    "thin_plate_spline",
    "displacement",
)
LOSSES = ("ecc", "mse", "lncc", "nmi")
FORMATS = ("saved_model", "litert", "onnx")  # those of `export.SUFFIXES`, which imports Keras


def main(arguments=None):
    """Runs the command and returns its exit status."""
    prepare()
    args = parse(arguments)
    try:
        load_keras()
        errors = args.command(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return give_up()
    except OSError as error:
        errors = [explain(error)]
    except ImportError as error:
        errors = [f"{error}; pip install {args.packages}" if error.name else error]
    except ValueError as error:
        errors = [error]
    for message in errors:
        print(f"stn_keras: {message}", file=sys.stderr)
    return 1 if errors else 0


def load_keras():
    """Imports what every command needs, without the messages of what is loaded with it."""
    with quiet():
        import keras
        from absl import logging as absl_logging

        keras.ops.zeros(())  # looks for GPUs
    absl_logging.set_verbosity(absl_logging.ERROR)  # the level that Keras's export returns to
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def export_model(args):
    from stn_keras import export
    from stn_keras.saved import load

    output = args.output or args.model.with_name(args.model.stem + export.SUFFIXES[args.format])
    model = load(args.model)
    examples = None if args.quantize is None else pictures_for(model, args.quantize)
    export.save(model, output, args.format, quantize=examples)
    print(output)
    return []


def pictures_for(model, folder):
    """The pictures of a folder, as the model takes them; prints how many there are."""
    from stn_keras.serving import inputs

    count = len(getattr(model, "inputs", None) or [])
    if count != 1:
        raise ValueError(
            "--quantize is for models of one input; in Python `stn_keras.export.save` takes "
            f"examples of several. Received: a model of {count} inputs"
        )
    images, skipped = inputs.read_folder(folder, model.inputs[0].shape)
    used = f"{len(images)} picture{'s'[: len(images) != 1]} of {folder}"
    print(f"Measuring the ranges on {used}; {skipped} skipped as unreadable", file=sys.stderr)
    if len(images) < FEW:
        print(f"Warning: {FEW} pictures or more give a better int8 model", file=sys.stderr)
    return images


def predict(args):
    from stn_keras import predict
    from stn_keras.data import pictures

    classifier = predict.load(args.model)
    sources: dict[pathlib.Path, list[pathlib.Path]] = {}
    for path in args.images:
        sources[path] = pictures.find(path) if path.is_dir() else [path]
    paths = list(dict.fromkeys(path for found in sources.values() for path in found))
    unreadable = {}
    for path, name in zip(paths, predict.drawing_names(paths), strict=True):
        try:
            print(predict.describe(classifier, path, args.output_dir, name), flush=True)
        except pictures.PictureError as error:
            unreadable[path] = error
    return list(complaints(sources, unreadable))


def align(args):
    from stn_keras.serving import align

    lines = align.align(args.moving, args.fixed, args.output, args.transform, args.loss)
    print(*lines, sep="\n")
    return []


def demo(args):
    from stn_keras.serving import demo

    demo.serve(args.models, args.port)
    return []


def complaints(sources, unreadable):
    """Of each picture named that can't be read, and of each folder without one that can."""
    for path, found in sources.items():
        if not path.is_dir():
            yield from (unreadable[path] for path in found if path in unreadable)
        elif all(path in unreadable for path in found):
            yield f"{path} has no picture that can be read; name another folder, or the pictures"


def parse(arguments):
    parser = Parser(prog="python -m stn_keras", description="Use saved models, and align pictures.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, function, help, packages="-r requirements.txt"):
        added = commands.add_parser(name, help=help)
        added.set_defaults(command=function, packages=packages)
        return added.add_argument

    add = command("export", export_model, "write a model for a runtime without Keras")
    add("model", type=pathlib.Path, help="a .keras file")
    add("--format", choices=FORMATS, required=True)
    add("--output", type=pathlib.Path, metavar="PATH", help="default: in the folder of the model")
    help = "LiteRT in int8; the folder holds pictures like those in use, a hundred or more"
    add("--quantize", type=pathlib.Path, metavar="FOLDER", help=help)

    add = command("predict", predict, "classify pictures and draw how they are warped")
    add("model", type=pathlib.Path, help="a .keras file")
    help = "a picture, or a folder: all pictures in it that can be read"
    add("images", type=pathlib.Path, nargs="+", metavar="IMAGE", help=help)
    help = "for the drawings of the warps; default: the current folder"
    add("--output-dir", type=pathlib.Path, metavar="FOLDER", default=pathlib.Path(), help=help)

    add = command("align", align, "align one picture with another")
    add("moving", type=pathlib.Path, metavar="MOVING", help="the picture that is warped")
    add("fixed", type=pathlib.Path, metavar="FIXED", help="the picture that it is aligned with")
    help = f"one or several of {', '.join(TRANSFORMS)}, the coarse ones first; default: affine"
    add("--transform", choices=TRANSFORMS, nargs="+", default=["affine"], metavar="NAME", help=help)
    add("--loss", choices=LOSSES, default="ecc", help="default: ecc")
    help = "of the aligned picture; a drawing is saved next to it; default: aligned.png"
    add("--output", type=pathlib.Path, default=pathlib.Path("aligned.png"), help=help)

    help = "open a local page: distort pictures and watch the warps"
    add = command("demo", demo, help, packages='".[demo]"')
    help = "a .keras file with spatial transformers; default: those in saved_models/"
    add("models", type=pathlib.Path, nargs="*", metavar="MODEL", help=help)
    add("--port", type=int, help="default: the first free one from 7860 on")
    args = parser.parse_args(arguments)
    if getattr(args, "quantize", None) and args.format != "litert":
        parser.error(f"--quantize is for --format litert, not {args.format}")
    return args


if __name__ == "__main__":
    sys.exit(main())

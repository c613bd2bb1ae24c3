"""`python -m stn_keras`: saved models, exported and asked about pictures."""

import argparse
import pathlib
import sys

from stn_keras.serving import export
from stn_keras.serving.saved import LoadError, load


def main(arguments=None):
    """Runs the command and returns its exit status."""
    args = parse(arguments)
    try:
        return args.command(args)
    except (LoadError, export.ExportError, OSError, ValueError) as error:
        print(f"stn_keras: {error}", file=sys.stderr)
        return 1


def export_model(args):
    output = args.output or args.model.with_name(args.model.stem + export.SUFFIXES[args.format])
    model = load(args.model)
    examples = None if args.quantize is None else pictures_for(model, args.quantize)
    export.save(model, output, args.format, quantize=examples)
    print(output)
    return 0


def pictures_for(model, folder):
    try:
        from stn_keras.serving import images
    except ImportError as error:
        raise ValueError(f"{error}; pip install -r requirements.txt") from error
    if len(model.inputs) != 1:
        raise ValueError(
            "--quantize takes a model of one input; `stn_keras.export.save` takes any, in Python. "
            f"Received: a model of {len(model.inputs)} inputs"
        )
    found, unreadable = images.read_folder(folder, model.inputs[0].shape)
    for reason in unreadable:
        print(f"stn_keras: {reason}", file=sys.stderr)
    return found


def predict(args):
    try:
        from stn_keras.data.pictures import PictureError
        from stn_keras.serving import predict
    except ImportError as error:
        raise ValueError(f"{error}; pip install -r requirements.txt") from error
    model = load(args.model)
    classes = predict.class_names(args.model, model.output_shape[-1])
    classifier = predict.Classifier(model, classes)
    if args.output_dir:
        names = [path.name for path in args.images]
        if len({*names}) < len(names):
            raise ValueError("--output-dir: two of the images have the same name")
        args.output_dir.mkdir(parents=True, exist_ok=True)
    status = 0
    for path in args.images:
        try:
            print(predict.describe(classifier, path, args.output_dir))
        except PictureError as error:
            print(f"stn_keras: {error}", file=sys.stderr)
            status = 1
    return status


def parse(arguments):
    parser = argparse.ArgumentParser(prog="python -m stn_keras", description="Use a saved model.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("export", help="write it for a runtime without Keras")
    command.set_defaults(command=export_model)
    command.add_argument("model", type=pathlib.Path, help="a .keras file")
    command.add_argument("--format", choices=export.SUFFIXES, required=True)
    command.add_argument(
        "--output", type=pathlib.Path, metavar="PATH", help="default: beside the model"
    )
    command.add_argument(
        "--quantize",
        type=pathlib.Path,
        metavar="FOLDER",
        help="LiteRT in int8; the folder holds pictures like those in use, a hundred or more",
    )

    command = commands.add_parser("predict", help="classes of images, and what it looks at there")
    command.set_defaults(command=predict)
    command.add_argument("model", type=pathlib.Path, help="a .keras file")
    command.add_argument("images", type=pathlib.Path, nargs="+", metavar="IMAGE")
    command.add_argument(
        "--output-dir",
        type=pathlib.Path,
        metavar="FOLDER",
        help="for the pictures of the warps; default: beside each image",
    )
    args = parser.parse_args(arguments)
    if getattr(args, "quantize", None) and args.format != "litert":
        parser.error(f"--quantize is for --format litert, not {args.format}")
    return args


if __name__ == "__main__":
    sys.exit(main())

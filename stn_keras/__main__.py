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
    export.save(load(args.model), output, args.format)
    print(output)
    return 0


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
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

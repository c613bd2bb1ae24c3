"""`python -m stn_keras`: saved models, exported."""

import argparse
import pathlib
import sys

from stn_keras import export
from stn_keras.saved import LoadError, load


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
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

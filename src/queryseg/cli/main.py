"""queryseg VERB …: one file per verb; heavy imports happen in the verb that was asked for."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from queryseg import __version__
from queryseg.errors import QuerysegError, UsageError
from queryseg.host_memory import keep_freed_memory
from queryseg.spelling import did_you_mean

VERBS = {
    "train": "train a recipe; --resume continues an interrupted run",
    "evaluate": "compare a run with labelled data sets, one or many",
    "diagnose": "what the queries of runs do: active, dead, overlapping, near which prototype, per domain",
    "predict": "segment images (a file, a folder, a glob) or video (a file, camera:0, rtsp://…)",
    "benchmark": "time, memory and FLOPs of runs, files and rivals, side by side, stage by stage",
    "export": "write a run as an ONNX, OpenVINO, TensorRT or torch.export file, compared with the run",
    "convert": "turn a published checkpoint of another code base into a run",
    "data": "check, generate or show a data set",
    "demo": "the whole path on generated streets, in minutes",
    "list": "what a recipe may name, seam by seam",
}


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence, with the nearest right option."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0] if "unrecognized" in message else None
        near = difflib.get_close_matches(unknown or "", self._option_string_actions, 1)
        hint = f" Did you mean {near[0]}?" if near else f" See `{self.prog} --help`."
        raise UsageError(f"{self.prog}: {message}.{hint}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line. Returns the exit code: 0, or 2 after one sentence about what is wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except QuerysegError as error:
        print(f"queryseg: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:  # training says how to go on
        print(f"queryseg: {interrupt}" if str(interrupt) else "queryseg: stopped.", file=sys.stderr)
        return 130


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        _print_verbs()
        return 0
    if words[0] == "--version":
        print(f"queryseg {__version__}")
        return 0
    verb = words[0]
    if verb not in VERBS:
        raise UsageError(f"There is no verb '{verb}'.{did_you_mean(verb, VERBS)}")
    module = importlib.import_module(f"queryseg.cli.{verb}")
    parser = Parser(prog=f"queryseg {verb}", description=module.__doc__, allow_abbrev=False)
    module.add_arguments(parser)
    parser.set_defaults(overrides=[])
    if getattr(module, "TAKES_OVERRIDES", False):
        options, overrides = parser.parse_known_args(words[1:])
        options.overrides = overrides
    else:
        options = parser.parse_args(words[1:])
    keep_freed_memory()
    return int(module.run(options))


def _print_verbs() -> None:
    print("usage: queryseg VERB …\n\nQuery-based segmentation beyond the training domain.\n")
    for verb, meaning in VERBS.items():
        print(f"  queryseg {verb:<10} {meaning}")
    print("\n`queryseg VERB --help` tells more. Every verb takes --json FILE for machines.")


if __name__ == "__main__":
    sys.exit(main())

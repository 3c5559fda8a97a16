"""The command line: related commands share a file, which is imported when one is called."""

from __future__ import annotations

import importlib
import threading
import warnings
from typing import Any, TextIO

import click

from caffe_port.errors import echo

_COMMANDS = {
    "convert": "Turn a Caffe model into a PyTorch file, or back.",
    "crf": "Refine a folder with the dense CRF, as DeepLab's programs do.",
    "crf_convert": "Convert the files of DeepLab's CRF programs.",
    "crf_grid": "Search the best settings of the dense CRF.",
    "demo": "Convert, verify and evaluate the bundled model; compare with Caffe.",
    "evaluate": "Score a model on VOC images, before and after the dense CRF.",
    "explore": "Look inside a model on a web page of this machine.",
    "finetune": "Train recipes with several seeds; compare them and published figures.",
    "inspect": "Show the content of a prototxt or a weight file.",
    "labels": "Convert and check label maps; list the known data sets.",
    "modernize": "Rewrite scripts for Python 2 and old numpy and SciPy.",
    "predict": "Segment photographs, folders and videos; with a gallery.",
    "prepare_voc": "Prepare VOC2012 and SBD as DeepLab's training data; check folders.",
    "pythonpath": "Print the folder in which other processes find `import caffe`.",
    "reproduce": "List the published figures, and reproduce those that are possible.",
    "score": "Score a folder of label maps, scores or probabilities.",
    "upgrade": "Write an old prototxt or caffemodel in Caffe's current format.",
    "unravel": "Show which points of an image caused its labels.",
    "verify": "Compare a converted net with Caffe, blob by blob.",
}
# command -> its file, if that has another name
_FILES = {
    "crf_convert": "crf",
    "crf_grid": "crf",
    "score": "evaluate",
    "reproduce": "finetune",
    "upgrade": "convert",
    "inspect": "convert",
    "pythonpath": "modernize",
}
UNUSABLE, INTERRUPTED = 2, 130  # exit status for a file or an option, and for Ctrl-C


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows only the message; the place in our code does not help the user."""
    echo(f"warning: {message}", err=True)


class _Commands(click.Group):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs or threading.current_thread() is not threading.main_thread():
            return super().__call__(*args, **kwargs)
        from caffe_port.start import run

        return run("caffe-port", self.main, status=UNUSABLE)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = cmd_name.replace("-", "_")
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"caffe_port.cli.{_FILES.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # from the table above, so that --help imports no command
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        from caffe_port.errors import CaffePortError, described, speaking
        from caffe_port.start import interrupt_reported

        try:
            with warnings.catch_warnings(), speaking("caffe-port"):
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click ends quietly when the reader of a pipe goes away
        except (CaffePortError, OSError) as error:
            message = described(error) if isinstance(error, OSError) else error
            echo(f"caffe-port {ctx.invoked_subcommand}: {message}", err=True)
            raise click.exceptions.Exit(UNUSABLE) from error
        except KeyboardInterrupt as error:
            report = str(error) or "interrupted"  # a command may say what is kept
            echo(f"\ncaffe-port {ctx.invoked_subcommand}: {report}", err=True)
            interrupt_reported(report)
            raise click.exceptions.Exit(INTERRUPTED) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="caffe_port")
@click.option(
    "--import", "imports", multiple=True, metavar="FILE_OR_MODULE",
    help="Import this first: Python code with layer types of your own; repeat for each.",
)  # fmt: skip
def main(imports: tuple[str, ...]) -> None:
    """Caffe's DeepLab and FCN models in PyTorch, verified against Caffe."""
    if imports:
        from caffe_port.spec.plugins import import_own

        import_own(imports)
